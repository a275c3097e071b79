"""A finished merge on the Hub: exactly its files, nobody's text overwritten, once, and the same bytes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from threading import Event

import pytest

from merging.errors import HubError, HubWarning, MergingError, OutputError
from merging.hub.names import HubName
from merging.hub.pull import pull
from merging.publish.outlook import Outlook
from merging.publish.push import Sending, push
from tests.hub.server import Fault, HubServer
from tests.publish.loopback import (
    NAME,
    commits,
    either,
    hub_of,
    merged,
    outlook_of,
    plain,
    require_nothing_new,
    uploaded,
    xet,
)

__all__ = ["either", "merged", "plain", "xet"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

HUMAN = "---\nlicense: mit\n---\n\n# My model\n\nWritten by hand.\n"


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_what_is_pushed_is_pulled_byte_by_byte(either: HubServer, merged: Path, tmp_path: Path) -> None:
    hub = hub_of(either)
    made = push(merged, NAME, hub=hub)
    back = pull(hub, hub.pin(HubName(NAME)), tmp_path / "back")
    assert len(weights(merged)) == 2
    assert weights(back) == weights(merged)
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
        assert (back / name).read_bytes() == (merged / name).read_bytes()
    assert made.commit == either.head(NAME)
    assert commits(either) == 1
    assert either.state.repositories[NAME].private


def test_exactly_the_files_of_the_merge_are_published(plain: HubServer, merged: Path) -> None:
    found = outlook_of(plain, merged)
    assert found.manifest.left_out == ("notes.txt",)
    push(merged, NAME, hub=hub_of(plain))
    held = set(plain.contents(NAME)) - {".gitattributes"}
    assert held == {entry.path for entry in found.manifest.entries}
    assert {"README.md", "merging.json", "merging-ledger.jsonl", "config.json"} <= held
    assert "notes.txt" not in held


def test_a_dry_run_tells_all_and_touches_nothing(plain: HubServer, merged: Path) -> None:
    found = outlook_of(plain, merged)
    assert found.is_new
    assert found.private
    assert found.card.startswith("---\n")
    assert found.manifest.nbytes > sum(map(len, weights(merged).values()))
    assert NAME not in plain.state.repositories
    head = plain.add(NAME, {"README.md": HUMAN.encode(), "data.csv": b"1"}, private=False)
    found = outlook_of(plain, merged, branch="try")
    assert (found.is_new, found.private, found.parent) == (False, False, head)
    assert "data.csv" in found.kept
    assert any("is public, and stays so" in notice for notice in found.notices)
    assert list(plain.state.repositories[NAME].branches) == ["main"]
    assert {request.method for request in plain.requests} <= {"GET", "HEAD"}


def test_a_readme_that_a_person_wrote_keeps_every_letter(plain: HubServer, merged: Path) -> None:
    plain.add(NAME, {"README.md": HUMAN.encode()})
    push(merged, NAME, hub=hub_of(plain))
    held = plain.contents(NAME)
    assert held["README.md"].decode().endswith("\n# My model\n\nWritten by hand.\n")
    assert b"license: mit" in held["README.md"]
    assert b"merging:card begin" in held["MERGE.md"]
    before = held["README.md"]
    assert push(merged, NAME, hub=hub_of(plain)).commit == plain.head(NAME)
    assert plain.contents(NAME)["README.md"] == before


def test_texts_of_persons_that_are_in_the_way_stop_the_push(plain: HubServer, merged: Path) -> None:
    plain.add(NAME, {"README.md": HUMAN.encode(), "MERGE.md": b"How we merged: by hand.\n"})
    with pytest.raises(HubError, match=r"MERGE\.md of the repository was not written by merging"):
        push(merged, NAME, hub=hub_of(plain))
    plain.add(NAME, {"README.md": b"\xff\xfe\x00"})
    with pytest.raises(HubError, match=r"README\.md of .* cannot be read"):
        push(merged, NAME, hub=hub_of(plain))
    assert commits(plain) == 0


@pytest.mark.parametrize("old", ["model.safetensors", "pytorch_model-00001-of-00002.bin", "adapter_config.json"])
def test_weights_of_another_model_are_deleted_only_if_asked(plain: HubServer, merged: Path, old: str) -> None:
    head = plain.add(NAME, {old: b"old", "data.csv": b"1", "sub/model.safetensors": b"2", "training_args.bin": b"3"})
    with pytest.raises(HubError, match="weights of another model") as told:
        push(merged, NAME, hub=hub_of(plain))
    assert told.value.where == old
    assert plain.head(NAME) == head
    assert uploaded(plain) == 0
    found = outlook_of(plain, merged, replace=True)
    assert found.stale == (old,)
    assert set(found.kept) == {"data.csv", "sub/model.safetensors", "training_args.bin"}
    push(merged, NAME, replace=True, hub=hub_of(plain))
    held = plain.contents(NAME)
    assert old not in held
    assert {"data.csv", "sub/model.safetensors", "training_args.bin"} <= set(held)
    assert commits(plain) == 1


def test_the_same_merge_again_sends_nothing_and_commits_nothing(either: HubServer, merged: Path) -> None:
    require_nothing_new(either, merged)


def test_a_push_that_broke_goes_on_where_it_was(plain: HubServer, merged: Path) -> None:
    plain.fail(Fault("PUT", "/upload/", skip=1, times=99, status=403))
    with pytest.raises(HubError) as told:
        push(merged, NAME, hub=hub_of(plain))
    assert f"{NAME} has been made and stays" in (told.value.fix or "")
    assert commits(plain) == 0
    plain.mend()
    seen: list[Outlook | Sending] = []
    push(merged, NAME, hub=hub_of(plain), watch=seen.append)
    files = {event.path: event.held for event in seen if isinstance(event, Sending)}
    assert sorted(files.values()) == [False, True]
    puts = [request.path for request in plain.requests if request.method == "PUT" and request.status == 200]
    assert len(puts) == len(set(puts)) == 2
    assert {name: plain.contents(NAME)[name] for name in weights(merged)} == weights(merged)


def test_a_program_that_was_killed_while_sending_is_run_again(plain: HubServer, merged: Path) -> None:
    hold = Event()
    second = sha256(sorted(merged.glob("*.safetensors"))[1].read_bytes()).hexdigest()
    plain.fail(Fault("PUT", second, hold=hold))
    line = ["-c", "import sys; from merging.publish.push import push; push(sys.argv[1], sys.argv[2])", merged, NAME]
    environment = {**os.environ, **plain.environment()}
    child = subprocess.Popen([sys.executable, *map(str, line)], env=environment)
    plain.wait_for("PUT", second)
    plain.wait_for("POST", "objects/verify")
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    hold.set()
    assert set(plain.contents(NAME)) == {".gitattributes"}
    seen: list[Outlook | Sending] = []
    made = push(merged, NAME, hub=hub_of(plain), watch=seen.append)
    assert any(event.held for event in seen if isinstance(event, Sending))
    assert made.commit == plain.head(NAME)
    assert {name: plain.contents(NAME)[name] for name in weights(merged)} == weights(merged)


def test_by_xet_a_second_try_sends_no_content_twice(xet: HubServer, merged: Path) -> None:
    xet.fail(Fault("POST", f"{NAME}/commit/", times=99, status=403))
    with pytest.raises(HubError, match="may not"):
        push(merged, NAME, hub=hub_of(xet))
    xet.mend()
    before = uploaded(xet)
    push(merged, NAME, hub=hub_of(xet))
    assert uploaded(xet) - before < before / 20
    assert {name: xet.contents(NAME)[name] for name in weights(merged)} == weights(merged)


@pytest.mark.parametrize("where", ["xet-write-token", "/xorbs/"])
def test_where_xet_fails_the_push_goes_on_without_it_and_says_so_once(xet: HubServer, merged: Path, where: str) -> None:
    xet.fail(Fault("", where, times=999, status=403))
    with pytest.warns(HubWarning, match="going on without it") as told:
        push(merged, NAME, hub=hub_of(xet))
    assert len([each for each in told if each.category is HubWarning]) == 1
    assert {name: xet.contents(NAME)[name] for name in weights(merged)} == weights(merged)


def test_an_answer_lost_after_the_commit_is_success(plain: HubServer, merged: Path) -> None:
    plain.fail(Fault("POST", f"{NAME}/commit/", drop="after"))
    assert push(merged, NAME, hub=hub_of(plain)).commit == plain.head(NAME)
    assert commits(plain) == 1


def test_a_file_that_changes_while_it_is_pushed_is_not_published(plain: HubServer, merged: Path) -> None:
    plain.add(NAME, {"old.txt": b"old"})
    first = sorted(merged.glob("*.safetensors"))[0]

    def meddle(event: Outlook | Sending) -> None:
        if isinstance(event, Sending) and event.done == 0 and event.path == first.name:
            content = bytearray(first.read_bytes())
            content[-1] ^= 1
            first.write_bytes(content)

    with pytest.raises(OutputError, match="has changed"):
        push(merged, NAME, hub=hub_of(plain), watch=meddle)
    assert commits(plain) == 0


def test_an_unfinished_merge_is_refused_before_the_hub_is_asked(plain: HubServer, merged: Path) -> None:
    sorted(merged.glob("*.safetensors"))[0].unlink()
    with pytest.raises(MergingError, match="missing"):
        push(merged, NAME, hub=hub_of(plain))
    assert plain.requests == []


def test_a_branch_may_be_named_with_the_repository(plain: HubServer, merged: Path) -> None:
    head = plain.add(NAME, {"old.txt": b"old"})
    made = push(merged, f"{NAME}@try", hub=hub_of(plain))
    assert (plain.head(NAME), plain.head(NAME, "try")) == (head, made.commit)


def test_gated_private_and_clashing_sources_are_named_before_anything_is_sent(plain: HubServer, merged: Path) -> None:
    record = json.loads((merged / "merging.json").read_text())
    told = [
        {"license": "mit", "gated": True, "private": False},
        {"license": "cc-by-nc-4.0", "gated": False, "private": True},
    ]
    record["parents"] = [
        {"repository": f"ada/m{i}", "commit": f"{i}" * 40, "revision": "main", "integrity": None, **each}
        for i, each in enumerate(told)
    ]
    for i, model in enumerate(record["models"][:2]):
        model |= {"source": f"ada/m{i}", "repository": f"ada/m{i}", "commit": f"{i}" * 40}
    for i, entry in enumerate(record["recipe"]["models"]):
        entry["model"] = f"ada/m{i}"
    for i, model in enumerate(record["models"]):
        model["source"] = f"ada/m{i}" if i < 2 else model["source"]
    (merged / "merging.json").write_text(json.dumps(record))
    notices = "\n".join(outlook_of(plain, merged).notices)
    assert "gated" in notices
    assert "private" in notices
    assert "cc-by-nc-4.0" in notices
    assert {request.method for request in plain.requests} == {"GET"}
