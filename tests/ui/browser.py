"""Waiting for a page the way a person does: until nothing moves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# How long a widget or a heading may take, in milliseconds: a merge may be at work beside it.
PATIENCE = 120_000
# Streamlit asks below the page's own address first, and says so in the console.
EXPECTED = re.compile("status of 404")
# Streamlit draws its running man while a script runs, and skeletons where charts are still to come. A page is still
# once nothing has moved for a moment: a key that was pressed may take a few milliseconds to ask for a run.
_STILL = """() => {
    const busy = document.querySelector(
        '[data-testid="stStatusWidget"], [data-testid="stSpinner"], [data-testid="stSkeleton"], .stProgress'
    );
    const app = document.querySelector('[data-testid="stApp"]');
    const still = app && !busy && app.getAttribute('data-test-script-state') === 'notRunning';
    window.stillSince = still ? window.stillSince ?? performance.now() : undefined;
    return still && performance.now() - window.stillSince > 300;
}"""


def settled(page: Any, seconds: float = 60.0) -> None:
    """Return when the page's script has ended and everything is drawn."""
    page.wait_for_selector("h1", timeout=seconds * 1000)
    page.evaluate("() => { window.stillSince = undefined; }")
    page.wait_for_function(_STILL, timeout=seconds * 1000)
    page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    page.wait_for_load_state("networkidle")


def watch_errors(page: Any) -> list[str]:
    """What the page complains of from now on, in the console or by an exception."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    return found


@contextmanager
def visited(chromium: Any, address: str, height: int) -> Iterator[Any]:
    """A page that a person looks at; at the end it must have complained of nothing."""
    page = chromium.new_page(viewport={"width": 1440, "height": height})
    page.set_default_timeout(PATIENCE)
    complaints = watch_errors(page)
    page.goto(address)
    settled(page)
    yield page
    page.close()
    assert [says for says in complaints if not EXPECTED.search(says)] == []


def at(page: Any, key: str) -> Any:
    """The widget of this key."""
    return page.locator(f".st-key-{key}").first


def press(page: Any, key: str) -> None:
    """Press the button of this key."""
    at(page, key).get_by_role("button").first.click()
    settled(page)
