"""Scores by a program of the user's own, run on a merge in a folder."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

from merging.checkpoint.tensors import Checkpoint
from merging.errors import MergingError, RecipeError

FOLDER = "{folder}"
_SHOWN = 300


class CommandScore:
    """What a command prints about a merge: a number, or a JSON object of numbers by task, on its last line.

    `{folder}` in the command stands for the folder of the merge. No shell is involved; what it prints to standard error
    passes through. Raises RecipeError for a command without `{folder}`.
    """

    def __init__(self, command: str):
        self.command = command
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise RecipeError(f"the score command cannot be read: {error}", where=command) from None
        if not any(FOLDER in word for word in self._words):
            raise RecipeError(
                f"the score command {command!r} does not say where the merge goes",
                must_be=f"a command line that holds {FOLDER}",
                fix=f"write for instance: python eval.py {FOLDER}",
            )

    def __call__(self, checkpoint: Checkpoint) -> Mapping[str, float]:
        """The scores of a checkpoint on disk. Raises MergingError when the command fails or prints something else."""
        words = [word.replace(FOLDER, checkpoint.location) for word in self._words]
        try:
            # Its own input would be the terminal, or the job's.
            ran = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
        except OSError as error:
            raise MergingError(f"{words[0]} cannot be run: {error.strerror}", where=self.command) from None
        printed = ran.stdout.decode("utf-8", "replace").strip()
        if ran.returncode:
            said = f"; it printed {printed[-_SHOWN:]!r}" if printed else ""
            raise MergingError(f"the score command left with code {ran.returncode}{said}", where=self.command)
        return _scores(printed, self.command)


def _scores(printed: str, command: str) -> dict[str, float]:
    for text in (printed, printed.rpartition("\n")[2]):
        found = _parsed(text)
        if _is_number(found):
            return {"score": float(found)}
        if isinstance(found, dict) and found and all(_is_number(value) for value in found.values()):
            return {task: float(value) for task, value in found.items()}
    raise MergingError(
        f"the score command printed {printed[-_SHOWN:]!r}",
        where=command,
        must_be='a number, or a JSON object such as {"math": 0.5, "code": 0.4}, on the last line',
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
