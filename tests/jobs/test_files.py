"""Files of a job in whatever state a crash or a full disk has left them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.jobs.files import Lines, lines_from, read_json, read_lines, replace_json, without_tokens


def test_a_file_without_room_for_a_second_one_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.json"
    replace_json(file, {"state": "running", "padding": "x" * 500})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    replace_json(file, {"state": "done"})
    assert read_json(file) == {"state": "done"}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_half_an_object_is_none(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    for content in (b"", b'{"state": "run', b"[1]", b"\xff\xfe", b"null"):
        file.write_bytes(content)
        assert read_json(file) is None
    assert read_json(tmp_path / "missing.json") is None


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=30), st.integers(0, 12))
def test_the_last_lines_are_the_end_of_all_lines(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, int]], last: int
) -> None:
    file = tmp_path_factory.mktemp("lines") / "events.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert read_lines(file) == entries
    assert read_lines(file, last) == entries[max(0, len(entries) - last) :]


def test_a_file_of_many_blocks_is_read_from_its_end(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(f'{{"n": {i}, "padding": "{"x" * 200}"}}\n' for i in range(2000)))
    assert [entry["n"] for entry in read_lines(file, 700)] == list(range(1300, 2000))


def test_a_torn_line_spoils_neither_the_lines_before_nor_the_next_writers(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"n": 1}\n{"n": 2, "te')
    assert read_lines(file) == read_lines(file, 5) == [{"n": 1}]
    lines = Lines(file)
    lines.add({"n": 3})
    lines.close()
    assert read_lines(file) == [{"n": 1}, {"n": 3}]


def test_lines_are_followed_from_where_one_stopped_and_half_ones_wait(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert lines_from(file, 0) == ([], 0)
    file.write_bytes(b'{"n": 1}\n{"n"')
    found, place = lines_from(file, 0)
    assert found == [{"n": 1}]
    with file.open("ab") as opened:
        opened.write(b": 2}\n")
    assert lines_from(file, place)[0] == [{"n": 2}]


def test_a_full_disk_costs_lines_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    lines = Lines(tmp_path / "events.jsonl")
    lines.add({"n": 1})
    lines.close()
    assert lines.lost == 1


def test_tokens_are_known_by_their_look_and_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct horse battery")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    text = "Bearer hf_AbCdEfGh1234 and correct horse battery; hf_model stays, a stays"
    assert without_tokens(text) == "Bearer [token] and [token]; hf_model stays, a stays"
