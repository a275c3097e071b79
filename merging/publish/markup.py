"""Texts of other people made safe to stand in Markdown, XML and YAML: names, ids, licences, whole recipes.

Foreign text enters a card in two ways only: as a code span, where neither HTML nor links nor emphasis are read, or in a
fence longer than anything in it. Free text is never interpolated.
"""

from __future__ import annotations

import re
from html import escape
from unicodedata import category

# Controls, formats such as the marks that turn writing around, halves of surrogate pairs, code points that are none.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_PLAIN = re.compile(r"(?!www\.)[A-Za-z0-9][A-Za-z0-9. -]*", re.IGNORECASE)
LONGEST = 200  # characters of a name that are shown


def visible(text: str) -> str:
    """One line of what a reader can see: no controls, and no more than LONGEST characters.

    >>> visible("a\\nb\\u202ec")
    'a b\\ufffdc'
    """
    line = " ".join(text[: 4 * LONGEST].split())
    seen = "".join("\ufffd" if category(letter) in _UNSEEN else letter for letter in line)
    return seen if len(seen) <= LONGEST else seen[: LONGEST - 1] + "…"


def code(text: str) -> str:
    """A code span of any text, in a paragraph or a table's cell.

    A pipe is shown as a broken one: in a table it would end the cell even here, and what follows would be read as HTML.

    >>> code("a`b|<i>")
    '`` a`b¦<i> ``'
    """
    seen = visible(text).replace("|", "¦") or " "
    fence = "`" * (1 + _longest_run(seen))
    room = " " if "`" in seen or not seen.strip() else ""
    return f"{fence}{room}{seen}{room}{fence}"


def heading(text: str) -> str:
    """Text for a heading: plain words as they are, anything that might mean something to Markdown as a code span."""
    return text if _PLAIN.fullmatch(text) and len(text) <= LONGEST else code(text)


def fenced(text: str, language: str) -> str:
    """A fenced block that nothing in the text can close."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def xml(text: str) -> str:
    """Text for an element or a quoted attribute of XML."""
    return escape(visible(text), quote=True)


def listed(names: list[str], last: str = "and") -> str:
    """Names as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return f" {last} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part) if names else ""


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
