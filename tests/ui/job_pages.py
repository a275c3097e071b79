"""Jobs for tests of their page: folders written by hand in any state, and the page as it is read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from merging import Job, Jobs
from merging.jobs.state import State, beginning

UI = Path(__file__).parent.parent.parent / "ui"
RECIPE = "merge_method: linear\nmodels:\n- model: one\n- model: two\n"
HALF = {"tensors": 800, "tensors_done": 300, "total_read_bytes": 8_000_000_000, "total_written_bytes": 2_000_000_000}
HALF |= {"read_bytes": 4_000_000_000, "written_bytes": 1_000_000_000, "seconds": 10.0, "pass": "merge"}


def by_hand(jobs: Jobs, state: str, id: str = "20261125-120000-abc", **fields: Any) -> Job:
    """A job's folder in any state; one that waits or runs is in the hands of this very process."""
    folder = jobs.root / id
    folder.mkdir(parents=True)
    number = len(jobs.all())
    kind = fields.pop("kind", "merge")
    job = {"number": number, "kind": kind, "name": fields.pop("name", ""), "out": str(folder / "out" / f"merged-{id}")}
    job |= {"command": ["merging", "run", str(folder / "recipe.yaml")], "created": "2026-11-25T12:00:00+00:00"}
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "recipe.yaml").write_text(RECIPE)
    alive = {"pid": os.getpid(), "began": beginning(os.getpid()) or ""}
    worker = {"running": alive, "waiting": alive, "lost": {"pid": os.getpid(), "began": "another process"}}
    State("running" if state == "lost" else state, number, **worker.get(state, {}), **fields).write(folder)
    return jobs.find(id)


def page_of(job: Job | None = None, tab: str = "") -> AppTest:
    page = AppTest.from_file(str(UI / "views" / "jobs.py"), default_timeout=120)
    if job is not None:
        page.query_params["job"] = job.id
        if tab:
            page.session_state[f"jobs_tabs_{job.kind}"] = tab
    return page.run()


def texts(page: AppTest) -> str:
    """All that the page says, as it is read."""
    assert not page.exception
    found = [*page.title, *page.subheader, *page.caption, *page.markdown, *page.info, *page.error, *page.code]
    return "\n".join(re.sub(r"\\(.)", r"\1", str(each.value)) for each in found)


def labels(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def records(page: AppTest, position: int) -> list[dict[str, Any]]:
    return list(page.dataframe[position].value.to_dict("records"))


def points() -> list[dict[str, Any]]:
    found = []
    for i, (a, b) in enumerate([(0.0, 1), (0.0, 2), (1.0, 1), (1.0, 2)]):
        scores = {"x": 0.2 * i, "y": 0.5}
        found.append(
            {
                "point": i,
                "values": {"lambda": a, "density": b},
                "scores": scores,
                "mean": 0.1 * i + 0.25,
                "seconds": 1.0,
            }
        )
    return [*found[:3], {**found[3], "scores": {}, "mean": None, "error": "it broke"}]
