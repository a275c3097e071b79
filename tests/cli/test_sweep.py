"""`merging sweep` from the outside: axes, scores, tables, and going on."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path

import pytest

from merging.cli import main
from merging.demo.zoo import find_zoo
from merging.jobs.jobs import Jobs
from tests.jobs.places import many_tensors, over, recipe_of, root_at

# Scores a merge by its weights; counts how often it was asked in a file beside it.
SCORER = (
    "import json, struct, sys\n"
    "data = open(sys.argv[1] + '/model.safetensors', 'rb').read()\n"
    "open(sys.argv[2], 'a').write('x')\n"
    "first = struct.unpack('<f', data[8 + struct.unpack('<Q', data[:8])[0]:][:4])[0]\n"
    "sys.exit(3) if first > 0.9 else print(json.dumps({'up': first, 'down': -first}))\n"
)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["sweep", *map(str, words)])
    text = capsys.readouterr()
    return int(left.value.code or 0), text.out, text.err


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(many_tensors(tmp_path, count=2).replace("{weight: 0.5}", "{weight: 1.0}"))
    return tmp_path / "recipe.yaml"


def command(tmp_path: Path) -> str:
    (tmp_path / "score.py").write_text(SCORER)
    return shlex.join([sys.executable, str(tmp_path / "score.py"), "{folder}", str(tmp_path / "asked")])


def test_a_sweep_by_a_command_tells_the_best_the_front_and_what_failed(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    words = (recipe, "--vary", "lambda=0:1:3", "--score-command", command(tmp_path))
    code, out, err = run(capsys, *words, "--table", table, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [point["values"] for point in found["points"]] == [{"lambda": 0.0}, {"lambda": 0.5}, {"lambda": 1.0}]
    assert found["points"][1]["scores"] == {"up": 0.5, "down": -0.5}
    assert "code 3" in found["points"][2]["error"] and found["pareto"] == [0, 1]
    assert found["best_by_task"] == {"up": 1, "down": 0}
    assert "1 of 3 points failed" in err
    rows = list(csv.reader(table.read_text().splitlines()))
    assert rows[0] == ["point", "lambda", "up", "down", "mean", "seconds", "error"]
    assert rows[2][:4] == ["1", "0.5", "0.5", "-0.5"] and len(rows) == 4
    code, out, err = run(capsys, recipe, "--vary", "lambda=1", "--score-command", command(tmp_path))
    assert code == 1 and "no point could be merged and scored" in err


def test_a_sweep_that_stopped_goes_on_without_repeating_a_point(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "grid"
    words = (recipe, "--vary", "lambda=0,0.25,0.5", "--score-command", command(tmp_path), "--job", folder, "--json")
    code, first, err = run(capsys, *words)
    assert code == 0, err
    rows = (folder / "points.jsonl").read_text().splitlines(keepends=True)
    (folder / "points.jsonl").write_text(rows[0] + rows[2] + '{"point": 1, "val')
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"state": "cancelled"}))
    (folder / ".points-left").mkdir()
    code, second, err = run(capsys, *words)
    assert code == 0, err
    scores = [[point["scores"] for point in json.loads(text)["points"]] for text in (first, second)]
    assert scores[0] == scores[1]
    assert (tmp_path / "asked").read_text() == "x" * 4
    [job] = Jobs(tmp_path / "home").all()
    assert (job.kind, job.state, job.progress.tensors_done) == ("sweep", "done", 3)
    assert [row["values"]["lambda"] for row in job.points()] == [0, 0.25, 0.5]
    assert not list(folder.glob(".points-*"))
    (folder / "state.json").write_text(json.dumps(state | {"state": "cancelled"}))
    code, _, err = run(capsys, recipe, "--vary", "lambda=0,1", *words[3:])
    assert code == 1 and "another job" in err


@pytest.mark.parametrize(
    "words",
    [
        ("--vary", "lambda"),
        ("--vary", "lambda="),
        ("--vary", "lambda=0:1:0"),
        ("--vary", "=1"),
        ("--vary", "lambda=1", "--vary", "lambda=2"),
        ("--vary", "lambda=1", "--score-command", "x {folder}"),
        (),
    ],
)
def test_wrong_usage_is_exit_code_two(capsys: pytest.CaptureFixture[str], recipe: Path, words: tuple[str, ...]) -> None:
    assert run(capsys, recipe, *words, "--score", "zoo")[0] == 2


def test_only_the_bundled_models_are_scored_by_digits(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    code, _, err = run(capsys, recipe, "--vary", "lambda=1", "--score", "zoo")
    assert code == 1 and "only merges of the bundled models" in err


@pytest.mark.slow
def test_a_sweep_of_the_bundled_models_runs_as_a_job(tmp_path: Path) -> None:
    zoo = find_zoo()
    recipe = recipe_of(zoo.base, *(zoo.fine_tunes[task] for task in ("rotated", "mirrored")))
    with root_at(tmp_path / "home") as jobs:
        job = jobs.submit_sweep(recipe, {"lambda": [0.5, 1], "weight.rotated": [0.5]}, name="grid")
        assert over(job) == "done", job.log()
        assert [row["values"] for row in job.points()] == [{"lambda": each, "weight.rotated": 0.5} for each in (0.5, 1)]
        assert set(job.points()[0]["scores"]) == set(zoo.tasks)
        assert "best of each task" in job.log()
