"""What a browser's session holds on the server: choices and drafts, never models."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

VIEWS = Path(__file__).parents[2] / "ui" / "views"

LARGEST_BYTES = 8192
PLAIN = (type(None), bool, int, float, str, bytes)


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(is_plain(each) for item in value.items() for each in item)
    if isinstance(value, list | tuple | set):
        return all(map(is_plain, value))
    return isinstance(value, PLAIN)


@pytest.mark.parametrize("name", sorted(view.stem for view in VIEWS.glob("[a-z]*.py")))
def test_a_session_holds_a_few_kilobytes_of_plain_values(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGING_HOME", str(tmp_path))
    page = AppTest.from_file(str(VIEWS / f"{name}.py"), default_timeout=120).run()
    assert not page.exception
    held = page.session_state.to_dict()
    assert all(map(is_plain, held.values())), {key: value for key, value in held.items() if not is_plain(value)}
    assert len(pickle.dumps(held)) < LARGEST_BYTES
