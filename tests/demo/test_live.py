"""Merges in memory, scored on real digits: the same numbers as the slow way, and clear refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sink import MemorySink
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.demo.live import LiveScorer, score_recipe
from merging.demo.scores import score
from merging.demo.trials import mean
from merging.demo.vit import initial, weights
from merging.demo.zoo import find_zoo
from merging.engine.merge import merge
from merging.errors import CheckpointError, MergingError, Problems
from merging.methods.declare import all_methods
from merging.recipe.recipe import ModelEntry, Recipe, Setting

ZOO = find_zoo()


@pytest.fixture(scope="module")
def scorer() -> Iterator[LiveScorer]:
    made = LiveScorer(ZOO, lanes=2)
    yield made
    made.close()


def recipe(method: str = "task_arithmetic", weight: float = 0.4, **parameters: float) -> Recipe:
    knobs = all_methods()[method].parameters
    own = {"weight": (Setting(weight),)} if "weight" in knobs else {}
    return Recipe(
        method,
        tuple(ModelEntry(str(path), own) for path in ZOO.fine_tunes.values()),
        base_model=str(ZOO.base),
        parameters={name: (Setting(value),) for name, value in parameters.items()},
    )


def base(**config: Any) -> MemoryCheckpoint:
    stored = open_checkpoint(ZOO.base)
    return MemoryCheckpoint(weights(stored), {**stored.config, **config}, "changed")


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "tsv_merge"])
def test_a_live_score_is_that_of_the_merge_written_and_scored_the_slow_way(scorer: LiveScorer, method: str) -> None:
    wish = recipe(method)
    sink = MemorySink(spec for spec in open_checkpoint(ZOO.base).specs.values())
    merge(wish, sink)
    slow = score(MemoryCheckpoint(sink.tensors(), open_checkpoint(ZOO.base).config), "test", ZOO)
    live = scorer.score_recipe(wish, "test")
    assert live.tasks == pytest.approx(slow, abs=1e-6) and live.mean == pytest.approx(mean(slow), abs=1e-6)
    assert live.digits == 400 and live.part == "test" and live.seconds_merge > 0


def test_fewer_digits_are_the_first_of_every_task_and_make_the_standard_error_larger(scorer: LiveScorer) -> None:
    model = scorer.open(str(ZOO.base))
    few, many = scorer.score(model, digits=50), scorer.score(model)
    assert few.digits == 50 and many.digits == 200
    assert few.error > many.error > 0
    right = few.tasks["inverted"] * 50
    assert right == pytest.approx(round(right))


def test_standard_errors_are_those_of_shares_and_the_mean_counts_each_digit_once(scorer: LiveScorer) -> None:
    found = scorer.score(scorer.open(str(ZOO.base)))
    for task, share in found.tasks.items():
        assert found.errors[task] == pytest.approx((share * (1 - share) / 200) ** 0.5)
    # Were the tasks independent, the mean over them would be known this much better.
    independent = sum(error**2 for error in found.errors.values()) ** 0.5 / len(found.errors)
    assert independent < found.error < max(found.errors.values())


def test_the_number_of_threads_changes_no_score() -> None:
    found = []
    for lanes in (1, 3):
        other = LiveScorer(ZOO, lanes=lanes)
        found.append(other.score_recipe(recipe("dare_ties"), digits=50))
        other.close()
    assert found[0].tasks == found[1].tasks and found[0].error == found[1].error


def test_a_weight_of_zero_leaves_a_model_out(scorer: LiveScorer) -> None:
    entries = [ModelEntry(str(path), {"weight": (Setting(0.0),)}) for path in ZOO.fine_tunes.values()]
    entries[0] = ModelEntry(entries[0].source, {"weight": (Setting(1.0),)})
    wish = Recipe("task_arithmetic", tuple(entries), base_model=str(ZOO.base))
    assert scorer.score_recipe(wish, digits=50).tasks == scorer.score(scorer.open(entries[0].source), digits=50).tasks


def test_a_recipe_may_be_text_or_a_file_that_names_its_models_from_its_folder(
    scorer: LiveScorer, tmp_path: Path
) -> None:
    (tmp_path / "zoo").symlink_to(ZOO.folder.resolve())
    text = "models:\n- model: zoo/rotated\n- model: zoo/mirrored\nbase_model: zoo/base\nmerge_method: task_arithmetic\n"
    (tmp_path / "recipe.yaml").write_text(text)
    found = scorer.score_recipe(tmp_path / "recipe.yaml", digits=20)
    absolute = scorer.score_recipe(text.replace("zoo/", f"{ZOO.folder.resolve()}/"), digits=20)
    assert found.tasks == absolute.tasks


def test_a_recipe_with_several_faults_is_refused_with_all_of_them(scorer: LiveScorer) -> None:
    with pytest.raises(Problems) as caught:
        scorer.score_recipe(recipe("ties", density=7.0, lamda=1.0))
    assert len(caught.value.problems) == 2


def test_a_scorer_for_one_recipe_gives_the_same(scorer: LiveScorer) -> None:
    assert score_recipe(recipe(), digits=20).tasks == scorer.score_recipe(recipe(), digits=20).tasks


def test_a_transformer_of_other_sizes_that_reads_the_same_images_is_scored(scorer: LiveScorer) -> None:
    config = {**open_checkpoint(ZOO.base).config, "hidden_size": 32, "num_hidden_layers": 2, "patch_size": 4}
    found = scorer.score(MemoryCheckpoint(initial(config, 0), config), digits=20)
    assert 0 <= found.mean < 0.5


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"image_size": 224}, "image_size is 224"),
        ({"num_channels": 3}, "num_channels is 3"),
        ({"id2label": {"0": "cat"}}, "it knows other labels"),
        ({"id2label": 10}, "it knows other labels"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_attention_heads": 3}, "hidden_size is 128"),
        ({"num_hidden_layers": 10**9}, "more layers than the model has tensors"),
    ],
)
def test_a_model_of_another_architecture_is_refused_with_what_is_different(
    scorer: LiveScorer, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        scorer.score(base(**config))


def test_tensors_that_do_not_fit_the_config_are_reported_together(scorer: LiveScorer) -> None:
    stored = open_checkpoint(ZOO.base)
    tensors = {name: x for name, x in weights(stored).items() if name != "classifier.bias"}
    tensors["vit.layernorm.weight"] = torch.ones(3)
    with pytest.raises(Problems) as caught:
        scorer.score(MemoryCheckpoint(tensors, stored.config))
    assert {problem.what for problem in caught.value.problems} == {
        "classifier.bias is missing",
        "vit.layernorm.weight has shape [3]",
    }


@pytest.mark.parametrize("digits", [0, 201])
def test_more_digits_than_there_are_cannot_be_asked_for(scorer: LiveScorer, digits: int) -> None:
    with pytest.raises(MergingError, match=f"no {digits} digits of validation"):
        scorer.score(scorer.open(str(ZOO.base)), digits=digits)


def test_tasks_may_be_named_and_then_only_those_are_scored(scorer: LiveScorer) -> None:
    model = scorer.open(str(ZOO.fine_tunes["inverted"]))
    whole, one = scorer.score(model, digits=50), scorer.score(model, digits=50, tasks=["inverted"])
    assert one.tasks == {"inverted": whole.tasks["inverted"]} and one.mean == whole.tasks["inverted"]


def test_products_place_a_merge_among_its_models(scorer: LiveScorer) -> None:
    models = [str(path) for path in ZOO.fine_tunes.values()][:3]
    names = list(scorer.open(str(ZOO.base)).specs)[:9]
    found = scorer.products(scorer.open(models[1]), str(ZOO.base), models, names)
    assert found.shape == (9, 4)
    base, fine_tunes = scorer.open(str(ZOO.base)), [scorer.open(model) for model in models]
    for name, row in zip(names, found, strict=True):
        changes = torch.stack([(each.read(name).float() - base.read(name).float()).double() for each in fine_tunes])
        expected = torch.cat([changes @ changes[1], (changes[1] @ changes[1])[None]])
        torch.testing.assert_close(row, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("tasks", [["no_such"], []])
def test_a_task_that_the_zoo_does_not_have_is_refused(scorer: LiveScorer, tasks: list[str]) -> None:
    with pytest.raises(MergingError, match="have no task"):
        scorer.score(scorer.open(str(ZOO.base)), digits=20, tasks=tasks)
