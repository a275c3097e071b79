"""A manifest with its card and its picture, as they will stand in a repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merging.checkpoint.folders import read_config
from merging.publish.card import model_names, write_card
from merging.publish.card_layers import PICTURE, draw_layers
from merging.publish.manifest import Manifest
from merging.publish.readme import MERGE, README, with_card
from merging.publish.store_card import write_store_card


def with_card_files(
    found: Manifest,
    repository: str | None = None,
    existing: str | None = None,
    parents: Sequence[Mapping[str, Any]] | None = None,
) -> Manifest:
    """The manifest and README.md, or MERGE.md where README.md is a person's, and a merge's picture, made in memory.

    `existing` is the repository's README.md, None where it has none; `parents` is what the Hub says of the merge's
    sources, by default what the record says. A README.md to which nothing is added is not published again.
    """
    ledger, config = found.ledger(), read_config(found.folder)
    if found.tasks:
        card, picture = write_store_card(found.record, ledger, found.tasks, repository, parents), None
    else:
        card = write_card(found.record, ledger, repository, parents, config)
        picture = draw_layers(ledger, model_names(found.record, parents), config)
    readme, merge = with_card(existing, card)
    texts = {README: None if readme == existing else readme, MERGE: merge, PICTURE: picture}
    kept = found.without(README, MERGE)
    for path, text in texts.items():
        kept = kept if text is None else kept.adding(path, text.encode())
    return kept
