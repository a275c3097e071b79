"""One YAML file per family: a line per tensor, `pattern: role`, under the part of the model where it stands.

In a pattern `{i}` is the layer, or `{encoder}` where a model has several stacks of layers and names them so; any other
name in braces is any number. A pattern that begins with the first of the file's `prefixes` is accepted with each of
the others and with none, since files saved without a head lack the prefix. `layouts` says for a role how its tensors
are linear maps, in the words of `Place.layout`; a number may be the name of the config's value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

Part = Literal["before", "layer", "after"]

FOLDER = Path(__file__).parent
PARTS: tuple[Part, ...] = ("before", "layer", "after")
_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")
_MODEL_TYPES = re.compile(r"^model_types: \[(.*)\]$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Line:
    """One pattern: the number at component `at` is the layer of `stack`; `fixed` components are literally so."""

    part: Part
    role: str
    stack: str
    at: int | None
    fixed: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class FamilyFile:
    """A family's facts. `lines` are found by the pattern with every number written `#`."""

    name: str
    model_types: tuple[str, ...]
    tied_by_default: tuple[str, ...]
    counts: Mapping[str, str]
    prefixes: tuple[str, ...]
    ties: Mapping[str, str]
    always_tied: Mapping[str, str]
    lines: Mapping[str, Sequence[Line]]
    roots: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Line | None:
        """The line that describes a tensor."""
        for line in self.lines.get(spelled(name), ()):
            if not line.fixed:
                return line
            parts = name.split(".")
            if all(parts[position] == text for position, text in line.fixed):
                return line
        return None

    def spellings(self, pattern: str) -> Iterator[str]:
        """A pattern with each prefix its files may carry; as written first."""
        yield pattern
        if self.prefixes and pattern.startswith(self.prefixes[0]):
            rest = pattern.removeprefix(self.prefixes[0])
            yield from (prefix + rest for prefix in (*self.prefixes[1:], ""))


def is_number(part: str) -> bool:
    """Whether a component of a name counts layers, experts or steps."""
    return part.isascii() and part.isdigit()


def spelled(name: str) -> str:
    """A name with every component that is a number written `#`.

    >>> spelled("h.12.ln_1.weight")
    'h.#.ln_1.weight'
    """
    return _NUMBER.sub("#", name)


@cache
def file_names() -> tuple[str, ...]:
    """Names of all families, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def by_model_type() -> Mapping[str, str]:
    """Family of each `model_type` of config.json; reads one line of each file, so that only the right one is parsed."""
    found = {}
    for name in file_names():
        listed = _MODEL_TYPES.search((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
        if listed:
            found.update({model_type.strip(): name for model_type in listed[1].split(",")})
    return found


@cache
def read_family(name: str) -> FamilyFile:
    """The facts in `families/<name>.yaml`."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data: dict[str, Any] = yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), loader)
    counts = {_stack(key): path for key, path in data["counts"].items()}
    file = FamilyFile(
        name,
        tuple(data["model_types"]),
        tuple(data["tied_by_default"]),
        counts,
        tuple(data["prefixes"]),
        data.get("ties", {}),
        data.get("always_tied", {}),
        lines={},
        roots={},
        layouts=data.get("layouts", {}),
    )
    lines: dict[str, list[Line]] = {}
    roots: dict[str, str] = {}
    patterns = [(part, pattern, role) for part in PARTS for pattern, role in data[part].items()]
    for part, pattern, role in patterns:
        for spelling in file.spellings(pattern):
            parts = spelling.split(".")
            line = _line(part, role, parts, counts)
            lines.setdefault(_key(parts), []).append(line)
            if line.stack:
                roots[parts[0]] = line.stack
    return replace(file, lines=lines, roots=roots)


def _line(part: Part, role: str, parts: Sequence[str], counts: Mapping[str, str]) -> Line:
    stack, at = "", None
    for position, text in enumerate(parts):
        if text.startswith("{") and part == "layer" and at is None:
            stack, at = _stack(text[1:-1]), position
            assert stack in counts, f"{'.'.join(parts)} names a stack without a count"
    fixed = tuple((position, text) for position, text in enumerate(parts) if is_number(text))
    return Line(part, role, stack, at, fixed)


def _stack(placeholder: str) -> str:
    return "" if placeholder == "i" else placeholder


def _key(parts: Sequence[str]) -> str:
    return ".".join("#" if part.startswith("{") or is_number(part) else part for part in parts)
