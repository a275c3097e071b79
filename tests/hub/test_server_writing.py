"""The loopback Hub takes what the real clients send, by LFS and by Xet."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.clients import in_this_process
from tests.hub.server import HubServer
from tests.hub.test_server import CARD, CONFIG, WEIGHTS, api, status_of

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

NEW = {".gitattributes"}  # what a new repository holds


@pytest.fixture(params=[False, True], ids=["lfs", "xet"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path, xet=request.param) as server, in_this_process(server, tmp_path / "cache"):
        yield server


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path, part_bytes=100_000) as server, in_this_process(server, tmp_path / "cache"):
        yield server


def additions(**files: bytes | Path):
    from huggingface_hub import CommitOperationAdd

    return [CommitOperationAdd(name.replace("_", "."), content) for name, content in files.items()]


def commit(hub: HubServer, name: str = "org/n", **options: object):
    files = options.pop("files", {"a_txt": b"1"})
    return api(hub).create_commit(name, additions(**files), commit_message="m", **options)


def test_a_folder_goes_up_and_comes_down_the_same(hub: HubServer, tmp_path: Path) -> None:
    files = {"README.md": CARD, "config.json": CONFIG, "model.safetensors": WEIGHTS, "sub/empty.bin": b""}
    for path, content in files.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(content)
    api(hub).create_repo("org/n", private=True)
    made = api(hub).upload_folder(repo_id="org/n", folder_path=tmp_path / "up")
    assert made.oid == hub.head("org/n")
    assert {path: hub.contents("org/n")[path] for path in files} == files
    down = Path(api(hub).snapshot_download("org/n"))
    assert {path: (down / path).read_bytes() for path in files} == files
    assert not api(hub).verify_repo_checksums("org/n", local_dir=down).mismatches


def test_large_files_may_go_up_before_the_commit_and_only_once(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS)
    api(hub).create_repo("org/n")
    files = additions(model_safetensors=tmp_path / "w.bin", config_json=CONFIG)
    api(hub).preupload_lfs_files("org/n", files)
    assert set(hub.contents("org/n")) == NEW
    sent = sum(r.received for r in hub.requests if r.origin == "cdn")
    api(hub).create_commit("org/n", files, commit_message="m", parent_commit=hub.head("org/n"))
    api(hub).create_commit("org/n", additions(copy_bin=WEIGHTS), commit_message="again")
    again = sum(r.received for r in hub.requests if r.origin == "cdn") - sent
    assert hub.contents("org/n")["model.safetensors"] == hub.contents("org/n")["copy.bin"] == WEIGHTS
    assert sent > 300_000 and again < 2_000


def test_uploads_over_the_limit_go_in_parts(plain: HubServer) -> None:
    api(plain).create_repo("org/n")
    commit(plain, files={"model_safetensors": WEIGHTS})
    parts = [r for r in plain.requests if r.method == "PUT"]
    assert [r.received for r in parts] == [100_000] * 5 and {r.token for r in parts} == {None}
    assert plain.contents("org/n")["model.safetensors"] == WEIGHTS


def test_a_process_streams_into_xet_while_this_one_reads(tmp_path: Path) -> None:
    code = (
        "import hf_xet, sys; address, token = sys.argv[1:]\n"
        "commit = hf_xet.XetSession().new_upload_commit(endpoint=address, token=token, token_expiry_unix_secs=2**40)\n"
        "stream = commit.start_upload_stream(name='w', sha256=hf_xet.COMPUTE_SHA256)\n"
        "stream.write(sys.stdin.buffer.read()); print(stream.finish().xet_info.sha256, flush=True)\n"
        "commit.wait_to_finish()\n"
    )
    with HubServer(tmp_path, xet=True) as hub, in_this_process(hub, tmp_path / "cache"):
        hub.add("org/m", {"model.safetensors": WEIGHTS[::-1]})
        headers = api(hub)._build_hf_headers()
        from huggingface_hub.utils import get_session

        answer = get_session().get(f"{hub.endpoint}/api/models/org/m/xet-write-token/main", headers=headers).headers
        run = [sys.executable, "-c", code, answer["X-Xet-Cas-Url"], answer["X-Xet-Access-Token"]]
        environment = {**os.environ, **hub.environment()}
        with subprocess.Popen(run, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as streaming:
            assert hub.contents("org/m")["model.safetensors"] == WEIGHTS[::-1]
            sha256 = streaming.communicate(WEIGHTS)[0].decode().strip()
        assert streaming.returncode == 0 and sha256 == hashlib.sha256(WEIGHTS).hexdigest()
        assert hub.state.xet.by_sha256[sha256].size == len(WEIGHTS)


def test_a_repository_is_made_once_with_an_address_to_tell(plain: HubServer) -> None:
    assert str(api(plain).create_repo("org/n", private=True)) == f"{plain.endpoint}/org/n"
    assert api(plain).model_info("org/n").private
    with pytest.raises(Exception, match="409") as error:
        api(plain).create_repo("org/n")
    assert status_of(error) == 409
    assert api(plain).create_repo("org/n", exist_ok=True).repo_id == "org/n"
    assert api(plain).create_repo("mine").repo_id == "tester/mine"
    api(plain).delete_repo("org/n")
    assert not api(plain).repo_exists("org/n")


@pytest.mark.parametrize("token", ["read_token", "stranger_token"])
def test_who_may_not_write_is_told_403(plain: HubServer, token: str) -> None:
    plain.add("org/m", {"a.txt": b"1"})
    client = api(plain, getattr(plain, token))
    with pytest.raises(Exception, match="403") as error:
        client.create_repo("org/new")
    assert status_of(error) == 403
    with pytest.raises(Exception, match="403") as error:
        client.create_commit("org/m", additions(b_txt=b"2"), commit_message="m")
    assert status_of(error) == 403


def test_a_commit_on_a_parent_that_has_moved_is_refused(plain: HubServer) -> None:
    first = plain.add("org/n", {"a.txt": b"1"})
    plain.add("org/n", {"b.txt": b"2"})
    with pytest.raises(Exception, match="A commit has happened since") as error:
        commit(plain, files={"c_txt": b"3"}, parent_commit=first)
    assert status_of(error) == 412
    assert set(plain.contents("org/n")) == {"a.txt", "b.txt"}


def test_a_pull_request_leaves_main_alone_until_it_is_merged(hub: HubServer) -> None:
    hub.add("org/n", {"a.txt": b"1"})
    made = commit(hub, files={"b_bin": WEIGHTS}, create_pr=True)
    assert made.pr_revision == "refs/pr/1" and set(hub.contents("org/n")) == {"a.txt"}
    commit(hub, files={"c_txt": b"3"}, revision="refs/pr/1")
    assert set(hub.contents("org/n", "refs/pr/1")) == {"a.txt", "b.bin", "c.txt"}
    hub.add("org/n", {"d.txt": b"4"})
    api(hub).merge_pull_request("org/n", 1)
    assert set(hub.contents("org/n")) == {"a.txt", "b.bin", "c.txt", "d.txt"}
    assert api(hub).get_discussion_details("org/n", 1).num == 1


def test_files_and_folders_are_deleted_and_nothing_else(plain: HubServer) -> None:
    plain.add("org/n", {"a.txt": b"1", "sub/b.txt": b"2", "subway.txt": b"3"})
    api(plain).delete_folder("sub", "org/n")
    assert set(plain.contents("org/n")) == {"a.txt", "subway.txt"}
    with pytest.raises(Exception, match="doesn't exist"):
        api(plain).delete_file("nothing.txt", "org/n")


def test_a_commit_cannot_name_a_large_file_that_never_came(hub: HubServer) -> None:
    api(hub).create_repo("org/n")
    files = additions(model_safetensors=WEIGHTS)
    files[0]._upload_mode, files[0]._is_uploaded, files[0]._should_ignore = "lfs", True, False
    with pytest.raises(Exception, match="does not exist") as error:
        api(hub).create_commit("org/n", files, commit_message="m")
    assert status_of(error) == 400 and set(hub.contents("org/n")) == NEW


def test_a_card_that_is_no_yaml_is_refused_before_anything_is_sent(plain: HubServer) -> None:
    api(plain).create_repo("org/n")
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(plain, files={"README_md": b"---\ntags: [a\n---\n"})
    with pytest.raises(ValueError, match="license"):
        commit(plain, files={"README_md": b"---\nlicense: 3\n---\n"})
    assert set(plain.contents("org/n")) == NEW


def test_a_hub_without_xet_refuses_its_tokens(plain: HubServer) -> None:
    from huggingface_hub import constants

    api(plain).create_repo("org/n")
    constants.HF_HUB_DISABLE_XET = False
    with pytest.raises(ConnectionError):
        commit(plain, files={"model_safetensors": WEIGHTS})
    constants.HF_HUB_DISABLE_XET = True
    commit(plain, files={"model_safetensors": WEIGHTS})
    assert plain.contents("org/n")["model.safetensors"] == WEIGHTS
