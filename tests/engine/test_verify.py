"""An output is what its record says, and comes out again; whatever was changed since is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging.engine.merge import merge
from merging.engine.verify import Verification, recorded_plan, require_good, verify
from merging.errors import VerificationError
from tests import tiny

RECIPE = """
merge_method: {method}
base_model: family/base
models:
  - model: family/tuned-1
  - model: family/tuned-2
parameters:
  density: 0.4
dtype: bfloat16
"""


def merged(folder: Path, method: str = "ties") -> Path:
    """A family, a recipe beside it, and the merge of it."""
    tiny.family(folder / "family", models=2, shards=2)
    (folder / "recipe.yaml").write_text(RECIPE.format(method=method))
    merge(folder / "recipe.yaml", folder / "out", shard_bytes=200_000)
    return folder / "out"


def verified(out: Path, sample: int | None = None) -> Verification:
    """The last thing that `verify` yields."""
    return list(verify(out, recorded_plan(out), sample=sample))[-1]  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["ties", "ties_global"])
def test_every_tensor_of_a_merge_comes_out_again_from_its_record_alone(method: str, tmp_path: Path) -> None:
    result = verified(merged(tmp_path, method))
    assert result.good and result.recomputed == result.tensors > 10


def test_a_sample_is_recomputed_with_the_statistics_of_the_whole_model(tmp_path: Path) -> None:
    result = verified(merged(tmp_path, "ties_global"), sample=3)
    assert result.good and result.recomputed == 3


def test_a_moved_folder_verifies_where_recipe_and_models_moved_along(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    merged(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert verified(tmp_path / "there" / "out").good


def test_a_flipped_bit_in_the_output_is_found(tmp_path: Path) -> None:
    out = merged(tmp_path)
    shard = sorted(out.glob("*.safetensors"))[0]
    held = bytearray(shard.read_bytes())
    held[-1] ^= 1
    shard.write_bytes(held)
    result = verified(out)
    assert len(result.corrupt) == 1 and not result.different
    with pytest.raises(VerificationError, match="are not what was written"):
        require_good(result, out)


def test_a_changed_input_is_found_and_named(tmp_path: Path) -> None:
    out = merged(tmp_path)
    for shard in (tmp_path / "family" / "tuned-1").glob("*.safetensors"):
        save_file({name: x + 1 for name, x in load_file(shard).items()}, shard, {"format": "pt"})
    result = verified(out)
    assert not result.corrupt and len(result.different) > 10
    assert [Path(name).name for name in result.changed_models] == ["tuned-1"]
    with pytest.raises(VerificationError, match=r"come out different now; changed since: .*tuned-1"):
        require_good(result, out)


def test_without_the_models_the_bytes_are_still_checked(tmp_path: Path) -> None:
    out = merged(tmp_path)
    result = list(verify(out))[-1]
    assert isinstance(result, Verification) and result.good and result.recomputed == 0


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="has no record of a merge"):
        list(verify(tmp_path))


def test_record_and_header_carry_lineage_and_no_absolute_path(tmp_path: Path) -> None:
    out = merged(tmp_path)
    record = json.loads((out / "merging.json").read_text())
    assert [model["source"] for model in record["models"]] == ["family/tuned-1", "family/tuned-2", "family/base"]
    assert record["recipe_folder"] == ".." and record["summary"]["non_finite"] == 0
    for path in out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    with torch.no_grad(), next(out.glob("*.safetensors")).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    lineage = json.loads(header["__metadata__"]["merging"])
    assert lineage["recipe"]["merge_method"] == "ties" and lineage["plan"] == record["plan"]
