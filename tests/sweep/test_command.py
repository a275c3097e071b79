"""A score by a program of the user's: what it is given, what it may print, how it may fail."""

from __future__ import annotations

import shlex
import sys

import pytest
import torch

from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import MergingError, RecipeError
from merging.sweep.command import CommandScore

MERGE = MemoryCheckpoint({"w": torch.zeros(1)}, location="/tmp/a folder; with $signs")


def printing(script: str) -> CommandScore:
    return CommandScore(shlex.join([sys.executable, "-c", script, "--model={folder}"]))


def test_the_command_gets_the_folder_in_one_word_and_no_shell_sees_it() -> None:
    assert printing(f"import sys; print(sys.argv[1] == '--model={MERGE.location}' and 1)")(MERGE) == {"score": 1.0}


@pytest.mark.parametrize(
    ("printed", "scores"),
    [
        ("0.5", {"score": 0.5}),
        ('{"math": 1, "code": 0.25}', {"math": 1.0, "code": 0.25}),
        ('loading\\n{"a": 2}', {"a": 2.0}),
        ('{\\n "a": 2\\n}', {"a": 2.0}),
    ],
)
def test_a_number_or_an_object_is_a_score(printed: str, scores: dict[str, float]) -> None:
    assert printing(f"print('''{printed}''')")(MERGE) == scores


@pytest.mark.parametrize(
    "script", ["", "print('good')", "print('true')", "print('{}')", "print('[1]')", "print(3); 1/0"]
)
def test_anything_else_is_an_error_that_names_the_command(script: str) -> None:
    with pytest.raises(MergingError) as failed:
        printing(script)(MERGE)
    assert sys.executable in str(failed.value)


def test_a_command_that_cannot_work_is_refused_at_once() -> None:
    with pytest.raises(RecipeError, match="where the merge goes"):
        CommandScore("python eval.py")
    with pytest.raises(RecipeError, match="cannot be read"):
        CommandScore("python 'eval.py {folder}")
    with pytest.raises(MergingError, match="cannot be run"):
        CommandScore("/nowhere/eval {folder}")(MERGE)
