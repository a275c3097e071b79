"""The workbench's entrance: who may come in, which pages there are. Started by `merging ui`."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from ui.entrance import ask_for_token, is_admitted

# A picture of its own: Streamlit fetches named icons from the network.
ICON = str(Path(__file__).parent / "icon.svg")
PAGES = (
    ("explore", "Explore", ":material/explore:"),
    ("compose", "Compose", ":material/tune:"),
    ("jobs", "Jobs", ":material/list_alt:"),
    ("diagnose", "Diagnose", ":material/query_stats:"),
    ("browse", "Browse", ":material/account_tree:"),
)


def main() -> None:
    """Let a person in and show the page they asked for."""
    # Before the Hub's client is imported, which looks once; jobs that are started here inherit it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    st.set_page_config(page_title="merging", page_icon=ICON, layout="wide")
    pages = [st.Page(f"views/{name}.py", title=title, icon=icon) for name, title, icon in PAGES]
    # Named before the door is shown, so that whoever is let in gets the page of the address.
    page = st.navigation(pages, position="sidebar" if is_admitted() else "hidden")
    if not is_admitted():
        ask_for_token()
    page.run()


main()
