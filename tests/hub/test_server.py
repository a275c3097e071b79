"""The loopback Hub against the real clients: what it says is what huggingface.co would say."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.clients import in_this_process
from tests.hub.server import HubServer

# huggingface_hub uploads by an argument that httpx2 no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

WEIGHTS = random.Random(0).randbytes(300_000) + b"abcd" * 50_000
CARD = b"---\nlicense: mit\nbase_model:\n- org/a\n- org/b\nbase_model_relation: merge\ntags: [merge]\n---\n# M\n"
CONFIG = b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'
FILES = {"README.md": CARD, "config.json": CONFIG, "model.safetensors": WEIGHTS, "sub/deep/notes.txt": b"n"}


@pytest.fixture(params=[False, True], ids=["lfs", "xet"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path, xet=request.param) as server, in_this_process(server, tmp_path / "cache"):
        yield server


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path, part_bytes=100_000, page=2) as server, in_this_process(server, tmp_path / "cache"):
        yield server


def api(hub: HubServer, token: str | None = ""):
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=hub.token if token == "" else token or False)


def status_of(error: pytest.ExceptionInfo[BaseException]) -> int:
    return error.value.response.status_code


def test_a_snapshot_has_the_bytes_that_were_added(hub: HubServer) -> None:
    commit = hub.add("org/m", FILES)
    folder = Path(api(hub).snapshot_download("org/m"))
    assert folder.name == commit
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES


def test_the_token_goes_to_the_hub_and_never_to_the_other_origin(hub: HubServer) -> None:
    hub.add("org/m", FILES, private=True)
    api(hub).snapshot_download("org/m")
    assert {r.token for r in hub.requests if r.origin == "hub"} == {hub.token}
    elsewhere = [r for r in hub.requests if r.origin == "cdn"]
    assert elsewhere and hub.token not in str([(r.path, r.headers) for r in elsewhere])


def test_a_model_is_described_by_its_card_and_its_files(hub: HubServer) -> None:
    commit = hub.add("org/m", FILES, gated=True)
    known = api(hub).model_info("org/m", files_metadata=True)
    assert (known.sha, known.gated, known.private) == (commit, "manual", False)
    assert known.card_data.base_model == ["org/a", "org/b"]
    assert {"license:mit", "base_model:merge:org/a", "merge"} <= set(known.tags)
    sizes = {file.rfilename: (file.size, file.lfs and file.lfs.size) for file in known.siblings}
    assert sizes["model.safetensors"] == (len(WEIGHTS), len(WEIGHTS)) and sizes["config.json"] == (len(CONFIG), None)
    expanded = api(hub).model_info("org/m", expand=["gated", "baseModels", "config"])
    assert expanded.base_models["relation"] == "merge" and expanded.config["model_type"] == "llama"
    assert expanded.siblings is None


def test_trees_come_in_pages_with_large_files_marked(plain: HubServer) -> None:
    plain.add("org/m", FILES)
    entries = {entry.path: entry for entry in api(plain).list_repo_tree("org/m", recursive=True)}
    assert set(entries) == {*FILES, "sub", "sub/deep"}
    assert entries["model.safetensors"].lfs.size == len(WEIGHTS) and entries["config.json"].lfs is None
    assert [entry.path for entry in api(plain).list_repo_tree("org/m", "sub")] == ["sub/deep"]
    assert len([r for r in plain.requests if "/tree/" in r.path]) == 4
    assert [entry.path for entry in api(plain).get_paths_info("org/m", ["config.json", "nowhere"])] == ["config.json"]


def test_trees_of_a_hub_with_xet_have_its_hashes(tmp_path: Path) -> None:
    with HubServer(tmp_path, xet=True) as hub:
        hub.add("org/m", FILES)
        entries = {entry.path: entry for entry in api(hub).list_repo_tree("org/m")}
        hf_xet = pytest.importorskip("hf_xet")
        (tmp_path / "w").write_bytes(WEIGHTS)
        assert entries["model.safetensors"].xet_hash == hf_xet.hash_files([str(tmp_path / "w")])[0].hash
        assert entries["config.json"].xet_hash is None


def test_revisions_are_branches_tags_pull_requests_and_commits(plain: HubServer) -> None:
    first = plain.add("org/m", {"a.txt": b"1"})
    second = plain.add("org/m", {"a.txt": b"2"})
    hf = api(plain)
    hf.create_branch("org/m", branch="old", revision=first)
    hf.create_tag("org/m", tag="v1", revision=second)
    assert [hf.resolve_revision("org/m", revision=r).resolved for r in ("main", "old", "v1", first)] == [
        second,
        first,
        second,
        first,
    ]
    assert [commit.commit_id for commit in hf.list_repo_commits("org/m")] == [second, first]
    refs = hf.list_repo_refs("org/m", include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "old"] and refs.tags[0].target_commit == second
    hf.delete_branch("org/m", branch="old")
    with pytest.raises(Exception, match="Revision Not Found"):
        hf.model_info("org/m", revision="old")


def test_headers_of_safetensors_are_read_by_ranges(hub: HubServer) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [50_000], "data_offsets": [0, 200_000]}}).encode()
    hub.add("org/m", {"model.safetensors": struct.pack("<Q", len(header)) + header + WEIGHTS[:200_000]})
    found = api(hub).get_safetensors_metadata("org/m").files_metadata["model.safetensors"]
    assert found.tensors["w"].shape == [50_000]
    assert [(r.status, r.served) for r in hub.requests if r.origin == "cdn"] == [(206, 100_001)]


def test_what_is_missing_is_missing_in_the_words_of_the_hub(plain: HubServer) -> None:
    from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    commit = plain.add("org/m", {"a.txt": b"1"})
    with pytest.raises(RepositoryNotFoundError):
        api(plain).model_info("org/nothing")
    with pytest.raises(RevisionNotFoundError):
        api(plain).hf_hub_download("org/m", "a.txt", revision="nothing")
    with pytest.raises(RemoteEntryNotFoundError) as error:
        api(plain).hf_hub_download("org/m", "b.txt")
    assert error.value.response.headers["X-Repo-Commit"] == commit


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("stranger_token", 404)])
def test_a_private_repository_is_hidden_from_others(plain: HubServer, token: str | None, status: int) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    plain.add("org/m", {"a.txt": b"1"}, private=True)
    with pytest.raises(RepositoryNotFoundError) as error:
        api(plain, token and getattr(plain, token)).hf_hub_download("org/m", "a.txt")
    assert status_of(error) == status
    assert api(plain, plain.read_token).model_info("org/m").private


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("token", 403)])
def test_a_gate_opens_for_those_who_were_granted_access(plain: HubServer, token: str | None, status: int) -> None:
    from huggingface_hub.errors import GatedRepoError

    plain.add("org/m", {"a.txt": b"1"}, gated=True)
    client = api(plain, token and getattr(plain, token))
    assert client.model_info("org/m").gated == "manual"
    with pytest.raises(GatedRepoError) as error:
        client.hf_hub_download("org/m", "a.txt")
    assert status_of(error) == status
    plain.grant("org/m")
    assert Path(api(plain).hf_hub_download("org/m", "a.txt")).read_bytes() == b"1"


def test_an_unknown_token_is_refused_even_for_public_files(plain: HubServer) -> None:
    plain.add("org/m", {"a.txt": b"1"})
    with pytest.raises(Exception, match="Invalid credentials") as error:
        api(plain, "hf_" + "x" * 34).model_info("org/m")
    assert status_of(error) == 401
    assert api(plain).whoami()["auth"]["accessToken"]["role"] == "write"


def test_search_finds_what_this_user_may_see(plain: HubServer) -> None:
    for name in ("org/llama-a", "org/llama-b", "org/gpt", "other/llama-c"):
        plain.add(name, {"README.md": CARD}, private=name.endswith("b"))
    assert [m.id for m in api(plain).list_models(search="llama", author="org")] == ["org/llama-a", "org/llama-b"]
    assert [m.id for m in api(plain, None).list_models(search="llama", filter="license:mit")] == [
        "org/llama-a",
        "other/llama-c",
    ]


def test_a_process_of_its_own_needs_only_the_environment(hub: HubServer) -> None:
    hub.add("org/m", FILES)
    code = (
        "import sys; from huggingface_hub import HfApi; from pathlib import Path; api = HfApi()\n"
        "path = Path(api.hf_hub_download('org/m', 'model.safetensors')); print(path)\n"
        "api.create_repo('org/n'); api.upload_file(path_or_fileobj=path, path_in_repo='x.bin', repo_id='org/n')\n"
    )
    environment = {**os.environ, **hub.environment()}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert str(hub.folder) in ran.stdout
    assert hub.contents("org/n")["x.bin"] == WEIGHTS


def test_a_file_that_repeats_itself_comes_back_whole_from_xet(tmp_path: Path) -> None:
    part = random.Random(1).randbytes(300_000)
    content = part * 3 + random.Random(2).randbytes(100_000) + part + part[:150_000]
    with HubServer(tmp_path, xet=True) as hub:
        hub.add("tester/repeated", {"model.safetensors": content})
        assert hub.contents("tester/repeated") == {"model.safetensors": content}
