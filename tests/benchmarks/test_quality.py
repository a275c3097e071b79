"""The table of merged encoders on a toy: a random encoder, two tasks of made-up words, and the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import merging
from benchmarks.quality import encoder as encoders
from benchmarks.quality.__main__ import main, row_of
from benchmarks.quality.finetune import MARK, Training, is_finished, settings
from benchmarks.quality.judge import Judge
from benchmarks.quality.statistics import fisher, gram_inputs
from benchmarks.quality.texts import Texts

WORDS = ("red", "green", "blue", "round", "square", "flat", "loud", "still")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("base")
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(words), max_position_embeddings=12, initializer_range=0.5, **sizes)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw = torch.Generator().manual_seed(0)
    tasks = {"colour": WORDS[:3], "shape": WORDS[3:6]}
    for task, classes in tasks.items():
        (folder / task).mkdir()
        for part, count in (("train", 40), ("val", 12), ("test", 20)):
            rows = []
            for _ in range(count):
                label = int(torch.randint(len(classes), (), generator=draw))
                others = torch.randint(len(WORDS), (int(torch.randint(6, (), generator=draw)),), generator=draw)
                rows.append(f"{label}\t{' '.join([classes[label], *(WORDS[i] for i in others.tolist())])}\n")
            (folder / task / f"{part}.tsv").write_text("".join(rows))
    told = {task: {"labels": list(classes), "prompts": list(classes)} for task, classes in tasks.items()}
    (folder / "tasks.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def work(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    measure(base, data, folder, "--steps", "3", "--methods", "task_arithmetic,slerp")
    return folder


def measure(base: Path, data: Path, folder: Path, *options: str) -> dict[str, Any]:
    main(["--data", str(data), "--folder", str(folder), "--base", str(base), "--threads", "1", *options])
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_a_run_leaves_scores_of_the_models_and_a_row_for_every_method(work: Path) -> None:
    result = json.loads((work / "result.json").read_text())
    assert set(result["references"]["fine_tuned"]["test"]) == {"colour", "shape"}
    slerp, added = result["rows"]
    assert slerp["reason"] == "takes 2 models, one of them the base model"
    assert added["default"]["settings"] == {"lambda": 0.3}
    assert not added["read_off"]
    assert set(added["best"]["test"]) == {"colour", "shape"}
    assert sum(added["best"]["validation"].values()) >= sum(added["default"]["validation"].values())
    assert added["best"]["seconds"] > 0 and added["tried"] > 3


def test_a_second_run_measures_and_trains_nothing_again(base: Path, data: Path, work: Path) -> None:
    files = [work / "records.jsonl", *sorted((work / "models").rglob("*.safetensors"))]
    before = [file.stat().st_mtime_ns for file in files]
    rows = json.loads((work / "result.json").read_text())["rows"]
    again = measure(base, data, work, "--steps", "3", "--methods", "task_arithmetic,slerp")
    assert [file.stat().st_mtime_ns for file in files] == before
    assert again["rows"] == rows


def test_a_fine_tune_differs_from_the_base_in_what_is_trained_and_in_nothing_else(work: Path) -> None:
    from safetensors.torch import load_file

    first, then = (load_file(work / "models" / name / "model.safetensors") for name in ("base", "colour"))
    assert set(first) == set(then)
    frozen = {name for name in first if name.startswith(encoders.FROZEN)}
    assert len(frozen) == 3
    assert {name for name in first if torch.equal(first[name], then[name])} == frozen


def test_a_fine_tune_with_other_settings_is_not_taken_for_the_wanted_one(base: Path, data: Path, work: Path) -> None:
    texts = Texts(data, base, work / "tokens")
    place = work / "models" / "shape"
    assert is_finished(place, settings(texts, "shape", Training(steps=3)))
    assert not is_finished(place, settings(texts, "shape", Training(steps=4)))
    assert not is_finished(place, settings(texts, "colour", Training(steps=3)))


def test_a_fine_tune_that_was_not_finished_is_made_again_with_the_same_bytes(
    base: Path, data: Path, work: Path, tmp_path: Path
) -> None:
    measure(base, data, tmp_path, "--steps", "3", "--tasks", "shape", "--methods", "slerp")
    weights = tmp_path / "models" / "shape" / "model.safetensors"
    assert weights.read_bytes() == (work / "models" / "shape" / "model.safetensors").read_bytes()
    (tmp_path / "models" / "shape" / MARK).unlink()
    weights.write_bytes(b"half")
    measure(base, data, tmp_path, "--steps", "3", "--tasks", "shape", "--methods", "slerp")
    assert weights.read_bytes() == (work / "models" / "shape" / "model.safetensors").read_bytes()


def test_training_lowers_the_loss_at_its_own_task(base: Path, data: Path, tmp_path: Path) -> None:
    from benchmarks.quality.finetune import fine_tune

    texts = Texts(data, base, tmp_path)
    encoder = encoders.load(base)
    head = encoders.heads(encoder, texts)["colour"]
    first = fine_tune(encoder, head, texts.split("colour", "train"), Training(rate=1e-3, steps=1))
    last = fine_tune(encoder, head, texts.split("colour", "train"), Training(rate=2e-3, epochs=60))
    assert last["last_loss"] < first["last_loss"] / 2
    assert last["norm"] > first["norm"] > 0


def test_scores_are_those_of_one_example_at_a_time(base: Path, data: Path, tmp_path: Path) -> None:
    texts = Texts(data, base, tmp_path)
    encoder = encoders.load(base)
    heads = encoders.heads(encoder, texts)
    splits = {task: texts.split(task, "test") for task in texts.tasks}
    weights = encoders.read(base, encoders.trained(encoder))
    expected = {}
    with torch.no_grad():
        for task, split in splits.items():
            vectors = [encoder(row[None]).last_hidden_state[0].mean(0) for row in split.rows]
            cosines = [torch.cosine_similarity(vector[None], heads[task]) for vector in vectors]
            right = [int(cosine.argmax()) == int(label) for cosine, label in zip(cosines, split.labels, strict=True)]
            expected[task] = sum(right) / len(right)
    assert Judge(encoder, heads, splits).score(weights) == expected


def test_weights_that_are_not_finite_read_nothing_right(base: Path, data: Path, tmp_path: Path) -> None:
    texts = Texts(data, base, tmp_path)
    encoder = encoders.load(base)
    weights = encoders.read(base, encoders.trained(encoder))
    weights["encoder.layer.0.output.dense.weight"][0, 0] = torch.nan
    judge = Judge(encoder, encoders.heads(encoder, texts), {task: texts.split(task, "val") for task in texts.tasks})
    assert judge.score(weights) == {"colour": 0.0, "shape": 0.0}


def test_padding_changes_no_embedding(base: Path, data: Path, tmp_path: Path) -> None:
    texts = Texts(data, base, tmp_path)
    rows = texts.split("shape", "val").rows[:5]
    lengths = torch.tensor([len(row) for row in rows])
    encoder = encoders.load(base)
    with torch.no_grad():
        together = encoders.embed(encoder, torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths)
        alone = torch.cat([encoders.embed(encoder, row[None]) for row in rows])
    assert lengths.unique().numel() > 1
    torch.testing.assert_close(together, alone)


def test_a_method_that_breaks_is_a_row_that_says_so() -> None:
    class Broken:
        def measure(self, method: Any) -> Any:
            raise RuntimeError(f"{method.name} has no luck")

    row = row_of(Broken(), merging.all_methods()["linear"])
    assert row["failed"] == "RuntimeError: linear has no luck"


def test_models_that_are_read_off_are_scored_at_their_own_task_each(base: Path, data: Path, work: Path) -> None:
    row = measure(base, data, work, "--steps", "3", "--methods", "tall_masks", "--rounds", "1")["rows"][0]
    assert row["read_off"]
    assert set(row["best"]["test"]) == {"colour", "shape"}
    assert "task" not in row["best"]["settings"]
    keys = [json.loads(line)["key"] for line in (work / "records.jsonl").read_text().splitlines()]
    merges = [key["settings"] for key in keys if key.get("method") == "tall_masks"]
    assert sorted(settings["task"] for settings in merges) == [1] * row["tried"] + [2] * row["tried"]


def test_fisher_information_is_the_mean_square_of_each_examples_gradient(
    base: Path, data: Path, tmp_path: Path
) -> None:
    texts = Texts(data, base, tmp_path)
    encoder = encoders.load(base)
    head = encoders.heads(encoder, texts)["colour"][:1]
    # Of a head of one class every likelihood is 1, so that nothing is learned about any entry.
    assert not any(x.any() for x in fisher(encoder, head, texts.split("colour", "val"), 20.0).values())
    head, split = encoders.heads(encoder, texts)["colour"], texts.split("colour", "val")
    # At this scale the class that is drawn is the most likely one.
    found = fisher(encoder, head, split, 1e4)
    name = "encoder.layer.1.output.dense.bias"
    entries = dict(encoder.named_parameters())[name]
    expected = torch.zeros_like(entries)
    for row in split.rows:
        logits = 1e4 * encoders.embed(encoder, row[None]) @ head.T
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, logits.argmax(1)), entries)
        expected += slope**2 / len(split)
    assert set(found) == set(encoders.trained(encoder))
    torch.testing.assert_close(found[name], expected)


def test_input_grams_are_the_mean_over_all_tokens(base: Path, data: Path, tmp_path: Path) -> None:
    texts = Texts(data, base, tmp_path)
    encoder = encoders.load(base)
    split = texts.split("shape", "val")
    found = gram_inputs(encoder, torch.empty(0), split, 1.0)
    with torch.no_grad():
        inputs = torch.cat([encoder.embeddings(row[None])[0] for row in split.rows]).double()
    expected = (inputs.T @ inputs / len(inputs)).float()
    torch.testing.assert_close(found["encoder.layer.0.attention.self.query.weight"], expected)
    shapes = {name: x.shape for name, x in encoder.named_parameters() if x.dim() == 2 and x.requires_grad}
    assert {name: x.shape[0] for name, x in found.items()} == {name: shape[1] for name, shape in shapes.items()}


def test_methods_are_given_the_statistics_that_they_ask_for(base: Path, data: Path, work: Path) -> None:
    rows = measure(base, data, work, "--steps", "3", "--methods", "fisher,regmean", "--rounds", "1")["rows"]
    assert [row["companions"] for row in rows] == [["fisher"], ["gram_inputs"]]
    assert all("best" in row for row in rows)
    assert len(list((work / "statistics").iterdir())) == 4


def test_an_unknown_task_or_method_is_refused(base: Path, data: Path, work: Path) -> None:
    with pytest.raises(SystemExit, match="no task is called 'sound'"):
        measure(base, data, work, "--tasks", "sound")
    with pytest.raises(SystemExit, match="no method is called 'magic'"):
        measure(base, data, work, "--steps", "3", "--methods", "magic")
