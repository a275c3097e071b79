"""The model card of a merge, from its record and its ledger: Markdown under a block of metadata that the Hub reads.

What the card says is what was recorded. It names parents with their commits, the method with its paper, the recipe,
what every layer got, how to make the same bytes again, and what the parents' licences leave. It says nothing of
quality, for nothing here measured it. Text of other people stands in it escaped, see merging/publish/markup.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from merging.errors import RecipeError
from merging.families.files import by_model_type
from merging.methods.declare import Method, find_method
from merging.publish.card_layers import PICTURE, TITLE, percent
from merging.publish.licences import Verdict, licence_of
from merging.publish.lineage import Lineage, Model, Parent, read_lineage
from merging.publish.markup import code, fenced, heading, listed
from merging.publish.settings import settings_table
from merging.publish.shares import Shares, read_shares
from merging.recipe.text import write_yaml

HUB = "https://huggingface.co"
SHARD_BYTES = 5_000_000_000  # of `merging run` where nothing else is asked for
_FINGERPRINT_SHOWN = 16  # digits
_TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,60}")
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_LOCAL_CHECK = "fingerprint (headers and samples)"


def write_card(
    record: Mapping[str, Any],
    ledger: Sequence[Mapping[str, Any]],
    repository: str | None = None,
    parents: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
) -> str:
    """The card of a finished merge, as README.md.

    `record` is its merging.json, `ledger` the lines of merging-ledger.jsonl, `config` its config.json. `repository` is
    where it will stand; `parents` is what the Hub says of the repositories it came from, by default the record's. The
    picture that the card shows is `merging.publish.card_layers.draw_layers`'s, as the file PICTURE beside it.

    Raises RecipeError or Problems where the recorded recipe is none.
    """
    lineage = read_lineage(record, parents)
    method = method_of(lineage.recipe.method)
    verdict = licence_of(lineage.parents, repository)
    shares = read_shares(ledger, config)
    sections = (
        front_matter(lineage, method, verdict, config or {}),
        f"# {heading((repository or 'Merged model').rpartition('/')[2])}",
        _opening(lineage, method),
        f"## Method\n\n{cited(lineage, method, ledger)}",
        f"## Models\n\n{models_section(lineage, shares)}",
        f"## What each layer got\n\n![{TITLE}]({PICTURE})\n\n{_outcome(ledger)}",
        *settings_section(ledger, lineage, method),
        f"## Recipe\n\n{recipe_section(lineage)}",
        f"## Making it again\n\n{_again(record, lineage)}",
        "## Licence\n\n" + "\n".join(f"- {sentence}" for sentence in verdict.sentences),
    )
    return "\n\n".join(sections) + "\n"


def model_names(record: Mapping[str, Any], parents: Sequence[Mapping[str, Any]] | None = None) -> tuple[str, ...]:
    """The models of a record as others may see them, in its order: what the picture's rows are called."""
    return tuple(model.name for model in read_lineage(record, parents).models)


def method_of(name: str) -> Method | None:
    """The method, or None for one that is not installed here."""
    try:
        return find_method(name)
    except RecipeError:
        return None


def front_matter(
    lineage: Lineage,
    method: Method | None,
    verdict: Verdict,
    config: Mapping[str, Any],
    tags: Sequence[str] = ("merge", "merging"),
) -> str:
    """The block of metadata; `config` is that of a model which others may load, empty where there is none."""
    name = method.name if method else lineage.recipe.method
    data: dict[str, Any] = {}
    if lineage.base_models:
        data |= {"base_model": list(lineage.base_models), "base_model_relation": "merge"}
    data["tags"] = [*tags, *([name] if _TAG.fullmatch(name) and name != "mergekit" else [])]
    data["license"] = verdict.id
    if verdict.name:
        data["license_name"] = verdict.name
    if _is_for_transformers(config):
        data["library_name"] = "transformers"
    return f"---\n{write_yaml(data)}---"


def _is_for_transformers(config: Mapping[str, Any]) -> bool:
    """Whether transformers loads the model by its config alone: a type it knows, without code of its own."""
    architectures = config.get("architectures")
    named = isinstance(architectures, list) and bool(architectures)
    known = str(config.get("model_type")) in by_model_type() or "transformers_version" in config
    return named and bool(config.get("model_type")) and known and "auto_map" not in config


