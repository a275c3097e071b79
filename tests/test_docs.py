"""What the documents say is so: commands, recipes, files and packages they mention exist."""

from __future__ import annotations

import doctest
import importlib
import os
import re
from pathlib import Path

import pytest

from merging.cli import main
from merging.recipe.text import read_recipe
from tests.command_line import commands
from tests.syntax import ROOT, sources

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sources("merging")
    if path.name not in ("__init__.py", "__main__.py")
]


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_every_recipe_of_the_readme_is_read(text: str) -> None:
    assert read_recipe(text).method


def test_the_readme_names_every_command_and_no_other() -> None:
    listed = set(re.findall(r"^\| `merging (\w+)", README, re.MULTILINE))
    assert listed == set(commands())


def test_every_option_of_the_documents_exists() -> None:
    known = {spelling for command in commands().values() for knob in command.params for spelling in knob.opts}
    for command in re.findall(r"`merging \w+ ([^`]*)`|`(--[^`]*)`", README):
        for option in re.findall(r"--[a-z-]+", "".join(command)):
            assert option in known | {"--help"}, option


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    for name in re.findall(r"`([a-z_]+/[\w/.-]*|[A-Z]+\.md)`", document.read_text()):
        found = [folder / name for folder in (ROOT, ROOT / "merging") if (folder / name).exists()]
        assert found or name.split("/")[0] not in _top_names(), f"{document.name} names {name}, which does not exist"


def _top_names() -> set[str]:
    return {path.name for folder in (ROOT, ROOT / "merging") for path in folder.iterdir()}


def test_the_architecture_names_every_package() -> None:
    for path in (ROOT / "merging").iterdir():
        if (path / "__init__.py").exists() or (path.suffix == ".py" and not path.name.startswith("__")):
            assert path.name + ("/" if path.is_dir() else "") in ARCHITECTURE, path.name


def test_the_reference_of_methods_is_that_of_the_declarations(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["methods", "--markdown"])
    assert (ROOT / "docs" / "methods.md").read_text() == capsys.readouterr().out, "run `make docs`"


def test_news_is_a_fragment_or_in_the_changelog() -> None:
    for path in (ROOT / "changelog.d").iterdir():
        assert path.suffix == ".md" and path.read_text().strip(), path.name


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings_give_what_they_say(module: str) -> None:
    loaded = importlib.import_module(module)
    assert doctest.testmod(loaded, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0, module


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    private = re.compile("|".join(("/wor" + "k/", "/ro" + "ot/", "/ho" + "me/")))
    for path in [*sources("merging", "ui", "benchmarks", "tests", "data"), *DOCUMENTS]:
        assert not private.search(path.read_text()), os.fspath(path)
