"""What the house rules ask of the syntax tree of a file."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
NESTING = (ast.For, ast.While, ast.If, ast.Match)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), path.name)


def imports(path: Path, *, when_loaded: bool = False) -> Iterator[tuple[ast.stmt, str]]:
    """Every imported module with its statement; `when_loaded`: only what importing the file itself imports."""
    for node in loaded(tree(path)) if when_loaded else ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, "." * node.level + (node.module or "")


def loaded(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the file is imported: no bodies of functions, nothing for type checkers, no annotations."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params"):
            continue
        if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if name == "body" and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from loaded(child)


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    return lines - ((first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0)


def depth(body: Iterable[ast.AST]) -> int:
    """Levels of loops and conditions; `elif` stays on the level of its `if`, `with` and `try` decide nothing."""
    deepest = 0
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        inner = depth(child for child in ast.iter_child_nodes(node) if not _is_elif(node, child))
        chained = max((depth([child]) for child in ast.iter_child_nodes(node) if _is_elif(node, child)), default=0)
        deepest = max(deepest, inner + isinstance(node, NESTING), chained)
    return deepest


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)


def identifiers(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Names that this file gives: of functions, classes, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node, node.name
            case ast.arg():
                yield node, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node, node.attr
            case ast.alias(asname=str()):
                yield node, str(node.asname)
