"""Which input tensors make each output tensor, by name and shape, over any architecture.

The reference model of a section says which tensors there are. A tensor that another model stores only under the name it
is tied to is found there; buffers that frameworks save beside weights may be missing anywhere; everything else that
does not fit is a disagreement, and all of them are collected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from merging.checkpoint.tensors import DTYPES, TensorSpec
from merging.families.family import Family, Place
from merging.planning.disagreements import Disagreements
from merging.planning.inputs import Input, Inputs
from merging.planning.plan import Operand
from merging.planning.sections import Section, Source
from merging.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Match:
    """One output tensor: `spec` as the reference model stores it, and the tensors that make it.

    `asks` is the name under which parameters are looked up: a tied duplicate asks as the tensor it repeats.
    `fraction` is how deep its layer lies within the section.
    """

    spec: TensorSpec
    section: Section
    place: Place
    fraction: float
    rule: Literal["merge", "copy"]
    operands: tuple[Operand, ...]
    base: Operand | None = None
    asks: str = ""
    counted: bool = True
    note: str = ""


def match_all(
    recipe: Recipe, sections: Sequence[Section], inputs: Inputs, outline: Input, faults: Disagreements
) -> list[Match]:
    """Every output tensor, in output order; what does not fit goes to `faults`.

    `outline` is the model whose config the output gets, and so decides which tensors are tied.
    """
    matches: list[Match] = []
    for section in sections:
        matcher = _Matcher(recipe, section, inputs, outline, faults, (sections[0], sections[-1]))
        matches += matcher.matches()
    if len(sections) > 1 or sections[0].index is not None:
        order = {"before": 0, "layer": 1, "after": 2}
        matches.sort(key=lambda match: order[match.place.part])
    return _tie(matches, outline.family)


def _tie(matches: Sequence[Match], family: Family) -> list[Match]:
    """Stored duplicates of tied tensors become repetitions of the tensor they share their storage with."""
    found = {match.spec.name: match for match in matches}
    tied = []
    for match in matches:
        partner = found.get(family.ties.get(match.spec.name, ""))
        if partner is not None and partner.spec.shape == match.spec.shape:
            match = replace(
                partner,
                spec=match.spec,
                place=match.place,
                asks=partner.spec.name,
                counted=False,
                note=f"tied to {partner.spec.name}",
            )
        tied.append(match)
    return tied


@dataclass(frozen=True)
class _Matcher:
    recipe: Recipe
    section: Section
    inputs: Inputs
    outline: Input
    faults: Disagreements
    ends: tuple[Section, Section]

    def matches(self) -> list[Match]:
        """The tensors of this section, those of the reference model first."""
        reference = self.section.reference
        own = dict(self._names(reference))
        if self.section.index is not None and self.section is self.ends[1]:
            stored = set(own.values())
            own |= {name: name for name in self.outline.names_outside("after") if name not in stored}
        found = [match for output, inside in own.items() if (match := self._match(output, inside)) is not None]
        return found + self._extras(own)

    def _names(self, source: Source) -> Iterator[tuple[str, str]]:
        """Name in the output and name in the model, of all that a source brings to this section."""
        if self.section.index is None:
            yield from zip(source.model.specs, source.model.specs, strict=True)
            return
        if self.section is self.ends[0]:
            yield from ((name, name) for name in source.model.names_outside("before"))
        for layer in range(self.section.layers):
            for name in source.model.names_by_layer.get(source.first + layer, ()):
                yield source.model.family.rename(name, self.section.first_output + layer), name
        if self.section is self.ends[1]:
            yield from ((name, name) for name in source.model.names_outside("after"))

    def _match(self, output: str, inside: str) -> Match | None:
        """One tensor of the reference model, `inside` there and `output` in the result."""
        reference = self.section.reference
        own = reference.model.find(inside)
        if own is None:
            self.faults.missing(reference.model, self.outline, inside)
            return None
        if self._is_untied_in_a_tied_output(output, reference.model):
            self.faults.untied(reference.model, self.outline, output)
            return None
        spec = reference.model.spec(own)
        spec = spec if spec.name == output else replace(spec, name=output)
        place = reference.model.family.place(inside)
        fraction = reference.model.family.fraction(inside)
        if self.section.index is not None and place.layer is not None:
            offset = place.layer - reference.first
            place = replace(place, layer=self.section.first_output + offset)
            fraction = offset / (self.section.layers - 1) if self.section.layers > 1 else 1.0
        if not spec.is_float or place.role == "buffer":
            note = "a buffer, not trained" if place.role == "buffer" else f"{_kind(spec)} entries are not averaged"
            operands = self._equals(spec, own, inside)
            return Match(spec, self.section, place, fraction, "copy", operands, asks=output, note=note)
        found = [self._operand(source, inside, spec) for source in self.section.sources]
        whole = [operand for operand in found if operand is not None]
        if len(whole) < len(found):
            return None
        base = whole.pop() if self.section.base else None
        return Match(spec, self.section, place, fraction, "merge", tuple(whole), base, output)

    def _is_untied_in_a_tied_output(self, name: str, model: Input) -> bool:
        return name in self.outline.family.ties and name in model.specs and name not in model.family.ties

    def _inside(self, source: Source, inside: str) -> str:
        """The name in another source of what the reference model calls `inside`."""
        reference = self.section.reference
        if self.section.index is None or source.first == reference.first:
            return inside
        layer = reference.model.family.place(inside).layer
        if layer is None:
            return inside
        return reference.model.family.rename(inside, layer - reference.first + source.first)

    def _equals(self, spec: TensorSpec, own: Operand, inside: str) -> tuple[Operand, ...]:
        """What is never averaged comes from the reference model; equal tensors elsewhere are compared with it."""
        others = []
        for source in self.section.sources:
            operand = source.model.find(self._inside(source, inside))
            if operand is not None and operand != own:
                other = source.model.spec(operand)
                if other.shape == spec.shape and other.dtype == spec.dtype:
                    others.append(operand)
        return own, *others

    def _operand(self, source: Source, inside: str, spec: TensorSpec) -> Operand | None:
        """The tensor of one source, if it has one that fits; else what does not is noted."""
        model, reference = source.model, self.section.reference
        name = self._inside(source, inside)
        operand = model.find(name)
        if operand is None:
            if self.recipe.missing_tensors == "base" and self.section.has_base:
                self.faults.lent(model, reference.model, name)
                return reference.model.find(inside)
            self.faults.missing(model, reference.model, name)
            return None
        if self._is_untied_in_a_tied_output(spec.name, model):
            self.faults.untied(model, self.outline, spec.name)
        own = model.spec(operand)
        if not own.is_float:
            self.faults.kinds(model, reference.model, own, spec)
            return None
        if own.shape != spec.shape:
            self.faults.shapes(model, reference.model, own, spec)
            return None
        return operand

    def _extras(self, own: Mapping[str, str]) -> list[Match]:
        """Tensors of other models that the reference lacks: refused, dropped, or copied."""
        copied: dict[str, Match] = {}
        for source in self.section.sources:
            model = source.model
            if source == self.section.reference or (
                self.section.index is None and model.specs.keys() == self.section.reference.model.specs.keys()
            ):
                continue
            for output, inside in self._names(source):
                if output in own or inside in model.family.ties:
                    continue
                if self._is_untied_in_a_tied_output(output, model):
                    self.faults.untied(model, self.outline, output)
                    continue
                place = model.family.place(inside)
                if place.role == "buffer":
                    continue
                self.faults.extra(model, self.section.reference.model, inside)
                if self.recipe.extra_tensors == "copy" and output not in copied:
                    copied[output] = Match(
                        replace(model.specs[inside], name=output),
                        self.section,
                        place,
                        0.0,
                        "copy",
                        (Operand(model.index, inside),),
                        asks=output,
                        note=f"only in {model.key}",
                    )
        return list(copied.values())


def _kind(spec: TensorSpec) -> str:
    return DTYPES[spec.dtype].kind
