"""Waiting for a page the way a person does: until nothing moves."""

from __future__ import annotations

from typing import Any

# Streamlit draws its running man while a script runs, and skeletons where charts are still to come.
_STILL = """() => {
    const busy = document.querySelector(
        '[data-testid="stStatusWidget"], [data-testid="stSpinner"], [data-testid="stSkeleton"], .stProgress'
    );
    const app = document.querySelector('[data-testid="stApp"]');
    return app && !busy && app.getAttribute('data-test-script-state') === 'notRunning';
}"""


def settled(page: Any, seconds: float = 60.0) -> None:
    """Return when the page's script has ended and everything is drawn."""
    page.wait_for_selector("h1", timeout=seconds * 1000)
    page.wait_for_function(_STILL, timeout=seconds * 1000)
    page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    page.wait_for_load_state("networkidle")


def watch_errors(page: Any) -> list[str]:
    """What the page complains of from now on, in the console or by an exception."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    return found
