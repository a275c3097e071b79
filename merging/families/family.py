"""Architecture facts of one checkpoint: in which layer a tensor stands, its role, and what shares its storage.

The facts come from the family's file. For names that no file knows, in known families and unknown ones:

layer   Names are grouped by what stands before their first number that takes at least two values. A group is a stack
        of layers when it has at least a quarter as many names as the largest; the number is the layer.
part    A tensor outside the layers stands before them when its name speaks of embeddings and of no head, else after.
role    Unknown, "", but for the buffers that frameworks save beside weights, and for tables of words, places and
        classes: embeddings, output heads and classifiers outside the layers, relative positions inside.
layout  Where a part of the name is "experts", a tensor of three axes holds one matrix for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from merging.families.files import FamilyFile, Part, by_model_type, file_names, is_number, read_family, spelled

GENERIC = "generic"
# A quarter: decoders and encoders of one model pass, a classification head of two layers does not.
SMALLEST_STACK = 0.25
EARLY_WORDS = ("embed", "wte", "wpe", "patch", "cls_token", "class_token", "mask_token", "conv_in", "stem", "shared")
LATE_WORDS = ("embed_out", "unembed", "head")
CLASS_WORDS = (*LATE_WORDS, "classifier", "decoder.weight", "score.weight", "output.weight", "qa_outputs")
POSITION_WORDS = ("position", "wpe", "rel_pos")
# Parts of heads and embeddings that are maps or vectors, and no tables.
NO_TABLES = (".bias", "norm", "dense", "project")
BUFFERS = (".rotary_emb.inv_freq", "position_ids", ".attn.masked_bias", ".attention.masked_bias")
COUNT_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers", "encoder_layers", "depth")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands. `layer` counts within `stack`, whose name is "" where there is only one.

    `layout` says in words how its entries are linear maps: "each" for one a step of the first of three axes, "turned"
    for (in, out), "parts=3" for several along the outputs, "heads=8" where they follow each other within a head.
    """

    part: Part
    layer: int | None = None
    stack: str = ""
    role: str = ""
    layout: str = ""


@dataclass(frozen=True)
class _Survey:
    """What one pass over all names shows: which prefix is which stack, and the layers of each."""

    stacks: Mapping[str, str]
    layers: Mapping[str, int]
    matched: int


class Family:
    """The architecture of one checkpoint: its family's facts applied to its names."""

    def __init__(self, config: Mapping[str, Any], names: Collection[str], file: FamilyFile | None = None):
        self.name = file.name if file else GENERIC
        self.config = config
        self._names = names if isinstance(names, Mapping | set | frozenset) else dict.fromkeys(names)
        self._file = file
        self._found: dict[str, tuple[Place, int]] = {}

    def place(self, name: str) -> Place:
        """Layer, stack, role and part of a tensor, which need not be in this checkpoint."""
        return self._locate(name)[0]

    def rename(self, name: str, layer: int) -> str:
        """The name of the same tensor in another layer."""
        place, at = self._locate(name)
        assert place.layer is not None, f"{name} stands in no layer"
        parts = name.split(".")
        return ".".join((*parts[:at], str(layer), *parts[at + 1 :]))

    def fraction(self, name: str) -> float:
        """How deep a tensor's layer lies: 0 the first, 1 the last or only one; 0 outside the layers."""
        place = self.place(name)
        if place.layer is None:
            return 0.0
        layers = self.stacks.get(place.stack, 1)
        return min(1.0, place.layer / (layers - 1)) if layers > 1 else 1.0

    @cached_property
    def stacks(self) -> Mapping[str, int]:
        """Number of layers of each stack, counted in the names; empty when there are no layers."""
        return self._survey.layers

    @property
    def layers(self) -> int:
        """Number of layers, of all stacks together."""
        return sum(self.stacks.values())

    def count_key(self, stack: str = "") -> str | None:
        """Where config.json holds a stack's number of layers, as "text_config.num_hidden_layers"; None if nowhere."""
        told = self._file.counts.get(stack) if self._file else None
        candidates = [told, told.rpartition(".")[2]] if told else []
        inner = [key for key, value in self.config.items() if isinstance(value, Mapping)]
        generic = [*COUNT_KEYS, *(f"{outer}.{key}" for outer in inner for key in COUNT_KEYS)]
        candidates += [key for key in generic if look_up(self.config, key) == self.stacks.get(stack)]
        return next((key for key in candidates if isinstance(look_up(self.config, key), int)), None)

    @cached_property
    def ties(self) -> Mapping[str, str]:
        """Tensor: the one whose storage it shares when the model is loaded, which this checkpoint stores."""
        if self._file is None:
            return self._generic_ties()
        tied = dict(self._file.always_tied)
        if self.is_tied:
            tied |= self._file.ties
        pairs = ((self._stored(name), self._stored(partner)) for name, partner in tied.items())
        return {name: partner for name, partner in pairs if partner in self._names}

    @property
    def is_tied(self) -> bool:
        """Whether config.json says, or leaves to the family's default, that the head is the embedding."""
        inner = self.config.get("text_config")
        for config in (self.config, inner if isinstance(inner, Mapping) else {}):
            if "tie_word_embeddings" in config:
                return bool(config["tie_word_embeddings"])
        return self._file is not None and self.config.get("model_type") in self._file.tied_by_default

    def _generic_ties(self) -> dict[str, str]:
        embeddings = [name for name in self._names if name.endswith("embed_tokens.weight")]
        if not self.is_tied or len(embeddings) != 1:
            return {}
        heads = [name for name in self._names if name.endswith("lm_head.weight")]
        return {heads[0] if heads else "lm_head.weight": embeddings[0]}

    def _stored(self, pattern: str) -> str:
        assert self._file
        return next((name for name in self._file.spellings(pattern) if name in self._names), pattern)

    def _locate(self, name: str) -> tuple[Place, int]:
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._from_file(name) or self._from_prefix(name) or (_outside(name), -1)
        return found

    def _from_file(self, name: str) -> tuple[Place, int] | None:
        line = self._file.find(name) if self._file else None
        if line is None or self._file is None:
            return None
        if line.at is None:
            stack = self._file.roots.get(name.partition(".")[0], "")
            return Place(line.part, None, stack, line.role, self._layout(line.role)), -1
        layer = int(name.split(".")[line.at])
        return Place("layer", layer, line.stack, line.role, self._layout(line.role)), line.at

    def _layout(self, role: str) -> str:
        """What the family says of a role, numbers of the config in it; nothing where the config lacks one."""
        assert self._file
        words = []
        for word in self._file.layouts.get(role, "").split():
            name, _, value = word.partition("=")
            number = int(value) if is_number(value) else look_up(self.config, value) if value else None
            if value and not isinstance(number, int):
                return ""
            words.append(f"{name}={number}" if value else name)
        return " ".join(words)

    def _from_prefix(self, name: str) -> tuple[Place, int] | None:
        parts = name.split(".")
        for at, prefix in _numbered(parts):
            stack = self._survey.stacks.get(prefix)
            if stack is not None:
                return Place(
                    "layer", int(parts[at]), stack, _role_inside(name), "each" if "experts" in parts else ""
                ), at
        return None

    @cached_property
    def _survey(self) -> _Survey:
        stacks: dict[str, str] = {}
        deepest: dict[str, int] = {}
        sizes: dict[str, int] = {}
        rest = []
        for name in self._names:
            found = self._from_file(name)
            if found is None:
                rest.append(name)
                continue
            place, at = self._found[name] = found
            if place.layer is not None:
                stacks[".".join(name.split(".")[:at])] = place.stack
                deepest[place.stack] = max(place.layer, deepest.get(place.stack, 0))
                sizes[place.stack] = sizes.get(place.stack, 0) + 1
        groups = _groups([name for name in rest if not any(at in stacks for _, at in _numbered(name.split(".")))])
        needed = SMALLEST_STACK * max([*sizes.values(), *(len(group) for group in groups.values())], default=0)
        kept = {prefix: numbers for prefix, numbers in groups.items() if len(numbers) >= needed}
        for prefix, numbers in kept.items():
            stack = "" if len(kept) == 1 and not stacks else prefix or "numbered"
            deepest[stack] = max(numbers)
            stacks = stacks | {prefix: stack}
        return _Survey(stacks, {stack: last + 1 for stack, last in deepest.items()}, len(self._names) - len(rest))

    @property
    def matched(self) -> float:
        """Share of the names that the family's file knows."""
        return self._survey.matched / max(1, len(self._names))