def _opening(lineage: Lineage, method: Method | None) -> str:
    merged = [model for model in lineage.models if model.role == "model"]
    base = [model for model in lineage.models if model.role == "base model"]
    sources = [model for model in merged if model not in base]
    count = len(sources)
    number = _WORDS[count] if count < len(_WORDS) else str(count)
    onto = f" and the base model {listed([linked(model) for model in base])}" if base else ""
    models = f"{number} model{'s' if count != 1 else ''}"
    name = code(method.name if method else lineage.recipe.method)
    return (
        f"The weights of this model were computed from those of {models}{onto}, by {name}. Nothing was trained for it,"
        " and this card, which was written from the record of the merge, says nothing of how well it does."
    )


def cited(lineage: Lineage, method: Method | None, ledger: Sequence[Mapping[str, Any]]) -> str:
    """The method with its paper, and those that stood in for it."""
    if method is None:
        said = f"{code(lineage.recipe.method)}, which is not among the methods that this card's writer knows."
    else:
        said = f"{code(method.name)}: {method.summary} {_paper(method.paper)}"
    others = Counter(row["method"] for row in ledger if row["rule"] == "merge")
    others.pop(method.name if method else lineage.recipe.method, None)
    standing_in = [f"{code(name)} for {count:,} tensors" for name, count in others.most_common()]
    return said + (f"\n\nOther methods stood in: {listed(standing_in)}." if standing_in else "")


def _paper(paper: str) -> str:
    kind, _, number = paper.partition(":")
    address = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(kind)
    return f"[{paper}]({address}{number})" if address else paper


def linked(model: Model) -> str:
    """A model's name, with a link to where it is if it is on the Hub."""
    if model.task is not None and model.parents[0].repository:
        return f"[{code(model.name)}]({HUB}/{model.parents[0].repository})"
    return " + ".join(_link(parent) for parent in model.parents) if not _is_numbered(model) else code(model.name)


def _is_numbered(model: Model) -> bool:
    """Whether the name had to be told apart from another model's."""
    return model.name != "+".join(parent.name for parent in model.parents)


def _link(parent: Parent) -> str:
    return f"[{code(parent.name)}]({HUB}/{parent.repository})" if parent.repository else code(parent.name)


def models_section(lineage: Lineage, shares: Shares | None, record: str = "merging.json") -> str:
    """The models as a table: what they were taken as, their commits, checks and fingerprints, and shares if given."""
    totals = shares.totals if shares else {}
    has_shares = bool(totals)
    heads = ["Model", "Taken as", "Commit", "Checked by", "Fingerprint", *(["Share"] if has_shares else [])]
    rows = []
    for i, model in enumerate(lineage.models):
        share = [percent(totals[i]) if i in totals else "–"] if has_shares else []
        digits = f"`{model.fingerprint[:_FINGERPRINT_SHOWN]}`" if model.fingerprint else "–"
        commits = "<br>".join(_commit(parent) for parent in model.parents)
        checks = "<br>".join(dict.fromkeys(_checked(parent) for parent in model.parents))
        rows.append([linked(model), model.role, commits, checks, digits, *share])
    note = f"Fingerprints are shown by their first {_FINGERPRINT_SHOWN} digits; `{record}` holds them whole."
    return "\n\n".join([table(heads, rows), note + (_share_note(shares) if shares else ""), *_warned(lineage)])


def _commit(parent: Parent) -> str:
    if parent.repository is None:
        return "local"
    if parent.commit is None:
        return "not recorded"
    return f"[`{parent.commit[:12]}`]({HUB}/{parent.repository}/tree/{parent.commit})"


def _checked(parent: Parent) -> str:
    """How it was made sure that what was read is what the source holds."""
    if parent.integrity:
        return code(parent.integrity)
    return "not recorded" if parent.repository else _LOCAL_CHECK


def _share_note(shares: Shares) -> str:
    if not shares.totals:
        return ""
    if not shares.of_changes:
        return " A model's share is its part of the merged weights, over all tensors."
    opposed = " It is negative where the merge moved against the model's own change." if shares.has_opposed else ""
    return f" A model's share is its part of the whole change to the base model.{opposed}"


