"""Whole models merged by recipes, against FusionBench 0.2.33 over modules with the same state dicts.

Theirs are told which matrices are tables that are looked up. One algorithm cannot be told: its calibration takes them
for matrices like others, and there they are left out of the comparison.
"""

from __future__ import annotations

import pytest

import merging
from tests.oracles import fusion_models
from tests.oracles.conftest import Fusion
from tests.oracles.interpreter import apart, size


@pytest.mark.parametrize(("family", "name"), [pair for pair in fusion_models.PAIRS if pair[1] != fusion_models.SCALED])
def test_a_recipe_over_whole_models_gives_fusion_benchs_model(fusion: Fusion, family: str, name: str) -> None:
    ours, base = fusion_models.ours(fusion.folder, family, name), fusion_models.tensors(family)[0]
    merge = fusion_models.MERGES[name]
    for dtype, allowed in (("float64", merge.exact), ("float32", merge.rounded)):
        theirs = fusion.model(f"{family}-{name}", dtype)
        assert theirs.keys() == ours.keys()
        for tensor in theirs.keys() - (set(fusion_models.tables(family)) if name == "svc" else set()):
            difference = apart(ours[tensor], theirs[tensor], size(base[tensor], theirs[tensor]))
            assert difference <= allowed, (tensor, dtype)


def test_a_model_added_to_a_finished_opcm_merge_gives_their_merge_of_all(fusion: Fusion) -> None:
    from merging.engine.continuing import continued_recipe

    merge = fusion_models.MERGES["opcm"]
    (fusion.folder / "three.yaml").write_text(fusion_models.recipe("llama", merge, models=3))
    merging.merge(fusion.folder / "three.yaml", fusion.folder / "three")
    merging.merge(continued_recipe(fusion.folder / "three", str(fusion.folder / "llama" / "4")), fusion.folder / "four")
    ours, theirs = fusion_models.weights(fusion.folder / "four"), fusion.model("llama-opcm", "float64")
    for name, x in theirs.items():
        assert apart(ours[name], x, size(x)) <= 2.0**-20, name
