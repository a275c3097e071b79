"""Everything about which checkpoints do not fit together, said once per model and question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from merging.checkpoint.tensors import DTYPES, TensorSpec
from merging.errors import MatchError, MergingError, nearest
from merging.planning.inputs import Input

SHOWN = 3
# Comparing spellings costs about 20 µs a pair.
MOST_COMPARED = 1000
VOCABULARY_ROLES = ("embedding", "head", "head.bias")

Key: TypeAlias = tuple[int, int]
Policy: TypeAlias = Literal["refuse", "drop", "copy"]
Noted = TypeVar("Noted", str, tuple[TensorSpec, TensorSpec])


@dataclass
class Disagreements:
    """Collected while matching; a key is (index of the model, index of the model it is held against).

    `sliced`: the recipe chooses layers, so that models need not be equally deep.
    """

    inputs: Sequence[Input]
    sliced: bool = False
    names_missing: dict[Key, list[str]] = field(default_factory=dict)
    names_lent: dict[Key, list[str]] = field(default_factory=dict)
    names_extra: dict[Key, list[str]] = field(default_factory=dict)
    names_untied: dict[Key, list[str]] = field(default_factory=dict)
    pairs_of_shapes: dict[Key, list[tuple[TensorSpec, TensorSpec]]] = field(default_factory=dict)
    pairs_of_kinds: dict[Key, list[tuple[TensorSpec, TensorSpec]]] = field(default_factory=dict)

    def missing(self, model: Input, reference: Input, name: str) -> None:
        """`model` lacks what the reference has."""
        _add(self.names_missing, model, reference, name)

    def lent(self, model: Input, reference: Input, name: str) -> None:
        """`model` lacks a tensor, and the base model's stands in, as the recipe asks."""
        _add(self.names_lent, model, reference, name)

    def extra(self, model: Input, reference: Input, name: str) -> None:
        """`model` has what the reference lacks."""
        _add(self.names_extra, model, reference, name)

    def untied(self, model: Input, outline: Input, name: str) -> None:
        """`model` trained on its own what the output ties to another tensor."""
        _add(self.names_untied, model, outline, name)

    def shapes(self, model: Input, reference: Input, own: TensorSpec, expected: TensorSpec) -> None:
        """Two shapes of one tensor."""
        _add(self.pairs_of_shapes, model, reference, (own, expected))

    def kinds(self, model: Input, reference: Input, own: TensorSpec, expected: TensorSpec) -> None:
        """A tensor that is numbers in one model and codes or counts in the other."""
        _add(self.pairs_of_kinds, model, reference, (own, expected))

    def problems(self, extra_tensors: Policy) -> list[MergingError]:
        """What forbids the merge."""
        return list(self._problems(extra_tensors))

    def warnings(self, extra_tensors: Policy) -> list[str]:
        """What the recipe asked to be overlooked."""
        texts = []
        for (model, reference), names in self.names_lent.items():
            texts.append(
                f"{self._key(model)} lacks {_some(names)}; the tensors of {self._key(reference)} stand in, as asked by "
                "`missing_tensors: base`"
            )
        if extra_tensors != "refuse":
            verb = "dropped" if extra_tensors == "drop" else "copied"
            for (model, reference), names in self.names_extra.items():
                texts.append(f"{verb}: {_some(names)} of {self._key(model)}, which {self._key(reference)} lacks")
            for (model, reference), names in self.names_untied.items():
                texts.append(
                    f"{self._key(model)} does not tie {_some(names)}; the output does, as {self._key(reference)}"
                )
        return texts

    def _problems(self, extra_tensors: Policy) -> Iterator[MergingError]:
        strangers = [key for key in self.names_missing if not self.sliced and self._share_nothing(key)]
        yield from (self._strangers(key) for key in strangers)
        for key in dict.fromkeys([*self.names_missing, *self.names_extra]):
            if key not in strangers:
                extra = self.names_extra.get(key, []) if extra_tensors == "refuse" else []
                yield from self._differing_names(key, self.names_missing.get(key, []), extra)
        if extra_tensors == "refuse":
            yield from (self._untied(key, names) for key, names in self.names_untied.items())
        for key, shapes in self.pairs_of_shapes.items():
            vocabulary = [pair for pair in shapes if self._is_vocabulary(key[1], *pair)]
            others = [pair for pair in shapes if pair not in vocabulary]
            yield from [self._vocabulary(key, vocabulary)] if vocabulary and key not in strangers else []
            yield from [self._shapes(key, others)] if others and key not in strangers else []
        yield from (self._kinds(key, kinds) for key, kinds in self.pairs_of_kinds.items())

    def _differing_names(self, key: Key, missing: Sequence[str], extra: Sequence[str]) -> Iterator[MergingError]:
        counts = None if self.sliced else self._layer_counts(key)
        if counts is not None and (missing or extra):
            yield counts
            missing, extra = self._within_layers(key, missing), self._within_layers(key, extra)
        if missing:
            yield self._missing(key, missing, self.names_extra.get(key, []))
        if extra and not (missing and _prefix_between(missing, extra)):
            yield self._extra(key, extra)

    def _key(self, index: int) -> str:
        return self.inputs[index].key

    def _share_nothing(self, key: Key) -> bool:
        own, expected = (self.inputs[model].specs for model in key)
        return own.keys().isdisjoint(expected) and not _prefix_between(list(expected), list(own))

    def _strangers(self, key: Key) -> MergingError:
        told = (", ".join(self.inputs[model].config.get("architectures") or ["unknown"]) for model in key)
        return MatchError(
            f"{self._key(key[0])} and {self._key(key[1])} have no tensor in common",
            where=f"architectures {' and '.join(told)}",
            must_be="models of one architecture",
        )

    def _layer_counts(self, key: Key) -> MergingError | None:
        own, expected = self.inputs[key[0]].family.stacks, self.inputs[key[1]].family.stacks
        differing = [name for name in own if name in expected and own[name] != expected[name]]
        if not differing:
            return None
        shown = [f"{self._key(model)} has {_layers(self.inputs[model], differing)}" for model in key]
        return MatchError(
            "the models differ in depth: " + ", ".join(shown),
            must_be="models of equal depth",
            fix="choose equally many layers of each by `slices:`",
        )

    def _within_layers(self, key: Key, names: Sequence[str]) -> list[str]:
        """Names in layers that both models have, or outside the layers."""
        own, expected = (self.inputs[model].family for model in key)
        kept = []
        for name in names:
            place = own.place(name) if name in self.inputs[key[0]].specs else expected.place(name)
            shared = min(family.stacks.get(place.stack, 0) for family in (own, expected))
            if place.layer is None or place.layer < shared:
                kept.append(name)
        return kept

    def _missing(self, key: Key, names: Sequence[str], extra: Sequence[str]) -> MergingError:
        model, reference = self.inputs[key[0]], self.inputs[key[1]]
        prefix = _prefix_between(names, extra)
        if prefix:
            fix = f"{prefix}; save both with the class that `architectures` of config.json names"
        else:
            close = nearest(names[0], _candidates(names[0], extra, model))
            fix = "; ".join(
                [f"nearest to {names[0]}: {', '.join(close)}"] * bool(close)
                + ["write `missing_tensors: base` to let the base model's stand in"]
            )
        return MatchError(
            f"{model.key} lacks {len(names)} of the {len(reference.specs)} tensors of {reference.key}",
            where=_some(names),
            must_be="the same names in all models",
            fix=fix,
        )

    def _extra(self, key: Key, names: Sequence[str]) -> MergingError:
        model, reference = self.inputs[key[0]], self.inputs[key[1]]
        return MatchError(
            f"{model.key} has {_tensors(names)} that {reference.key} lacks",
            where=_some(names),
            must_be="the same names in all models",
            fix="write `extra_tensors: drop` to leave them out, or `extra_tensors: copy` to take them along",
        )

    def _untied(self, key: Key, names: Sequence[str]) -> MergingError:
        model, reference = self.inputs[key[0]], self.inputs[key[1]]
        return MatchError(
            f"{model.key} has its own {', '.join(names)}, which {reference.key} ties to "
            + ", ".join(dict.fromkeys(reference.family.ties[name] for name in names)),
            where="`tie_word_embeddings` in config.json",
            must_be="tied in all models or in none",
            fix=f"write `extra_tensors: drop` to follow {reference.key}",
        )

    def _is_vocabulary(self, reference: int, own: TensorSpec, expected: TensorSpec) -> bool:
        if len(own.shape) != len(expected.shape) or not own.shape or own.shape[1:] != expected.shape[1:]:
            return False
        model = self.inputs[reference]
        inner = model.config.get("text_config")
        sizes = [config.get("vocab_size") for config in (model.config, inner) if isinstance(config, dict)]
        return model.family.place(expected.name).role in VOCABULARY_ROLES or expected.shape[0] in sizes

    def _vocabulary(self, key: Key, pairs: Sequence[tuple[TensorSpec, TensorSpec]]) -> MergingError:
        own, expected = pairs[0]
        model, reference = self.inputs[key[0]], self.inputs[key[1]]
        larger = model if own.shape[0] > expected.shape[0] else reference
        rows = min(own.shape[0], expected.shape[0])
        return MatchError(
            f"the vocabularies differ: {model.key} has {own.shape[0]} rows, {reference.key} has {expected.shape[0]}",
            where=_some([pair[1].name for pair in pairs]),
            must_be="one vocabulary; rows are not yet matched by token",
            fix=f"merge models of one tokenizer; or, if its last rows are padding, resize {larger.key} to {rows} rows",
        )

    def _shapes(self, key: Key, pairs: Sequence[tuple[TensorSpec, TensorSpec]]) -> MergingError:
        model, reference = self.inputs[key[0]], self.inputs[key[1]]
        shown = [f"{expected.name}: {list(own.shape)} and {list(expected.shape)}" for own, expected in pairs]
        return MatchError(
            f"{model.key} and {reference.key} have different shapes of {_tensors(pairs)}",
            where=_some(shown),
            must_be="equal shapes: models of one architecture and size",
        )

    def _kinds(self, key: Key, pairs: Sequence[tuple[TensorSpec, TensorSpec]]) -> MergingError:
        model, reference = self.inputs[key[0]], self.inputs[key[1]]
        shown = [f"{expected.name}: {own.dtype} and {expected.dtype}" for own, expected in pairs]
        kinds = ", ".join(sorted({DTYPES[own.dtype].kind for own, _ in pairs}))
        return MatchError(
            f"{_tensors(pairs)} of float entries in {reference.key}, of {kinds} entries in {model.key}",
            where=_some(shown),
            must_be="float tensors in all models",
            fix="dequantise the model first" if "packed" in kinds or "integer" in kinds else None,
        )


