"""Tensors that share their storage when a model is loaded: stored once, twice, or once here and twice there."""

from __future__ import annotations

import pytest
import torch

from merging.planning.build import plan
from tests.planning.models import TIES, Models, changed, jobs, models, problem, without

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def _tied(stored: str) -> Models:
    """Tied Llamas; the head is stored again in the models whose keys `stored` lists."""
    found = models(tied=True)
    return {
        key: changed(model, lambda held: held | {HEAD: held[EMBEDDING].clone()}) if key in stored.split() else model
        for key, model in found.items()
    }


@pytest.mark.parametrize("stored", ["a", "a b"])
def test_a_duplicate_that_the_base_does_not_store_is_not_written(stored: str) -> None:
    made = plan(TIES, checkpoints=_tied(stored))
    assert HEAD not in jobs(made) and not made.warnings


@pytest.mark.parametrize("stored", ["base", "base a", "base a b"])
def test_a_stored_duplicate_repeats_its_partner_and_is_not_counted(stored: str) -> None:
    made = jobs(plan(TIES + "tokenizer_source: base\n", checkpoints=_tied(stored)))
    head, embedding = made[HEAD], made[EMBEDDING]
    assert (head.operands, head.base, head.parameters) == (embedding.operands, embedding.base, embedding.parameters)
    assert not head.counted and embedding.counted
    assert head.note == f"tied to {EMBEDDING}" and head.role == "head"


def test_a_duplicate_asks_for_its_parameters_as_the_tensor_it_repeats() -> None:
    recipe = TIES.replace("density: 0.4", "density: [{filter: embed_tokens, value: 0.1}, {value: 0.4}]")
    made = jobs(plan(recipe, checkpoints=_tied("base a b")))
    assert made[HEAD].parameters["density"] == made[EMBEDDING].parameters["density"] == (0.1, 0.1)


def test_a_filter_for_a_tied_head_matches_nothing() -> None:
    recipe = TIES.replace("density: 0.4", "density: [{filter: lm_head, value: 0.1}, {value: 0.4}]")
    assert "matches no tensor" in problem(recipe, _tied("base a b"))


def test_a_tied_model_lends_its_embedding_to_an_untied_merge() -> None:
    found = models()
    found["a"] = changed(without(found["a"], HEAD), tie_word_embeddings=True)
    made = jobs(plan(TIES, checkpoints=found))
    assert [each.name for each in made[HEAD].operands] == [EMBEDDING, HEAD]
    assert made[HEAD].counted


def test_a_head_trained_apart_is_not_lost_silently() -> None:
    found = models(tied=True)
    found["a"] = models()["a"]
    text = problem(TIES, found)
    assert f"a has its own {HEAD}, which base ties to {EMBEDDING}" in text
    made = plan(TIES + "extra_tensors: drop\n", checkpoints=found)
    assert HEAD not in jobs(made) and any("does not tie" in warning for warning in made.warnings)


def test_a_bare_file_is_recognised_by_the_config_of_the_others() -> None:
    found = _tied("base a")
    found["a"] = changed(found["a"], **dict.fromkeys(found["a"].config))
    assert found["a"].config == {}
    assert plan(TIES, checkpoints=found).config == found["base"].config


def test_every_duplicate_of_t5_repeats_the_shared_embedding() -> None:
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD)
    found = {
        key: changed(model, lambda held: held | {name: held["shared.weight"].clone() for name in copies})
        for key, model in models("t5").items()
    }
    made = jobs(plan(TIES, checkpoints=found))
    assert all(not made[name].counted and made[name].operands == made["shared.weight"].operands for name in copies)


def test_an_untied_t5_keeps_its_head_but_ties_its_embeddings() -> None:
    copies = ("encoder.embed_tokens.weight", HEAD)
    found = {
        key: changed(
            model,
            lambda held: held | {name: held["shared.weight"].clone() for name in copies},
            tie_word_embeddings=False,
        )
        for key, model in models("t5").items()
    }
    made = jobs(plan(TIES, checkpoints=found))
    assert made[HEAD].counted and made[HEAD].operands[0].name == HEAD
    assert not made["encoder.embed_tokens.weight"].counted


@pytest.mark.parametrize(("kind", "name"), [("gpt2", HEAD), ("bert", "cls.predictions.decoder.weight")])
def test_what_a_family_ties_by_default_needs_no_config_key(kind: str, name: str) -> None:
    found = models(kind)
    assert "tie_word_embeddings" not in found["base"].config
    embedding = next(iter(found["base"].specs))
    found["a"] = changed(found["a"], lambda held: held | {name: held[embedding].clone()})
    assert name not in jobs(plan(TIES, checkpoints=found))


def test_tensors_that_are_tied_but_differ_in_shape_are_merged_apart() -> None:
    found = {
        key: changed(model, lambda held: held | {HEAD: torch.ones(4, 64)}) for key, model in models(tied=True).items()
    }
    made = jobs(plan(TIES, checkpoints=found))
    assert made[HEAD].counted and made[HEAD].spec.shape == (4, 64)
