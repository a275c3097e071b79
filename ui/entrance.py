"""A workbench that others can reach asks for a token before it shows or does anything."""

from __future__ import annotations

import hmac
import os

import streamlit as st

# Set by `merging ui --expose`; in the environment, where no list of programs and no address bar shows it.
TOKEN = "MERGING_UI_TOKEN"
_ADMITTED = "admitted"


def is_admitted() -> bool:
    """Whether no token is asked for, or this session has given it."""
    return not os.environ.get(TOKEN) or bool(st.session_state.get(_ADMITTED))


def ask_for_token() -> None:
    """Show the door; nothing behind it runs before the token is given."""
    token = os.environ[TOKEN]
    st.title("merging")
    with st.form("token", width=420):
        given = st.text_input("Token", type="password", help="`merging ui --expose` printed it where it was started.")
        asked = st.form_submit_button("Open", type="primary")
    # Compared in constant time, as bytes: a token may hold any character.
    if asked and hmac.compare_digest(given.encode(), token.encode()):
        st.session_state[_ADMITTED] = True
        st.rerun()
    if asked:
        st.error("That is not the token.")
    st.stop()
