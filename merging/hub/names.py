"""How a repository on the Hub is written: `owner/name`, `owner/name@revision`, or either after `hf://`."""

from __future__ import annotations

import re
from dataclasses import dataclass

# https://huggingface.co/docs/hub: 96 characters at most, no "--" and no "..", no "." or "-" at the ends.
_PART = r"(?!\.|-)(?!.*(?:--|\.\.))[A-Za-z0-9._-]{1,96}(?<![.-])"
_NAME = re.compile(rf"(?P<scheme>hf://)?(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[^@\s]+))?", re.ASCII)
# What git allows in a branch or tag, as far as it matters in a URL.
_REVISION = re.compile(r"(?!/)(?!.*(?:\.\.|//|@\{|\\))[^\x00-\x20~^:?*\[\x7f]+(?<!/)(?<!\.)")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository, and the branch, tag or commit that is meant; None for its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def parse_hub_name(text: str) -> HubName | None:
    """The repository that a text names; None where it names none.

    >>> parse_hub_name("mistralai/Mistral-7B-v0.1@main")
    HubName(repository='mistralai/Mistral-7B-v0.1', revision='main')
    >>> parse_hub_name("../models/base") is None
    True
    """
    match = _NAME.fullmatch(text)
    if not match or (match["revision"] and not _REVISION.fullmatch(match["revision"])):
        return None
    return HubName(match["repository"], match["revision"])


def is_explicit(text: str) -> bool:
    """Whether a text says that it means the Hub, so that no local path is looked for."""
    return text.startswith("hf://")
