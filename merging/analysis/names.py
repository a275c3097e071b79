"""Short names of models: what distinguishes their locations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath


def short_names(locations: Sequence[str]) -> tuple[str, ...]:
    """For each location the shortest end of its path that no other has; numbered where locations are equal.

    Of adapters on one base model, which locations spell `base + lora:adapter`, the adapter distinguishes.

    >>> short_names(["runs/math/final", "runs/code/final", "zoo/chat.safetensors"])
    ('math/final', 'code/final', 'chat')
    >>> short_names(["base + lora:a/x", "base + lora:b/y", "m", "m"])
    ('x', 'y', 'm', 'm (2)')
    """
    parts = [_parts(location) for location in locations]
    names: list[str] = []
    for own in parts:
        length = 1
        while length < len(own) and any(own[-length:] == other[-length:] for other in parts if other != own):
            length += 1
        name = "/".join(own[-length:])
        repeated = sum(other == own for other in parts[: len(names)])
        names.append(f"{name} ({repeated + 1})" if repeated else name)
    return tuple(names)


def _parts(location: str) -> tuple[str, ...]:
    path = PurePath(location.rpartition(" + lora:")[2].rstrip("/"))
    return (*path.parts[:-1], path.name.removesuffix(".safetensors") or location)
