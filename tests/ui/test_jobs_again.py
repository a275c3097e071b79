"""A finished sweep run again from the Jobs page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from merging import Jobs
from tests.jobs.places import many_tensors, over, root_at
from tests.ui.job_pages import UI, texts


def test_a_sweep_is_queued_again_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "score.py"
    script.write_text("print(0.5)\n")
    monkeypatch.setenv("MERGING_UI_ROOTS", str(tmp_path))
    with root_at(tmp_path / "home") as jobs:
        recipe = many_tensors(tmp_path / "models", 4)
        score = f"{sys.executable} {script} {{folder}}"
        first = jobs.submit_sweep(recipe, {"lambda": [0.5, 1.0]}, score=score, name="grid")
        assert over(first) == "done"
        page = AppTest.from_file(str(UI / "views" / "jobs.py"), default_timeout=60)
        page.query_params["job"] = first.id
        page.run()
        page.button(key="jobs_sweep_again").click().run()
        again, _ = Jobs().all()
        assert again.kind == "sweep" and over(again) == "done"
        assert page.run().query_params["job"] == again.id
        assert [row["values"] for row in again.points()] == [{"lambda": 0.5}, {"lambda": 1.0}]
        assert not page.exception and "sweep of task" in texts(page)
