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
from merging.engine.store_plan import plan_store
from merging.errors import OutputError, ResumeError
from merging.methods.declare import all_methods
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
