"""The house rules of ARCHITECTURE.md and CONTRIBUTING.md, read from the syntax tree. There is no list of exceptions."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.syntax import ROOT, depth, functions, identifiers, imports, length, loaded, sources, tree

# A package imports only from the floors below it, and never from a neighbour.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "lazy"),
    ("algebra", "checkpoint", "families"),
    ("methods", "alignment", "store", "hub"),
    ("recipe",),
    ("planning",),
    ("engine",),
    ("demo", "analysis", "search", "sweep", "jobs", "publish"),
    ("cli",),
    ("__main__",),
)
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}

# Where in merging/ each package of the world may be imported; a new dependency needs a door of its own.
DOORS: dict[str, tuple[str, ...]] = {
    "torch": ("lazy.py",),
    "jaxtyping": ("lazy.py",),
    "yaml": ("recipe/text.py", "recipe/places.py", "families/"),
    "xxhash": ("checkpoint/", "engine/"),
    "click": ("cli/",),
    "huggingface_hub": ("hub/", "publish/"),
    "httpx2": ("hub/ranges.py",),
    "hf_xet": ("hub/xet.py", "publish/"),
    "rich": ("planning/explain.py", "demo/", "cli/"),
}
SLOW_TO_IMPORT = {"torch", "jaxtyping", "numpy", "safetensors", "pydantic", "yaml", "rich"}
# Imported where installed: the libraries of the extra `oracle`.
OPTIONAL = {"mergekit", "peft", "fusion_bench"}
METHOD_MAY_IMPORT = ("merging.errors", "merging.lazy", "merging.algebra", "merging.methods")

BANNED = re.compile(
    "(manager|factory|handler|helper|util|misc|common|process|info|do"
    "|delta|diff|tv|param|hyperparameter|alpha|lam|coef|sparsity)s?"
)

LIBRARY = sources("merging")
WORKBENCH = sources("ui")
PRODUCT = sources("merging", "ui", "benchmarks", "data")
TESTS = sources("tests")


def _at(path: Path, node: ast.AST | int, says: str) -> str:
    line = node if isinstance(node, int) else getattr(node, "lineno", 1)
    return f"{path.relative_to(ROOT)}:{line} {says}"


def _complaints(paths: Iterable[Path], rule: Callable[[Path], Iterable[str]]) -> None:
    found = [line for path in paths for line in rule(path)]
    if found:
        pytest.fail("\n".join(["", *found]), pytrace=False)


def _package(path: Path) -> str:
    return path.relative_to(ROOT / "merging").parts[0].removesuffix(".py")


def _is_method(path: Path) -> bool:
    names = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
    return path.parent == ROOT / "merging" / "methods" and path.name != "declare.py" and "merge_method" in names


def test_imports_go_only_downwards() -> None:
    def rule(path: Path) -> Iterator[str]:
        home = _package(path)
        if path == ROOT / "merging" / "__init__.py":
            return
        if home not in FLOOR:
            yield _at(path, 1, f"{home} stands on no floor; give it one in tests/test_house.py and ARCHITECTURE.md")
            return
        for node, module in imports(path):
            parts = module.split(".")
            if parts[0] == "merging":
                other = parts[1] if len(parts) > 1 else "merging"
                if other != home and FLOOR.get(other, len(FLOORS) - 1) >= FLOOR[home]:
                    yield _at(path, node, f"{home} imports {module}, which is not on a floor below")

    _complaints(LIBRARY, rule)


def test_the_workbench_and_methods_import_only_what_they_may() -> None:
    def workbench(path: Path) -> Iterator[str]:
        for node, module in imports(path):
            if module.startswith("merging."):
                yield _at(path, node, f"imports {module}; the workbench imports public names of merging only")

    def mathematics(path: Path) -> Iterator[str]:
        for node, module in imports(path):
            if module.split(".")[0] not in sys.stdlib_module_names and not module.startswith(METHOD_MAY_IMPORT):
                yield _at(path, node, f"imports {module}; only {', '.join(METHOD_MAY_IMPORT)} are allowed here")

    _complaints(WORKBENCH, workbench)
    _complaints(sources("merging/algebra") + [path for path in LIBRARY if _is_method(path)], mathematics)


def test_every_dependency_comes_in_by_its_own_door() -> None:
    def rule(path: Path) -> Iterator[str]:
        place = path.relative_to(ROOT / "merging").as_posix()
        for node, module in imports(path):
            top = module.split(".")[0]
            if module.startswith("."):
                yield _at(path, node, "relative import; write the absolute one")
            elif top not in sys.stdlib_module_names and top != "merging" and not place.startswith(DOORS.get(top, ())):
                yield _at(path, node, f"imports {module}, whose doors are: {', '.join(DOORS.get(top, ())) or 'none'}")

    _complaints(LIBRARY, rule)


def test_declared_dependencies_are_those_that_are_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = _declared(project["dependencies"])
    # torch warns where numpy is missing.
    assert needed == _world(LIBRARY + WORKBENCH) - {"jaxtyping"} | {"numpy"}
    assert _world(PRODUCT + TESTS) <= needed | _declared(project["optional-dependencies"]["test"]) | OPTIONAL


def _declared(requirements: Iterable[str]) -> set[str]:
    names = {re.split(r"[<>=\[]", line)[0] for line in requirements}
    return {{"pyyaml": "yaml", "scikit-learn": "sklearn"}.get(name, name.replace("-", "_")) for name in names}


def _world(paths: Iterable[Path]) -> set[str]:
    ours = {*sys.stdlib_module_names, "merging", "ui", "tests", "benchmarks"}
    return {module.split(".")[0] for path in paths for _, module in imports(path)} - ours


def test_nothing_slow_is_imported_or_used_at_import_time() -> None:
    def rule(path: Path) -> Iterator[str]:
        if path == ROOT / "merging" / "lazy.py":
            return
        for node, module in imports(path, when_loaded=True):
            if module.split(".")[0] in SLOW_TO_IMPORT:
                yield _at(path, node, f"imports {module} when loaded; import it where it is used")
        for node in loaded(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                yield _at(path, node, f"uses {ast.unparse(node)} when loaded")

    _complaints(LIBRARY, rule)


def test_files_functions_and_nesting_stay_small() -> None:
    def files(path: Path) -> Iterator[str]:
        lines = len(path.read_text().splitlines())
        limit = 100 if _is_method(path) else 300
        if lines > limit:
            yield _at(path, lines, f"the file has {lines} lines; {limit} at most: two ideas in one room")

    def bodies(path: Path) -> Iterator[str]:
        for function in functions(path):
            if length(function) > 40:
                yield _at(path, function, f"{function.name} has {length(function)} lines; 40 at most")
            if depth(function.body) > 3:
                yield _at(path, function, f"{function.name} nests {depth(function.body)} deep; 3 at most")

    _complaints(PRODUCT + TESTS, files)
    _complaints(PRODUCT, bodies)


def test_names_say_what_things_are() -> None:
    def rule(path: Path) -> Iterator[str]:
        names = [(1, path.stem)] + [(getattr(node, "lineno", 1), name) for node, name in identifiers(tree(path))]
        for line, name in names:
            for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name):
                if BANNED.fullmatch(word.lower()):
                    yield _at(path, line, f"{name!r} says {word!r}")

    _complaints(PRODUCT, rule)


def test_every_public_thing_has_a_docstring() -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

    def rule(path: Path) -> Iterator[str]:
        module = tree(path)
        if module.body and not ast.get_docstring(module):
            yield _at(path, 1, "the module has no docstring")
        for owner in [module, *(node for node in ast.walk(module) if isinstance(node, ast.ClassDef))]:
            public = [node for node in owner.body if isinstance(node, kinds) and not node.name.startswith("_")]
            for node in public if not getattr(owner, "name", "").startswith("_") else []:
                if not ast.get_docstring(node):
                    yield _at(path, node, f"{node.name} has no docstring")

    _complaints(LIBRARY + WORKBENCH, rule)


def test_text_of_the_files_keeps_the_style() -> None:
    patterns = {
        r"TODO(?!\(#\d+\))": "write TODO(#12), with the number of an issue",
        r"^\s*#\s*[-=#*~]{3,}": "no section banners",
        r"\.cuda\(\)|torch\.manual_seed\(": "device and randomness come from the inputs",
        r"^\s*(Args|Returns|Raises|Parameters):\s*$": "docstrings are sentences and formulas, not lists of arguments",
    }

    def rule(path: Path) -> Iterator[str]:
        text = path.read_text()
        if tree(path).body[1:] and "from __future__ import annotations" not in text:
            yield _at(path, 1, "from __future__ import annotations is missing")
        for pattern, says in patterns.items():
            for hit in re.finditer(pattern, text, re.MULTILINE):
                yield _at(path, text.count("\n", 0, hit.start()) + 1, says)

    _complaints(LIBRARY, rule)


def test_packages_only_export() -> None:
    def rule(path: Path) -> Iterator[str]:
        for node in tree(path).body:
            names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not isinstance(node, ast.Import | ast.ImportFrom) and names != ["__all__"] and not docstring:
                yield _at(path, node, "a package's __init__.py holds a docstring, imports and __all__")

    _complaints([path for path in LIBRARY if path.name == "__init__.py" and path.parent.name != "merging"], rule)


def test_every_public_name_can_be_imported() -> None:
    import merging

    assert merging.__all__
    for name in merging.__all__:
        assert getattr(merging, name) is not None


def test_every_method_has_its_paper_test() -> None:
    missing = [path.stem for path in LIBRARY if _is_method(path) and not _paper_test(path).exists()]
    assert not missing, f"tests/methods/test_<name>.py is missing for {missing}"


def _paper_test(path: Path) -> Path:
    return ROOT / "tests" / "methods" / f"test_{path.stem}.py"
