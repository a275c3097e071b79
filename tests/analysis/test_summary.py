"""Sentences about diagnoses of models made to show one thing each, and silence where there is nothing to say."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from merging.analysis.diagnose import diagnose
from merging.analysis.summary import summary
from merging.checkpoint.tensors import MemoryCheckpoint
from tests import tiny
from tests.tiny_shapes import Tensors, normal

BASE, CONFIG = tiny.llama(layers=4)


def moved(seed: int, change: float = 0.03, where: Callable[[str], bool] = lambda _: True) -> Tensors:
    """The base model plus noise of that share of each tensor's norm, in tensors of some names."""
    return {name: added(name, tensor, seed, change) if where(name) else tensor for name, tensor in BASE.items()}


def added(name: str, tensor: Tensor, seed: int, change: float) -> Tensor:
    return tensor + change * tensor.square().mean().sqrt() * normal(tuple(tensor.shape), f"{name} {seed}", seed)


def said(*models: Tensors, base: Tensors = BASE) -> list[str]:
    names = ("runs/math/final", "runs/code/final", "runs/chat/final")
    opened = [MemoryCheckpoint(model, CONFIG, name) for model, name in zip(models, names, strict=False)]
    return summary(diagnose(opened, MemoryCheckpoint(base, CONFIG, "base"), cache=False))


def only(sentences: list[str], word: str) -> str:
    (found,) = [sentence for sentence in sentences if word in sentence]
    return found


def test_unrelated_fine_tunes_of_ordinary_size_are_called_orthogonal_and_nothing_else() -> None:
    (sentence,) = said(moved(1), moved(2))
    assert "nearly orthogonal" in sentence and "1/2" in sentence


def test_one_ordinary_model_gets_a_sentence() -> None:
    assert said(moved(1)) == ["nothing stands out: one model, of the size of an ordinary fine-tune"]


def test_models_that_share_a_direction_are_told_where() -> None:
    shared = lambda name: "self_attn" in name and any(f"layers.{i}." in name for i in (1, 2))  # noqa: E731
    one = moved(1)
    other = {name: one[name] if shared(name) else tensor for name, tensor in moved(2).items()}
    sentence = only(said(one, other), "same way")
    assert sentence.startswith("math/final and code/final point the same way in attention of layers 1-2 (cosine 1.00)")


def test_models_that_undo_each_other_are_told_where_and_that_their_signs_cost() -> None:
    one = moved(1)
    other = {name: 2 * BASE[name] - one[name] if "mlp" in name else tensor for name, tensor in moved(2).items()}
    sentences = said(one, other)
    assert "in MLPs of all layers (cosine -1.00)" in only(sentences, "opposite directions")
    assert "disagree in MLPs of all layers (100% of the mass is lost" in only(sentences, "disagree")


def test_equal_models_and_unchanged_ones_are_named() -> None:
    one = moved(1)
    sentences = said(one, dict(one), dict(BASE))
    assert "math/final and code/final are identical" in only(sentences, "identical")
    assert only(sentences, "equals the base model").startswith("chat/final")


def test_nearly_equal_models_are_not_called_identical() -> None:
    one = moved(1)
    other = {**one, "model.norm.weight": one["model.norm.weight"].clone()}
    other["model.norm.weight"][0] *= 1.01
    assert not [sentence for sentence in said(one, other) if "identical" in sentence]


def test_tiny_and_far_changes_are_named_with_their_size() -> None:
    assert "relative norm 2e-05" in only(said(moved(1, 2e-5), moved(2)), "hardly differs")
    assert "relative norm up to 0.4" in only(said(moved(1, 0.4), moved(2)), "far from the base")
    assert "as an unrelated one" in only(said(moved(1, 1.4)), "alignment")


def test_models_of_unequal_length_are_named() -> None:
    assert "code/final moved 9.9 times as far as math/final" in only(
        said(moved(1, 0.005), moved(2, 0.05)), "times as far"
    )


def test_a_model_that_left_layers_or_parts_alone_is_told_where_it_changed() -> None:
    late = only(said(moved(1, where=lambda name: "layers.2" in name or "layers.3" in name)), "only in")
    assert "layers 2-3" in late
    part = only(said(moved(1, where=lambda name: "self_attn" in name)), "only in")
    assert part.endswith("only in attention")


def test_entries_that_are_not_finite_are_named_by_model_and_tensor() -> None:
    one = moved(1)
    one["model.norm.weight"] = one["model.norm.weight"].clone()
    one["model.norm.weight"][3] = torch.nan
    assert said(one)[0].startswith("final has 1 entry that is not finite, in model.norm.weight")
    spoilt = {**BASE, "model.norm.weight": one["model.norm.weight"]}
    assert said(moved(2), base=spoilt)[0].startswith("the base model has 1 entry")


def test_sparse_changes_may_be_trimmed() -> None:
    one = {
        name: torch.where(normal(tuple(tensor.shape), f"kept {name}", 0) > 1.3, tensor, BASE[name])
        for name, tensor in moved(1).items()
    }
    assert "at least 100% of the norm" in only(said(one), "density 0.2 costs little")


def test_models_without_numbers_have_a_sentence() -> None:
    assert summary(
        diagnose([MemoryCheckpoint({"n": torch.tensor([1])})], MemoryCheckpoint({"n": torch.tensor([1])}), cache=False)
    ) == ["the models have no tensors of numbers to compare"]


def test_what_holds_for_all_models_is_said_once_for_all() -> None:
    late = [moved(seed, where=lambda name: "layers.2" in name or "layers.3" in name) for seed in (1, 2, 3)]
    assert only(said(*late), "only in").startswith("all three models differ from the base model only in layers 2-3")
    two = [*late[:2], moved(3)]
    assert only(said(*two), "only in").startswith("math/final and code/final differ from the base model only in")
    slight = said(*(moved(seed, 2e-5) for seed in (1, 2, 3)))
    assert only(slight, "hardly differ").startswith("all three models hardly differ")
    still = said(dict(BASE), dict(BASE), dict(BASE))
    assert only(still, "equal the base model").startswith("all three models equal the base model in every entry: they")


def test_models_that_share_a_direction_with_each_other_are_named_together() -> None:
    one = moved(1)
    others = [
        {name: one[name] if "self_attn" in name else tensor for name, tensor in moved(seed).items()} for seed in (2, 3)
    ]
    sentence = only(said(one, *others), "same way")
    assert sentence.startswith("all three models point the same way in attention of all layers (cosine 1.00)")
    assert sentence.endswith("a sum multiplies it")
    same = only(said(one, dict(one), dict(one)), "identical")
    assert same.startswith("all three models are identical: as three models they count three times")


def test_pairs_that_are_no_group_are_named_one_by_one() -> None:
    one, other = moved(1), moved(2)
    mixed = {name: (one[name] + other[name]) / 2 for name in one}
    sentences = [sentence for sentence in said(one, other, mixed) if "same way" in sentence]
    assert {sentence.partition(" point")[0] for sentence in sentences} == {
        "math/final and chat/final",
        "code/final and chat/final",
    }
