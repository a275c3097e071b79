"""What people do in the workbench, as a round that can be made again and again, each time with other values."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, TimeoutError

from tests.ui.browser import PATIENCE, at, press, settled

METHODS = ("ties", "dare_linear", "linear", "breadcrumbs", "slerp", "tsv_merge", "model_stock", "della_linear", "sce")
COMPOSED = ("ties", "linear", "dare_ties", "task_arithmetic", "breadcrumbs")
PARTS = ("attention", "query", "dense", "layernorm", "classifier")
# Jobs that the history holds; a person clears it now and then, and a list that grows is not what is measured.
MOST_JOBS = 6
# How long a slider may take to be there, in milliseconds.
IMPATIENCE = 10_000
# Visits that may break off one after the other: a machine may be too busy for one, not for several.
MOST_BROKEN = 3
# What the first column of a table is wide and a row high, in pixels.
MARK, ROW = 16, 35


class Visitor:
    """Somebody who comes, looks at every page, queues a merge and leaves; counts what was done and broken off."""

    def __init__(self, browser: Any, address: str, token: str, folder: Path):
        self._browser, self._address, self._token, self._folder = browser, address, token, folder
        # The same way through the pages in every run.
        self._chance = random.Random(0)
        self.rounds = self.sessions = self.jobs = self.broken_off = 0
        self._broken_in_a_row = 0

    def visit(self) -> None:
        """One round, or what of it could be made: somebody whose page does not answer closes it and comes back.

        Raises what went wrong where several visits break off one after the other.
        """
        try:
            self.round()
            self._broken_in_a_row = 0
        except Error as error:
            self.broken_off += 1
            self._broken_in_a_row += 1
            print(f"a visit broke off: {str(error).splitlines()[0]}", flush=True)
            if self._broken_in_a_row >= MOST_BROKEN:
                raise

    def round(self) -> None:
        """One visit of all pages, in a session of its own."""
        with self._opened("") as page:
            self._explore(page)
            press(page, "explore_compose")
            _arrived(page, "Compose")
            self._compose(page)
            out = self._submit(page)
            self._jobs(page)
            self._look_in(page.url)
            press(page, "jobs_browse")
            _arrived(page, "Browse")
            self._browse(page)
            _go(page, "Diagnose")
            self._diagnose(page)
            page.reload()
            self.sessions += 1
            self._enter(page)
            _go(page, "Jobs")
            self._forget(page, out.name)
            shutil.rmtree(out)
        self.rounds += 1

    @contextmanager
    def _opened(self, path: str) -> Iterator[Any]:
        """A new window in which nobody was let in yet."""
        page = self._browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{self._address}/{path}")
        self.sessions += 1
        self._enter(page)
        try:
            yield page
        except Error:
            says = " / ".join(page.get_by_test_id("stAlert").all_inner_texts())
            print(f"at {page.url.removeprefix(self._address)} the page says: {says or 'nothing'}", flush=True)
            raise
        finally:
            page.close()

    def _enter(self, page: Any) -> None:
        page.get_by_label("Token", exact=True).fill(self._token)
        page.get_by_role("button", name="Open", exact=True).click()
        page.get_by_role("link", name="Explore", exact=True).wait_for()
        settled(page)

    def _explore(self, page: Any) -> None:
        """Weights by sliders and buttons, other methods, weights by layer and part, other views."""
        self._slide(page)
        self._slide(page)
        for method in self._chance.sample(METHODS, 2):
            _choose(page, "explore_method", method)
            self._slide(page)
        _choose(page, "explore_method", "task_arithmetic")
        press(page, "explore_equal")
        self._slide(page)
        _unfold(page, "By layer and part")
        self._slide(page, "explore_block_share")
        press(page, "explore_block_add")
        _choose(page, "explore_layer", str(self._chance.randrange(4)))

    def _slide(self, page: Any, key: str = "") -> None:
        """Move a slider by some steps, to a value that was hardly there before."""
        sliders = at(page, key).get_by_role("slider") if key else page.get_by_role("slider")
        thumb = sliders.nth(0 if key else self._chance.randrange(sliders.count()))
        try:
            thumb.focus(timeout=IMPATIENCE)
        except TimeoutError:
            # It belonged to the method before and went away meanwhile.
            return
        way = self._chance.choice(("ArrowRight", "ArrowLeft"))
        for _ in range(self._chance.randint(2, 9)):
            page.keyboard.press(way)
        settled(page)

    def _compose(self, page: Any) -> None:
        """Another method, another model, block weights, the text; all judged after every change."""
        _choose(page, "compose_method", self._chance.choice(COMPOSED))
        _unfold(page, "Block weights")
        if at(page, "compose_block_line").count():
            _type(page, "compose_block_line", f"{self._chance.uniform(0.1, 0.9):.3f}; mlp*=0.5")
            press(page, "compose_undo")
        _choose(page, "compose_add", "zoo · inverted")
        press(page, "compose_out_0")
        text = page.get_by_role("textbox", name="Recipe")
        text.fill(f"# {self._chance.random()}\n{text.input_value()}")
        text.press("Control+Enter")
        settled(page)

    def _submit(self, page: Any) -> Path:
        """Queue the merge; the folder it is written to."""
        out = self._folder / f"merged-{self.jobs}"
        _type(page, "compose_out_folder", str(out))
        press(page, "compose_start")
        page.get_by_role("heading", name="Jobs", exact=True).wait_for()
        page.wait_for_url(re.compile(r"job="))
        self.jobs += 1
        return out

    def _jobs(self, page: Any) -> None:
        """Wait for the result and look at all that is told about it."""
        at(page, "jobs_browse").wait_for()
        settled(page)
        for tab in ("Result", "What every tensor got", "Events", "Compare"):
            page.get_by_role("tab", name=tab, exact=True).click()
            settled(page)
        if at(page, "jobs_measure").count():
            press(page, "jobs_measure")

    def _look_in(self, address: str) -> None:
        """A second window at the same job, and a third that is closed while it is still being drawn."""
        with self._opened(address.removeprefix(f"{self._address}/")):
            pass
        page = self._browser.new_page()
        page.goto(f"{self._address}/diagnose")
        page.get_by_label("Token", exact=True).wait_for()
        self.sessions += 1
        page.close()

    def _browse(self, page: Any) -> None:
        """A few tensors of the result, by name and by layer, and beside those of the base model."""
        _choose(page, "browse_other", "zoo · base")
        for part in self._chance.sample(PARTS, 2):
            _type(page, "browse_name", part)
            # Tables are drawn on a canvas, below the layer that scrolls and takes the clicks.
            row = self._chance.randint(1, 2)
            table = at(page, "browse_rows").locator(".dvn-scroller").first
            table.click(position={"x": MARK, "y": ROW * row + ROW // 2})
            page.get_by_text("Deviation", exact=True).first.wait_for()
            settled(page)

    def _diagnose(self, page: Any) -> None:
        """All panels of a diagnosis; singular values once in a while."""
        for tab in ("Layers", "Conflict", "Density", "Table", "Spectra"):
            page.get_by_role("tab", name=tab, exact=True).click()
            settled(page)
        if self.rounds % 5 == 0:
            press(page, "spectra_start")

    def _forget(self, page: Any, name: str) -> None:
        """Take this round's job out of the history where that has become long."""
        if self.jobs > MOST_JOBS:
            at(page, "jobs_remove").get_by_role("button").first.click()
            at(page, "jobs_remove_surely").get_by_role("button").click()
            # The next job stands there then, its own button as open as this one was.
            page.get_by_role("heading", name=name, exact=True).wait_for(state="detached")
            settled(page)


def _arrived(page: Any, name: str) -> None:
    page.get_by_role("heading", name=name, exact=True).wait_for()
    settled(page)


def _go(page: Any, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    _arrived(page, name)


def _type(page: Any, key: str, text: str) -> None:
    field = at(page, key).locator("input, textarea").first
    field.fill(text)
    field.press("Enter")
    settled(page)


def _choose(page: Any, key: str, name: str) -> None:
    """Pick from a list by the beginning of what it says."""
    field = at(page, key).locator("input").first
    field.click()
    field.fill(name)
    page.get_by_role("option").filter(has_text=re.compile(rf"^{re.escape(name)}\b")).first.click()
    settled(page)


def _unfold(page: Any, name: str) -> None:
    page.locator("summary", has_text=name).first.click()
    settled(page)
