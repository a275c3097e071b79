"""Options of a job mean what `merging run` takes them for, or are refused before there is a job."""

from __future__ import annotations

import pytest

from merging.cli.text import size
from merging.errors import MergingError, Problems
from merging.jobs.options import checked_options
from tests.command_line import commands


def test_sizes_are_those_of_the_command_line() -> None:
    for text in ("4GiB", "512 mib", "500M", "1.5KB", "7", "2tb"):
        assert checked_options(["--memory", text]) == {"memory": size(text)}
        assert checked_options([f"--shard-size={text}"]) == {"shard_bytes": size(text)}


def test_flags_and_values_become_keywords_of_check() -> None:
    given = ["--allow-pickle", "--overwrite", "--no-resume", "--device", "cuda:1", "--workers", "2"]
    assert checked_options(given) == {"allow_pickle": True, "overwrite": True, "resume": False, "device": "cuda:1"}


@pytest.mark.parametrize("pushed", ["--push=ada/merged", "--push ada/merged"])
def test_only_weights_that_stay_are_looked_for_room_for(pushed: str) -> None:
    assert checked_options(pushed.split()) == {"keeps_weights": False}
    assert checked_options([*pushed.split(), "--keep-weights"]) == {}


@pytest.mark.parametrize("word", ["--job", "--quiet", "elsewhere", "--memory=", "--workers=0", "--memory=4iB"])
def test_what_is_no_option_of_a_job_is_refused(word: str) -> None:
    with pytest.raises(MergingError):
        checked_options([word])


def test_everything_wrong_is_said_at_once_with_the_nearest_option() -> None:
    with pytest.raises(Problems) as refused:
        checked_options(["--memry", "--workers", "none", "--device"])
    assert "--memory" in str(refused.value) and len(refused.value.problems) == 3


def test_every_option_of_a_job_is_one_of_run() -> None:
    known = {name for option in commands()["run"].params for name in option.opts}
    for name in ("--memory=1GB", "--shard-size=1GB", "--device=cpu", "--workers=1", "--lenient", "--allow-pickle"):
        checked_options([name])
        assert name.partition("=")[0] in known
    assert {"--allow-unused", "--overwrite", "--no-resume"} <= known
