"""Runs that fill a store: interrupted, damaged, killed, and within their memory."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from merging.engine.compress import compress, keep
from merging.engine.events import RunStarted, TensorDone
from merging.engine.merge import merge
from merging.engine.store_folder import verify_store
from merging.engine.store_plan import plan_store
from merging.errors import OutputError, ResumeError
from merging.methods.declare import all_methods
from merging.recipe.source import open_source
from tests import tiny
from tests.store.stores import contents, kept_of

KEEPING = [name for name, method in all_methods().items() if method.needs.keeps]
ROOT = Path(__file__).parents[2]


def test_an_interrupted_run_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr")
    out = tmp_path / "stopped"
    store = plan_store(kept.recipe, out=out)
    with closing(keep(store, out, workers=1)) as events:
        done = 0
        for event in events:
            done += isinstance(event, TensorDone)
            if done == 4:
                break
    assert not (out / "store.json").exists()
    started = [event for event in keep(store, out) if isinstance(event, RunStarted)]
    assert started[0].kept_tensors >= 4
    assert contents(out) == contents(kept.folder)
    assert sorted(contents(out)) == sorted(path.name for path in out.iterdir())


def test_what_was_damaged_after_an_interruption_is_made_again(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr")
    out = tmp_path / "stopped"
    store = plan_store(kept.recipe, out=out)
    events = keep(store, out, workers=1)
    while not isinstance(next(events), TensorDone):
        pass
    events.close()
    for path in out.glob("mask-*.partial"):
        held = bytearray(path.read_bytes())
        size = int.from_bytes(held[:8], "little") + 8
        held[size:] = bytes(byte ^ 0xFF for byte in held[size:])
        path.write_bytes(held)
    for _ in keep(store, out):
        pass
    assert contents(out) == contents(kept.folder)


def test_another_run_in_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr")
    out = tmp_path / "stopped"
    events = keep(plan_store(kept.recipe, out=out), out)
    next(events)
    with pytest.raises(OutputError, match="another run is writing"):
        next(keep(plan_store(kept.recipe, out=out), out))
    events.close()
    with pytest.raises(ResumeError, match="an unfinished run of another recipe"):
        compress(kept.recipe.replace("emr", "tall_masks"), out)


def test_overwriting_replaces_an_earlier_store_and_nothing_else(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr", kind="llama", models=2)
    out = tmp_path / "out"
    compress(kept.recipe.replace("emr", "tall_masks"), out, shard_bytes=20_000)
    (out / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="already holds a store") as caught:
        compress(kept.recipe, out)
    assert caught.value.fix == "name another folder, or pass --overwrite"
    compress(kept.recipe, out, overwrite=True)
    assert (out / "mine.txt").read_text() == "precious"
    (out / "mine.txt").unlink()
    assert contents(out) == contents(kept.folder)


def test_an_earlier_store_can_be_read_until_the_new_one_is_computed(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr", kind="llama", models=2)
    other = kept_of(tmp_path / "other", "tall_masks", kind="llama", models=2)
    before = contents(kept.folder)
    store = plan_store(kept.recipe.replace("emr", "tall_masks"), out=kept.folder)
    with closing(keep(store, kept.folder, overwrite=True, workers=1)) as events:
        done = 0
        while done < 5:
            done += isinstance(next(events), TensorDone)
    assert {name: (kept.folder / name).read_bytes() for name in before if "ledger" not in name} == {
        name: content for name, content in before.items() if "ledger" not in name
    }
    with pytest.raises(ResumeError, match="unfinished run of another recipe"):
        compress(kept.recipe, kept.folder)
    # The same run goes on, with or without the word that began it.
    for _ in keep(store, kept.folder):
        pass
    assert verify_store(kept.folder)
    assert sorted(contents(kept.folder)) == sorted(contents(other.folder))


def test_a_merge_and_a_store_replace_each_other(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr", kind="llama", models=2)
    out = tmp_path / "out"
    merge(f"{kept.recipe}parameters: {{task: 1}}\n", out, shard_bytes=20_000)
    compress(kept.recipe, out, overwrite=True)
    assert contents(out) == contents(kept.folder)
    merge(f"{kept.recipe}parameters: {{task: 1}}\n", out, overwrite=True)
    merge(f"{kept.recipe}parameters: {{task: 1}}\n", tmp_path / "fresh")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "fresh").iterdir())
    assert open_source(str(out)).specs


@pytest.mark.parametrize("base", ["base", "base/model.safetensors"])
def test_a_base_model_is_never_replaced_by_its_tasks(base: str, tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr", kind="llama", models=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    with pytest.raises(OutputError, match="holds the base model"):
        compress(kept.recipe.replace("/base\n", f"/{base}\n"), tmp_path / "base", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()} == before


def test_a_record_that_lies_names_no_file_outside_to_be_replaced(tmp_path: Path) -> None:
    kept = kept_of(tmp_path, "emr", kind="llama", models=2)
    (kept.folder / "mine.txt").write_text("precious")
    (tmp_path / "mine.safetensors").write_text("precious")
    (kept.folder / "dir.safetensors").mkdir()
    lies = ["../mine.safetensors", 7, "..", str(tmp_path / "mine.safetensors"), "mine.txt", "dir.safetensors", "\0"]
    kept.edit(lambda data: data.update(files=lies))
    compress(kept.recipe, kept.folder, overwrite=True)
    assert (tmp_path / "mine.safetensors").read_text() == (kept.folder / "mine.txt").read_text() == "precious"
    assert verify_store(kept.folder)


@pytest.mark.slow
def test_killed_while_overwriting_it_is_one_store_or_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.store_kill_points", str(tmp_path), "6", "30", "overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("checked 30 kill points of"), done.stdout


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.store_kill_points", str(tmp_path), "5", "40"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("checked 40 kill points of"), done.stdout


# Peak resident memory beyond the imported interpreter, in MiB; one tensor of 2^24 entries in float32 is 64 MiB.
SCRIPT = """
import resource, sys
from pathlib import Path
import torch, xxhash, yaml
import merging.checkpoint.sink, merging.engine.merge_work
from merging.engine.compress import keep
from merging.engine.run import run
from merging.engine.store_plan import plan_store
from merging.planning.build import plan
torch.set_num_threads(1)
folder, method = Path(sys.argv[1]), sys.argv[2]
models = "".join(f"- model: {folder / str(i)}\\n" for i in (1, 2))
store = plan_store(f"merge_method: {method}\\nbase_model: {folder / '0'}\\nmodels:\\n{models}", out=folder / method)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for _ in keep(store, folder / method, workers=2): pass
print((peak() - before) // 1024)
written = plan(f"merge_method: passthrough\\nmodels:\\n- model: 'store:{folder / method}#1'\\n")
for _ in run(written, folder / f"{method}-1", workers=2): pass
print((peak() - before) // 1024)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of one tensor with a single row: nothing to cut along the first axis."""
    folder = tmp_path_factory.mktemp("big")
    for i in range(3):
        tiny.write(folder / str(i), {"w": torch.randn(1, 1 << 24, generator=torch.Generator().manual_seed(i))}, {})
    return folder


@pytest.mark.parametrize("method", KEEPING)
def test_keeping_and_restoring_take_bounded_memory(method: str, big: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(big), method]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    kept, restored = map(int, done.stdout.split())
    assert kept < 64
    assert restored < 64