def _add(found: dict[Key, list[Noted]], model: Input, reference: Input, noted: Noted) -> None:
    listed = found.setdefault((model.index, reference.index), [])
    if noted not in listed[-1:]:
        listed.append(noted)


def _tensors(found: Sequence[object]) -> str:
    return "1 tensor" if len(found) == 1 else f"{len(found)} tensors"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _layers(model: Input, stacks: Sequence[str]) -> str:
    counts = [(model.family.stacks[name], f" {name}".rstrip()) for name in stacks]
    return " and ".join(f"{count}{name} layer{'' if count == 1 else 's'}" for count, name in counts)


def _candidates(name: str, extra: Sequence[str], model: Input) -> list[str]:
    """Names worth comparing: those nobody else claims, else those that end alike."""
    if extra:
        return list(extra[:MOST_COMPARED])
    ending = name.rpartition(".")[2]
    return [known for known in model.specs if known.endswith(ending)][:MOST_COMPARED]


def _prefix_between(missing: Sequence[str], extra: Sequence[str]) -> str:
    """The prefix that one set of names has before the other, as a sentence; empty when that is not the difference."""
    for long, short, says in ((extra, missing, "have"), (missing, extra, "lack")):
        endings = ("." + short[0],) if short else ()
        prefixes = (name.removesuffix(short[0]) for name in long if name.endswith(endings))
        known = set(long)
        for prefix in prefixes:
            if sum(prefix + each in known for each in short) > len(short) / 2:
                return f"its names {says} the prefix {prefix!r}"
    return ""
