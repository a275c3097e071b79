"""Pictures of every page, light and dark, as a person with the bundled models sees them: `make screenshots`.

python -m tests.ui.screenshots docs/screenshots
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.ui.browser import settled
from tests.ui.conftest import BROWSERS, Workbench, started, stop

PAGES = ("explore", "compose", "jobs", "diagnose", "browse")
# The first page is at the bare address.
ADDRESSES = {"explore": ""}
SIZE = {"width": 1440, "height": 1320}


def main(folder: Path) -> None:
    """Start a workbench with one finished job, look at every page in both schemes."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, BROWSERS))),
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        bench = started(Path(scratch))
        try:
            job = _finished_job(bench)
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport=SIZE, color_scheme=scheme)
                for name in PAGES:
                    _picture(page, bench, name, job, folder / f"{name}-{scheme}.png")
                page.close()
        finally:
            stop(bench)
            browser.close()


def _picture(page: Any, bench: Workbench, name: str, job: str, path: Path) -> None:
    page.goto(f"{bench.address}/{ADDRESSES.get(name, name)}" + (f"?job={job}" if name == "jobs" else ""))
    settled(page)
    page.screenshot(path=path, full_page=True)
    sys.stdout.write(f"{path}\n")


def _finished_job(bench: Workbench) -> str:
    """A merge of the bundled models, submitted and done; its id."""
    import os

    os.environ["MERGING_HOME"] = str(bench.home)
    from merging import Jobs, find_zoo

    zoo = find_zoo()
    models = "".join(f"  - model: {path}\n" for path in list(zoo.fine_tunes.values())[:3])
    recipe = f"merge_method: ties\nbase_model: {zoo.base}\nmodels:\n{models}parameters: {{density: 0.3, lambda: 0.8}}\n"
    job = Jobs().submit(recipe, bench.folder / "three-tasks", name="three tasks by TIES")
    while job.state in ("queued", "running"):
        pass
    return job.id


if __name__ == "__main__":
    main(Path(sys.argv[1]))
