"""How repositories are written, and what is hidden in texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.hub.names import HubName, parse_hub_name
from merging.hub.redact import redacted

PARTS = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_]|[.-](?=[A-Za-z0-9_])){0,20}", fullmatch=True)


@given(owner=PARTS, name=PARTS, revision=st.sampled_from([None, "main", "v1.0", "refs/pr/3", "0" * 40]))
def test_what_is_written_is_read_again(owner: str, name: str, revision: str | None) -> None:
    named = HubName(f"{owner}/{name}", revision)
    assert parse_hub_name(str(named)) == named
    assert parse_hub_name(f"hf://{named}") == named


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "a/b/c",
        "./a/b",
        "../a",
        "/a/b",
        "a/",
        "/b",
        "a/b@",
        "a/b@x y",
        "a/b@../c",
        "a/b@x:y",
        "a//b",
        "a/..",
        "a/.hidden",
        "a/b--c",
        "-a/b",
        "a/b\n",
        "a/b@m@n@{1}",
        "a b/c",
        "ä/b",
        "a/" + "b" * 97,
        "a/b@main/",
    ],
)
def test_what_names_no_repository_is_none(text: str) -> None:
    assert parse_hub_name(text) is None


@given(
    before=st.text(),
    token=st.from_regex(r"hf_[A-Za-z0-9]{8,40}", fullmatch=True),
    after=st.sampled_from(["", " ", "'", "/"]),
)
def test_no_token_gets_through(before: str, token: str, after: str) -> None:
    assert token not in redacted(before + token + after)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer <TOKEN>"),
        ("https://user:secret@host/x", "https://<TOKEN>@host/x"),
        ("https://cdn/f?X-Amz-Signature=1&b=2 failed", "https://cdn/f?<TOKEN> failed"),
        ("https://hub/f?recursive=true", "https://hub/f?recursive=true"),
        ("nothing secret here", "nothing secret here"),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_not(text: str, shown: str) -> None:
    assert redacted(text) == shown
