"""The licence that a merge's parents leave it: theirs where they agree, another one only where the texts say so.

What is written is what the parents' cards and the licences' texts say. Where they do not settle it, the field says
`other`, or `unknown` where no parent states a licence, and the text names every parent with what is in the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from merging.publish.licence_table import ASK_NOTHING, FITS_INTO, terms
from merging.publish.lineage import Parent
from merging.publish.markup import code, listed

OTHER, UNKNOWN = "other", "unknown"
MIXED = "several-licences"
_UNSTATED = (None, OTHER, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`id` and `name` for the fields `license` and `license_name` of a card, and the sentences that explain them."""

    id: str
    name: str | None
    sentences: tuple[str, ...]


def licence_of(parents: Sequence[Parent], repository: str | None = None) -> Verdict:
    """What the parents' licences leave for a merge of them; `repository` is where it will stand, for rules on names.

    >>> parents = [Parent("a/x", "a/x", license="mit"), Parent("a/y", "a/y", license="apache-2.0")]
    >>> licence_of(parents).id
    'apache-2.0'
    """
    found, name, first = _settled(parents)
    sentences = (first, *_asked(parents), *_silent(parents), *_naming(parents, repository), *_reachable(parents))
    return Verdict(found, name, sentences)


def _settled(parents: Sequence[Parent]) -> tuple[str, str | None, str]:
    """The licence as id and name, and the sentence that says why."""
    stated = list(dict.fromkeys(parent.license for parent in parents))
    names = list(dict.fromkeys(parent.license_name for parent in parents))
    if all(licence in (None, UNKNOWN) for licence in stated):
        return UNKNOWN, None, "No parent states a licence that this card could pass on."
    if stated == [OTHER] and len(names) == 1 and names[0]:
        return OTHER, names[0], f"All parents are under the licence that their cards call {code(names[0])}."
    unstated = [parent for parent in parents if parent.license in _UNSTATED]
    if unstated:
        return OTHER, MIXED, "The parents' licences do not settle that of the merge: not all of them state one."
    return _among([licence for licence in stated if licence])


def _among(stated: Sequence[str]) -> tuple[str, str | None, str]:
    """The licence of a merge whose parents all state one."""
    barred = [licence for licence in stated if (known := terms(licence)) and not known.is_shareable]
    if barred:
        forbidding = listed([code(licence) for licence in barred], "or")
        return OTHER, MIXED, f"No licence is passed on: sharing adapted material is not allowed by {forbidding}."
    asking = [licence for licence in stated if licence not in ASK_NOTHING] or list(stated[:1])
    if len(stated) == 1:
        return stated[0], None, f"All parents are under {_titled(stated[0])}, and this merge is as well."
    named = listed([code(licence) for licence in stated])
    for licence in asking:
        if all(other == licence or licence in FITS_INTO.get(other, ()) for other in asking):
            why = f"The parents are under {named}. Works under all of these may be part of one under {code(licence)}"
            return licence, None, f"{why}, which this merge carries; the notices of every parent stay with it."
    conflict = f"The parents' licences are {named}, and none of them is known to cover works under all the others."
    return OTHER, MIXED, f"{conflict} Each holds for what came from its parent."


def _titled(licence: str) -> str:
    known = terms(licence)
    return f"{code(licence)} ({known.title})" if known else code(licence)


def _asked(parents: Sequence[Parent]) -> Iterator[str]:
    """What each stated licence asks and forbids, with the parents that are under it."""
    for licence in dict.fromkeys(parent.license for parent in parents):
        known = terms(licence) if licence else None
        if licence in _UNSTATED or licence is None:
            continue
        under = listed([code(parent.name) for parent in parents if parent.license == licence])
        if known is None:
            yield f"{under}: {code(licence)}. What it asks is in its own text."
            continue
        limit = f" It does not allow {known.forbids}." if known.forbids else ""
        yield f"{under}: {_titled(licence)}. For copies and derived works: {known.asks}.{limit}"


def _silent(parents: Sequence[Parent]) -> Iterator[str]:
    """Parents whose licence is not known, or known by a name of its own only."""
    local = [code(parent.name) for parent in parents if parent.repository is None]
    silent = [code(each.name) for each in parents if each.repository and each.license in (None, UNKNOWN)]
    if local:
        verb = "are local models" if len(local) > 1 else "is a local model"
        yield f"{listed(local)} {verb} whose licence this card does not know."
    if silent:
        yield f"{listed(silent)}: the card on the Hub states no licence."
    for parent in parents:
        if parent.license == OTHER:
            own = f", which it calls {code(parent.license_name)}" if parent.license_name else ""
            yield f"{code(parent.name)}: a licence of its own{own}. What it asks is in its own text."


def _naming(parents: Sequence[Parent], repository: str | None) -> Iterator[str]:
    """Rules on the names of models made with a parent, and whether this one keeps them."""
    rules = {parent.license: known.begins for parent in parents if (known := terms(parent.license or ""))}
    for licence, begins in rules.items():
        if begins is None or licence is None:
            continue
        rule = f'By {code(licence)}, the name of a model made with such a parent begins with "{begins}"'
        kept = (repository or "").rpartition("/")[2].replace("-", " ").lower().startswith(begins.lower())
        yield f"{rule}." if repository is None or kept else f"{rule}; {code(repository)} does not."


def _reachable(parents: Sequence[Parent]) -> Iterator[str]:
    """Parents that not everybody can look at."""
    gated = [code(parent.name) for parent in parents if parent.gated]
    private = [code(parent.name) for parent in parents if parent.private]
    if gated:
        verb = "are gated: their" if len(gated) > 1 else "is gated: its"
        yield f"{listed(gated)} {verb} conditions are accepted on the Hub before a download."
    if private:
        verb = "are" if len(private) > 1 else "is"
        yield f"{listed(private)} {verb} private: without access to it nobody can look at it or repeat this merge."
