"""Memory is a promise: it grows neither with the tensor nor with the number of models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Peak resident memory beyond the imported interpreter, in MiB; one tensor of 2^24 entries in float32 is 64 MiB.
SCRIPT = """
import resource, sys
from pathlib import Path
import torch
from merging.checkpoint.shards import open_checkpoint
from merging.engine.run import run
from tests.engine.plans import plan_of
import merging.engine.merge_work, merging.checkpoint.sink, xxhash
torch.set_num_threads(1)
folder, method, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
plan = plan_of(method, [open_checkpoint(folder / str(i % 3)) for i in range(count)], **eval(sys.argv[4]))
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for _ in run(plan, folder / f"out-{method}-{count}", workers=2, allow_unused=True): pass
print((peak() - before) // 1024)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of one tensor with a single row: nothing to cut along the first axis."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("big")
    for i in range(3):
        (folder / str(i)).mkdir()
        generator = torch.Generator().manual_seed(i)
        save_file({"w": torch.randn(1, 1 << 24, generator=generator)}, folder / str(i) / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("method", "count", "values"),
    [("linear", 3, {}), ("slerp", 2, {"t": 0.4}), ("ties", 3, {"density": 0.2}), ("ties", 7, {"density": 0.2})],
)
def test_one_tensor_far_larger_than_the_buffers_merges_within_them(
    method: str, count: int, values: dict[str, float], big: Path
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(big), method, str(count), repr(values)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert int(done.stdout) < 64, f"{method} of {count} models took {done.stdout.strip()} MiB"