def _warned(lineage: Lineage) -> Iterator[str]:
    """What keeps others from having the same inputs."""
    local = [code(model.name) for model in lineage.models if model.is_local]
    if local:
        yield (f"Not on a Hub, at least in part, and known to others by name and fingerprint only: {listed(local)}.")


def _outcome(ledger: Sequence[Mapping[str, Any]]) -> str:
    merged = [row for row in ledger if row["rule"] == "merge"]
    copied = len(ledger) - len(merged)
    entries = sum(prod(row["shape"]) for row in ledger)
    dtypes = [f"{code(dtype)}" for dtype in dict.fromkeys(row["dtype"] for row in ledger)]
    lines = [
        f"{len(ledger):,} tensors with {entries:,} entries in {listed(dtypes)}: {len(merged):,} merged,"
        f" {copied:,} copied unchanged."
    ]
    still = sum(bool(row["base"]) and not row["merged_norm"] for row in merged)
    if still:
        lines.append(f"Merged tensors that no model had changed, and that are the base model's: {still:,}.")
    lines.append(non_finite(ledger))
    lines += notes(ledger)
    return "\n".join(f"- {line}" for line in lines)


def non_finite(ledger: Sequence[Mapping[str, Any]]) -> str:
    """Whether every entry is a number."""
    broken = [row for row in ledger if row["non_finite"]]
    if not broken:
        return "Every entry is a finite number."
    count = sum(row["non_finite"] for row in broken)
    shown = listed([code(row["tensor"]) for row in broken[:3]])
    more = f" and {len(broken) - 3:,} other tensors" if len(broken) > 3 else ""
    return f"**{count:,} entries are not finite**, in {shown}{more}."


def notes(ledger: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Why tensors were treated otherwise than the rest, in the ledger's own words."""
    notes = Counter(row["note"] for row in ledger if row.get("note"))
    for note, count in notes.most_common(8):
        yield f"{count:,} tensor{'s' if count != 1 else ''}: {code(note)}."


def settings_section(ledger: Sequence[Mapping[str, Any]], lineage: Lineage, method: Method | None) -> Iterator[str]:
    """The section of parameters, where there are any."""
    names = [model.name for model in lineage.models]
    rows = settings_table(ledger, names, method)
    if rows:
        yield f"## Settings\n\nAs the tensors got them.\n\n{table(['Parameter', 'Value', 'What it is'], rows)}"


def recipe_section(lineage: Lineage) -> str:
    """The recipe as it was written, local models by name."""
    local = any(model.is_local for model in lineage.models)
    note = "Local models stand in it by the last part of their path.\n\n" if local else ""
    return note + fenced(write_yaml(lineage.written), "yaml")


def _again(record: Mapping[str, Any], lineage: Lineage) -> str:
    commands = "merging run recipe.yaml merged/{}\nmerging verify merged/ --all"
    return again(record, lineage, commands) + (
        "\n\nWith the same versions of `merging` and torch the weights come out the same, to the bit, for any memory,"
        " number of workers or interruption. `merging verify FOLDER --sample 0` compares a download of this repository"
        " with what was written, tensor by tensor."
    )


def again(record: Mapping[str, Any], lineage: Lineage, commands: str) -> str:
    """What makes the same output again: the pinned recipe and the commands; {} in these is for the size of shards."""
    version = str(record.get("merging", ""))
    release = f" {version}" if re.fullmatch(r"[0-9][0-9A-Za-z.+!-]*", version) else ""
    shard_bytes = record.get("shard_bytes", SHARD_BYTES)
    sized = f" --shard-size {shard_bytes}" if isinstance(shard_bytes, int) and shard_bytes != SHARD_BYTES else ""
    pinned = lineage.pinned != lineage.written
    which = "this recipe, in which every repository stands at its commit" if pinned else "the recipe above"
    local = (
        ", and the local models under their names beside it" if any(each.is_local for each in lineage.models) else ""
    )
    parts = [f"With `merging`{release}, {which}, as `recipe.yaml`{local}:"]
    parts += [fenced(write_yaml(lineage.pinned), "yaml")] if pinned else []
    parts.append(fenced(commands.format(sized), "sh"))
    return "\n\n".join(parts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells that are already safe."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
