"""The command line from the outside: what is printed where, exit codes, what is imported, interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from merging.cli.program import COMMANDS
from merging.cli.text import printable, size
from merging.methods.declare import all_methods
from tests import tiny
from tests.command_line import Call, caller, commands, heed_interrupts
from tests.syntax import ROOT

# Shape checks import torch; a user's process has none.
PLAIN = {key: value for key, value in os.environ.items() if key != "MERGING_CHECK_SHAPES"}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(capsys)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tiny.Family:
    return tiny.family(tmp_path_factory.mktemp("family"), layers=2, models=2, dtype=torch.bfloat16, shards=2)


@pytest.fixture
def recipe(family: tiny.Family, tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", family)


def write_recipe(path: Path, family: tiny.Family, **changes: object) -> Path:
    models = [{"model": str(folder), "parameters": {"weight": 0.5}} for folder in family.tuned]
    path.write_text(
        yaml.safe_dump({"merge_method": "ties", "base_model": str(family.base), "models": models} | changes)
    )
    return path


def test_a_run_leaves_a_checkpoint_that_verifies(call: Call, recipe: Path, tmp_path: Path) -> None:
    done = call("run", recipe, tmp_path / "out", "--memory", "512MiB")
    assert done.code == 0, done.err
    assert "tensors" in done.out
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == tiny.llama(layers=2)[0].keys()
    verified = call("verify", tmp_path / "out", "--all")
    assert verified.code == 0, verified.err
    assert "equal to the bit" in verified.out


def test_a_finished_merge_takes_one_more_model(call: Call, family: tiny.Family, tmp_path: Path) -> None:
    recipe = tmp_path / "opcm.yaml"
    base, first, second = family.base, *family.tuned
    recipe.write_text(f"merge_method: opcm\nbase_model: {base}\nmodels: [{{model: {first}}}]\n")
    assert call("run", recipe, tmp_path / "one", "--allow-unused").code == 0
    before = (tmp_path / "one" / "merging.json").read_bytes()
    continued = call("continue", tmp_path / "one", second, tmp_path / "two")
    assert continued.code == 0, continued.err
    assert call("verify", tmp_path / "two").code == 0
    assert (tmp_path / "one" / "merging.json").read_bytes() == before
    refused = call("continue", first, second, tmp_path / "three")
    assert refused.code == 1 and "has no record of a merge" in refused.err


def test_a_changed_byte_is_found_by_verify(call: Call, recipe: Path, tmp_path: Path) -> None:
    assert call("run", recipe, tmp_path / "out", "-q").code == 0
    file = tmp_path / "out" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    found = call("verify", tmp_path / "out", "--sample", 0)
    assert (found.code, found.out) == (1, "")
    assert "are not what was written" in found.err


def test_check_lists_every_problem_at_once(call: Call, family: tiny.Family, tmp_path: Path) -> None:
    weights = load_file(family.tuned[0] / "model-00001-of-00002.safetensors")
    broken = shutil.copytree(family.tuned[0], tmp_path / "broken")
    (broken / "model.safetensors.index.json").unlink()
    (broken / "model-00002-of-00002.safetensors").unlink()
    (broken / "model-00001-of-00002.safetensors").unlink()
    save_file(weights, broken / "model.safetensors")
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny.Family(family.base, (broken,)), parameters={"density": 2.0})
    found = call("check", recipe)
    assert found.code == 1
    assert "problems" in found.err
    assert "density" in found.err
    assert "broken" in found.err
    assert "Traceback" not in found.err
    listed = json.loads(call("check", recipe, "--json").out)
    assert len(listed["problems"]) == found.err.count("error: ")


def test_check_of_a_good_recipe_says_what_it_will_cost(call: Call, recipe: Path, tmp_path: Path) -> None:
    good = call("check", recipe, tmp_path / "out")
    assert (good.code, good.err) == (0, "")
    assert "no problem found" in good.out
    assert not (tmp_path / "out").exists()
    data = json.loads(call("check", recipe, "--json").out)
    assert data["problems"] == []
    assert min(data["read_bytes"], data["disk_bytes"], data["memory_bytes"]) > 0


def test_an_error_says_what_where_and_how_without_a_traceback(call: Call, family: tiny.Family, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", family, merge_method="tise")
    failed = call("run", recipe, tmp_path / "out")
    assert failed.code == 1
    assert failed.err.startswith("error: ")
    assert "recipe.yaml line" in failed.err
    assert "'ties'" in failed.err
    assert "Traceback" not in failed.err
    assert not (tmp_path / "out").exists()
    assert "Traceback" in call("--debug", "run", recipe, tmp_path / "out").err


@pytest.mark.parametrize(
    "arguments", [("run",), ("run", "a.yaml", "out", "--memory", "much"), ("merge",), ("run", "--x")]
)
def test_wrong_usage_is_exit_code_two(call: Call, arguments: tuple[str, ...]) -> None:
    wrong = call(*arguments)
    assert wrong.code == 2
    assert "Usage: merging" in wrong.err


def test_explain_shows_what_every_tensor_will_get(call: Call, recipe: Path) -> None:
    shown = call("explain", recipe, "--tensors")
    assert shown.code == 0, shown.err
    assert "model.layers.0.mlp.down_proj.weight" in shown.out
    assert json.loads(call("explain", recipe, "--json").out)


def test_inspect_escapes_what_a_name_could_do_to_a_terminal(call: Call, tmp_path: Path) -> None:
    save_file({"safe": torch.zeros(2, 3), "é\u202e": torch.zeros(1)}, tmp_path / "model.safetensors")
    shown = call("inspect", tmp_path / "model.safetensors")
    assert shown.code == 0, shown.err
    assert "é\\u202e" in shown.out
    assert "2 × 3" in shown.out
    listed = json.loads(call("inspect", tmp_path / "model.safetensors", "--json", "--filter", "^s").out)
    assert [tensor["name"] for tensor in listed["tensors"]] == ["safe"]


def test_methods_are_documented_from_their_declarations(call: Call) -> None:
    table, reference = call("methods").out, call("methods", "--markdown").out
    data = {method["name"]: method for method in json.loads(call("methods", "--json").out)}
    for name, method in all_methods().items():
        assert name in table
        assert f"## {name}" in reference
        assert set(method.parameters) == {knob["name"] for knob in data[name]["parameters"]}
    explained = call("methods", "ties").out
    assert "density: a number in [0, 1] per model" in explained
    assert ">>>" not in explained


def test_an_unknown_method_is_answered_with_the_nearest(call: Call) -> None:
    unknown = call("methods", "sleep")
    assert unknown.code == 1
    assert "slerp" in unknown.err
    assert "did you mean 'tsv_merge'?" in call("methods", "tsv").err


def test_the_schema_is_a_schema_that_finds_unknown_keys(call: Call) -> None:
    schema = json.loads(call("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    recipe = {"merge_method": "ties", "base_model": "b", "models": [{"model": "a", "parameters": {"weight": 1}}]}
    assert validator.is_valid(recipe)
    assert not validator.is_valid(recipe | {"dype": "float32"})


@pytest.mark.parametrize(
    ("text", "nbytes"), [("4GiB", 4 << 30), ("512 mib", 512 << 20), ("500M", 500_000_000), ("1.5KB", 1500), ("7", 7)]
)
def test_sizes_are_read_as_people_write_them(text: str, nbytes: int) -> None:
    assert size(text) == nbytes


def test_only_printable_letters_reach_the_terminal() -> None:
    assert printable("ok é\n\x1b[31m\x00") == "ok é\n\\x1b[31m\\x00"


def test_events_are_json_lines_from_start_to_seal(call: Call, recipe: Path, tmp_path: Path) -> None:
    told = call("run", recipe, tmp_path / "out", "--json-events")
    events = [json.loads(line) for line in told.out.splitlines()]
    assert (events[0]["event"], events[-1]["event"]) == ("RunStarted", "Sealed")
    assert sum(event["event"] == "TensorDone" for event in events) == events[0]["tensors"]


def test_an_interrupted_run_says_how_to_go_on_and_goes_on(tmp_path: Path) -> None:
    # So many events that the pipe is full before the merge is over: the run cannot end before it is interrupted.
    tensors = {f"layer.{i}.weight": torch.full((4,), float(i)) for i in range(1500)}
    for name, change in (("base", 0.0), ("tuned", 1.0)):
        tiny.write(tmp_path / name, {key: x + change for key, x in tensors.items()}, {})
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny.Family(tmp_path / "base", (tmp_path / "tuned",)))
    recipe.write_text(recipe.read_text().replace("ties", "task_arithmetic"))
    command = [sys.executable, "-m", "merging", "run", str(recipe), str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--json-events"],
        cwd=ROOT,
        env=PLAIN,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as child:
        assert child.stdout
        assert any("TensorDone" in line for line in iter(child.stdout.readline, ""))
        child.send_signal(signal.SIGINT)
        _, said = child.communicate()
    assert child.returncode == 130, said
    assert f"to go on: merging run {recipe} {tmp_path / 'out'}" in said
    assert "Traceback" not in said
    resumed = subprocess.run(command, cwd=ROOT, env=PLAIN, capture_output=True, text=True, check=True)
    assert "kept from an earlier run" in resumed.stdout
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(merged[name], x + 0.5) for name, x in tensors.items())


@pytest.mark.parametrize("command", ["--help", "check", "explain", "inspect", "methods", "schema"])
def test_answers_from_headers_import_neither_torch_nor_numpy(command: str, recipe: Path, family: tiny.Family) -> None:
    arguments = {"check": [str(recipe)], "explain": [str(recipe), "--tensors"], "inspect": [str(family.base)]}
    script = (
        "import sys\nfrom merging.cli import main\n"
        f"try:\n    main({[command, *arguments.get(command, [])]!r})\n"
        "except SystemExit as left:\n    assert not left.code\n"
        "print('LOADED', *sorted(set(sys.modules) & {'torch', 'numpy', 'safetensors', 'pydantic'}))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=PLAIN, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "LOADED", ran.stderr


def test_the_demo_leaves_a_merge_that_verifies_and_says_how_to_go_on(call: Call, tmp_path: Path) -> None:
    shown = call("demo", "--out", tmp_path / "demo", "--method", "linear", "--quiet")
    assert (shown.code, shown.err) == (0, "")
    assert "base" in shown.out
    assert f"merging verify {tmp_path / 'demo'}" in shown.out
    assert call("verify", tmp_path / "demo").code == 0


def test_every_command_is_there_and_does_what_the_list_says() -> None:
    found = commands()
    assert list(found) == list(COMMANDS)
    for name, command in found.items():
        assert command.name == name
        assert (command.help or "").split()[0] == COMMANDS[name].split()[0]


def test_only_the_command_that_is_called_is_imported() -> None:
    code = "import sys; from merging.cli.program import main\ntry: main(['schema'])\nexcept SystemExit: pass\n"
    code += "print([m for m in sys.modules if m.startswith('merging.cli.')], file=sys.stderr)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "merging.cli.schema" in told
    assert "merging.cli.jobs" not in told
