"""The few pieces that a picture is made of: boxes, texts of a known width, a palette for light and dark pages."""

from __future__ import annotations

from unicodedata import east_asian_width

from merging.publish.markup import xml

LETTER = 6.7  # pixels, mean width of a letter of 12

LIGHT_AND_DARK = """
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2328}
.title{font-size:15px;font-weight:600}.small{font-size:10px;fill:#59636e}.cell{font-size:10px}.on{fill:#fff}
.ground{fill:#fff;stroke:#d1d9e0}.room{fill:#eff2f5}.for{fill:#1a5fb4}.against{fill:#bc4c00}.bar{fill:#59636e}
.hatch{stroke:#59636e}.still{fill:#818b98}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.on{fill:#fff}
.ground{fill:#0d1117;stroke:#3d444d}.room{fill:#1c2129}.for{fill:#3584e4}.against{fill:#d2691e}.bar{fill:#9198a1}
.hatch{stroke:#9198a1}.still{fill:#656c76}}
"""


def box(paint: str, x: float, y: float, width: float, height: float, strength: float = 1.0) -> str:
    """A filled box; `paint` is an attribute, `strength` its opacity."""
    faint = "" if strength >= 0.995 else f' fill-opacity="{_short(strength)}"'
    wide, high = _short(width), _short(height)
    return f'<path {paint} d="M{_short(x)} {_short(y)}h{wide}v{high}h-{wide}z"{faint}/>'


def text(x: float, y: float, said: str, kind: str = "", anchor: str = "") -> str:
    """A line of any text; `kind` is one or two classes, `anchor` which end stands at x."""
    extra = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{_short(x)}" y="{_short(y)}"{extra}>{xml(said)}</text>'


def text_width(said: str) -> float:
    """About how wide a text of letters of 12 is, in pixels."""
    return sum(LETTER * (2 if east_asian_width(letter) in "WF" else 1) for letter in said)


def shortened(said: str, width: float) -> str:
    """The text, or its beginning and end where all of it is wider: in the ends of names versions differ.

    >>> shortened("a-model-with-a-long-name-v0.2", 100)
    'a-mode…e-v0.2'
    """
    if text_width(said) <= width:
        return said
    head, tail = said, said
    while text_width(head) > width / 2 - LETTER / 2:
        head = head[:-1]
    while text_width(tail) > width / 2 - LETTER / 2:
        tail = tail[1:]
    return f"{head}…{tail}"


def _short(number: float) -> str:
    """At most two digits after the point, none where they say nothing."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
