"""Sizes as people write them: 512MiB, 4GiB, 5GB, 500M, 1000000."""

from __future__ import annotations

import re

from merging.errors import RecipeError

_SIZE = re.compile(r"(\d+\.?\d*)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)


def read_size(text: str | int) -> int:
    """The number of bytes that a text stands for: K, M, G and T are powers of 1000, with an i of 1024.

    Raises RecipeError for what is no size, and for less than one byte.

    >>> read_size("4GiB"), read_size("500M"), read_size("1.5 kb")
    (4294967296, 500000000, 1500)
    """
    match = _SIZE.fullmatch(str(text).strip())
    letter, binary = (match[2].lower(), match[3]) if match else ("", "")
    if not match or (binary and not letter):
        raise RecipeError(f"{text!r} is not a size", must_be="a size such as 512MiB, 4GiB or 500M")
    nbytes = round(float(match[1]) * float(1024 if binary else 1000) ** " kmgt".index(letter or " "))
    if nbytes < 1:
        raise RecipeError(f"{text!r} is less than one byte", must_be="a size such as 512MiB, 4GiB or 500M")
    return nbytes
