"""Recipes in and out: from a file, from text, from plain data, and back to YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merging.errors import RecipeError, nearest
from merging.recipe.mergekit import rewrite
from merging.recipe.places import parse_yaml
from merging.recipe.recipe import Recipe

LARGEST_BYTES = 4 << 20

_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_recipe(source: str | Path, *, lenient: bool = False) -> Recipe:
    """The recipe in a file, or in the text itself when it contains a newline.

    Raises every problem at once. `lenient` passes over unknown keys and lists them in the recipe's `ignored`.

    >>> read_recipe("merge_method: linear\\nmodels:\\n- model: a\\n").models[0].source
    'a'
    """
    if isinstance(source, str) and "\n" in source:
        text, file = _checked_text(source.encode("utf-8", "surrogatepass"), None), None
    else:
        text, file = _checked_text(_read_bytes(Path(source)), str(source)), str(source)
    data, places, faults = parse_yaml(text, file)
    return rewrite(data, faults, places=places, file=file, lenient=lenient)


def recipe_from_data(data: Mapping[str, Any], *, file: str | None = None, lenient: bool = False) -> Recipe:
    """The recipe in plain data, such as `Recipe.data()` gives or json loads; tuples stand for lists.

    `file` is where the data came from: models are looked for in its folder first.
    """
    return rewrite(_plain(data), (), places={}, file=file, lenient=lenient)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(content) for key, content in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except IsADirectoryError:
        raise RecipeError("a folder is not a recipe", where=str(path), must_be="a YAML file") from None
    except FileNotFoundError:
        folder = path.parent
        beside = sorted(found.name for found in folder.iterdir()) if folder.is_dir() else []
        close = nearest(path.name, beside)
        fix = "nearest: " + ", ".join(str(folder / name) for name in close) if close else None
        raise RecipeError("there is no such recipe file", where=str(path), fix=fix) from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"the recipe file cannot be read: {error}", where=str(path)) from None


def _checked_text(content: bytes, file: str | None) -> str:
    if len(content) > LARGEST_BYTES:
        raise RecipeError("the recipe is too large", where=file, must_be=f"at most {LARGEST_BYTES >> 20} MiB of text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        must_be = f"UTF-8, which byte {error.start} is not"
        raise RecipeError("the recipe is not UTF-8 text", where=file, must_be=must_be) from None
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise RecipeError(
            f"the recipe holds the control character {control[0]!r}",
            where=f"{file or 'recipe'} line {line}",
            must_be="a text file",
        )
    return text


def write_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as YAML: keys in the order given, a list of single values, such as a gradient, on one line."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Its own class, because representers are registered on classes."""

    def represent(dumper: Dumper, values: list[Any]) -> yaml.Node:
        nested = any(isinstance(value, list | dict) for value in values)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=not nested)

    def quote(dumper: Dumper, text: str) -> yaml.Node:
        # Other styles write these line ends raw, and they would be read back as spaces.
        style = '"' if _LINE_ENDS.search(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(list, represent)
    Dumper.add_representer(str, quote)
    text: str = yaml.dump(dict(data), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