def recognise(config: Mapping[str, Any], names: Collection[str]) -> Family:
    """The family of a checkpoint, by `model_type` of its config, or by its names where there is no config.

    A file that knows fewer than half of the names is the wrong one; then, as for unknown types, the generic rules hold.
    """
    model_type = config.get("model_type")
    name = by_model_type().get(str(model_type)) if model_type else None
    if name is not None:
        family = Family(config, names, read_family(name))
        return family if family.matched >= 0.5 else Family(config, names)
    if model_type:
        return Family(config, names)
    # Among files that know as many names, the shortest describes them best.
    distinct = {spelled(tensor): tensor for tensor in names}
    candidates = [Family(config, distinct.values(), read_family(name)) for name in file_names()]
    best = max(candidates, key=lambda family: (family.matched, -len(family._file.lines if family._file else ())))
    return Family(config, names, best._file if best.matched >= 0.5 else None)


def look_up(config: Mapping[str, Any], path: str) -> Any:
    """A value of nested config data by dotted path; None if absent."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _numbered(parts: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Positions of the numbers in a name, each with what stands before it."""
    for at, part in enumerate(parts):
        if is_number(part):
            yield at, ".".join(parts[:at])


def _groups(names: Collection[str]) -> dict[str, list[int]]:
    """Numbers by the prefix before them, where they take at least two values; a name counts once."""
    found: dict[str, list[int]] = {}
    pending = [(name.split("."), 0) for name in names]
    while pending:
        groups: dict[str, list[tuple[list[str], int, int]]] = {}
        for parts, depth in pending:
            places = list(_numbered(parts))
            if depth < len(places):
                at, prefix = places[depth]
                groups.setdefault(prefix, []).append((parts, depth, int(parts[at])))
        pending = []
        for prefix, members in groups.items():
            if len({number for _, _, number in members}) > 1:
                found[prefix] = [number for _, _, number in members]
            else:
                pending += [(parts, depth + 1) for parts, depth, _ in members]
    return found


def _role_inside(name: str) -> str:
    """Of a tensor in a layer."""
    if name.endswith(BUFFERS):
        return "buffer"
    return "attention.position" if any(f"relative_{word}" in name for word in ("attention", "position")) else ""


def _outside(name: str) -> Place:
    low = name.lower()
    early = any(word in low for word in EARLY_WORDS) and not any(word in low for word in LATE_WORDS)
    return Place("before" if early else "after", role=_role_outside(low, early))


def _role_outside(low: str, early: bool) -> str:
    if low.endswith(BUFFERS):
        return "buffer"
    if any(word in low for word in NO_TABLES) and "patch" not in low:
        return ""
    if early:
        return "embedding.position" if any(word in low for word in POSITION_WORDS) else "embedding"
    return "head" if any(word in low for word in CLASS_WORDS) else ""
