"""LoRA adapters against the formula in float64, and the refusal of all that is not plain LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from merging.checkpoint.adapters import AdaptedCheckpoint, open_adapter
from merging.checkpoint.tensors import MemoryCheckpoint
from merging.errors import CheckpointError, MatchError, MergingError

PREFIX = "base_model.model."
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "init_lora_weights": True, "use_dora": False}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 31 * sum(shape)))


def adapted(folder: Path, base: dict[str, Tensor], tensors: dict[str, Tensor], **config: Any) -> AdaptedCheckpoint:
    save_file({PREFIX + name: x.contiguous() for name, x in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    return AdaptedCheckpoint(MemoryCheckpoint(base), open_adapter(folder))


def linear(module: str, rows: int, columns: int, rank: int = 4) -> dict[str, Tensor]:
    return {
        f"{module}.lora_A.weight": random(rank, columns, seed=1),
        f"{module}.lora_B.weight": random(rows, rank, seed=2),
    }


def expected(base: Tensor, tensors: dict[str, Tensor], module: str, scale: float, transposed: bool = False) -> Tensor:
    """base + scale * B A, in float64."""
    up, down = tensors[f"{module}.lora_B.weight"].double(), tensors[f"{module}.lora_A.weight"].double()
    product = (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])
    return base.double() + scale * (product.T if transposed else product)


def close(checkpoint: AdaptedCheckpoint, name: str, wanted: Tensor) -> bool:
    read = checkpoint.read(name)
    assert read.dtype == torch.float32
    assert checkpoint.specs[name].dtype == "F32"
    return torch.allclose(read.reshape(wanted.shape).double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_linear_layer_gets_scale_times_b_a(dtype: torch.dtype, tmp_path: Path) -> None:
    base = {"q.weight": random(9, 7).to(dtype), "k.weight": random(3, 3).to(dtype)}
    tensors = linear("q", 9, 7)
    checkpoint = adapted(tmp_path, base, tensors)
    assert close(checkpoint, "q.weight", expected(base["q.weight"], tensors, "q", 6 / 4))
    assert torch.equal(checkpoint.read("k.weight"), base["k.weight"].reshape(-1))


def test_nothing_is_rounded_to_the_dtype_of_the_base(tmp_path: Path) -> None:
    base = {"q.weight": torch.ones(2, 2).bfloat16()}
    tensors = {"q.lora_A.weight": torch.full((4, 2), 1e-4), "q.lora_B.weight": torch.full((2, 4), 1e-2)}
    assert adapted(tmp_path, base, tensors).read("q.weight")[0] > 1


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 3.0)])
def test_rank_stabilised_lora_divides_by_the_root(rslora: bool, scale: float, tmp_path: Path) -> None:
    base, tensors = {"q.weight": random(5, 6)}, linear("q", 5, 6)
    checkpoint = adapted(tmp_path, base, tensors, use_rslora=rslora)
    assert close(checkpoint, "q.weight", expected(base["q.weight"], tensors, "q", scale))


def test_patterns_set_rank_and_scale_of_single_modules(tmp_path: Path) -> None:
    modules = {"layers.0.q": 4, "layers.1.q": 2, "layers.11.q": 4, "head": 3}
    base = {f"{module}.weight": random(5, 6) for module in modules}
    tensors = {name: x for module, rank in modules.items() for name, x in linear(module, 5, 6, rank).items()}
    checkpoint = adapted(
        tmp_path,
        base,
        tensors,
        rank_pattern={"layers.1.q": 2, "^head": 3},
        alpha_pattern={"1.q": 10, "head|tail": 30},
    )
    for module, scale in {"layers.0.q": 6 / 4, "layers.1.q": 10 / 2, "layers.11.q": 6 / 4, "head": 30 / 3}.items():
        assert close(checkpoint, f"{module}.weight", expected(base[f"{module}.weight"], tensors, module, scale)), module


@pytest.mark.parametrize(("rows", "columns"), [(5, 8), (6, 6)])
def test_a_layer_stored_transposed_gets_the_transpose(rows: int, columns: int, tmp_path: Path) -> None:
    base, tensors = {"c.weight": random(columns, rows)}, linear("c", rows, columns)
    checkpoint = adapted(tmp_path, base, tensors, fan_in_fan_out=True)
    assert close(checkpoint, "c.weight", expected(base["c.weight"], tensors, "c", 1.5, transposed=True))


def test_a_linear_layer_beside_transposed_ones_is_told_by_its_shape(tmp_path: Path) -> None:
    base = {"c.weight": random(8, 5), "head.weight": random(9, 3)}
    tensors = linear("c", 5, 8) | linear("head", 9, 3)
    checkpoint = adapted(tmp_path, base, tensors, fan_in_fan_out=True)
    assert close(checkpoint, "head.weight", expected(base["head.weight"], tensors, "head", 1.5))


def test_an_embedding_gets_the_transpose(tmp_path: Path) -> None:
    base = {"embed.weight": random(11, 5)}
    down, up = random(4, 11, seed=1), random(5, 4, seed=2)
    checkpoint = adapted(tmp_path, base, {"embed.lora_embedding_A": down, "embed.lora_embedding_B": up})
    assert close(checkpoint, "embed.weight", base["embed.weight"].double() + 1.5 * (up.double() @ down.double()).T)


def test_a_convolution_gets_the_product_in_its_shape(tmp_path: Path) -> None:
    base = {"conv.weight": random(6, 3, 2, 2)}
    tensors = {"conv.lora_A.weight": random(4, 3, 2, 2), "conv.lora_B.weight": random(6, 4, 1, 1)}
    assert close(adapted(tmp_path, base, tensors), "conv.weight", expected(base["conv.weight"], tensors, "conv", 1.5))


@pytest.mark.parametrize(("rows", "columns"), [(400, 250), (3, 70_000), (2000, 1), (1, 5)])
@pytest.mark.parametrize("across", [False, True])
def test_any_range_has_the_same_bits(rows: int, columns: int, across: bool, tmp_path: Path) -> None:
    base = {"q.weight": random(columns, rows) if across else random(rows, columns)}
    tensors = linear("q", rows, columns)
    checkpoint = adapted(tmp_path, base, tensors, fan_in_fan_out=across)
    whole = checkpoint.read("q.weight")
    assert torch.allclose(
        whole.double(), expected(base["q.weight"], tensors, "q", 1.5, across).reshape(-1), rtol=1e-5, atol=1e-5
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        a, b = sorted(torch.randint(0, len(whole) + 1, (2,), generator=generator).tolist())
        assert torch.equal(checkpoint.read("q.weight", a, b), whole[a:b])


def test_bits_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    checkpoint = adapted(tmp_path, {"q.weight": random(700, 300)}, linear("q", 700, 300, rank=64), r=64)
    before = torch.get_num_threads()
    read = []
    for count in (1, 2):
        torch.set_num_threads(count)
        read.append(checkpoint.read("q.weight"))
    torch.set_num_threads(before)
    assert torch.equal(*read)


def test_reading_changes_no_base_tensor(tmp_path: Path) -> None:
    base = {"q.weight": random(5, 6)}
    kept = base["q.weight"].clone()
    adapted(tmp_path, base, linear("q", 5, 6)).read("q.weight")
    assert torch.equal(base["q.weight"], kept)


def test_modules_to_save_replace_or_join_the_base_models_tensors(tmp_path: Path) -> None:
    base = {"q.weight": random(5, 6), "score.weight": torch.zeros(2, 6)}
    whole = {"score.weight": torch.ones(2, 6).half(), "score.bias": torch.ones(2)}
    checkpoint = adapted(tmp_path, base, linear("q", 5, 6) | whole, modules_to_save=["score"])
    assert list(checkpoint.specs) == ["q.weight", "score.weight", "score.bias"]
    assert checkpoint.specs["score.weight"].dtype == "F16"
    assert checkpoint.read("score.weight").all()
    assert checkpoint.read("score.bias", 1, 2).tolist() == [1]


def test_the_copy_of_a_replaced_module_is_passed_over(tmp_path: Path) -> None:
    base = {"q.weight": random(5, 6), "score.bias": torch.zeros(2)}
    whole = {"score.bias": torch.ones(2), "score.original_module.bias": torch.zeros(2)}
    checkpoint = adapted(tmp_path, base, linear("q", 5, 6) | whole, modules_to_save=["score"])
    assert list(checkpoint.specs) == ["q.weight", "score.bias"]
    assert checkpoint.read("score.bias").all()


def test_a_saved_embedding_is_the_base_of_its_own_update(tmp_path: Path) -> None:
    base, resized = {"embed.weight": random(10, 5)}, random(12, 5, seed=7)
    down, up = random(4, 12, seed=1), random(5, 4, seed=2)
    tensors = {"embed.base_layer.weight": resized, "embed.lora_embedding_A": down, "embed.lora_embedding_B": up}
    checkpoint = adapted(tmp_path, base, tensors)
    assert close(checkpoint, "embed.weight", resized.double() + 1.5 * (up.double() @ down.double()).T)


@pytest.mark.parametrize(
    ("stored", "named"),
    [("h.0.q", "transformer.h.0.q"), ("bert.layer.q", "layer.q"), ("model.h.0.q", "model.h.0.q")],
)
def test_one_prefix_more_or_less_is_bridged(stored: str, named: str, tmp_path: Path) -> None:
    base = {f"{stored}.weight": random(5, 6), f"{stored}2.weight": random(5, 6)}
    tensors = linear(named, 5, 6) | linear(f"{named}2", 5, 6)
    checkpoint = adapted(tmp_path, base, tensors)
    assert close(checkpoint, f"{stored}.weight", expected(base[f"{stored}.weight"], tensors, named, 1.5))


def test_a_tensor_without_a_place_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    base = {"layers.0.q_proj.weight": random(5, 6)}
    tensors = linear("layers.0.q_proj", 5, 6) | linear("layers.1.q_proj", 5, 6) | {"layers.0.q_proj.bias": random(5)}
    with pytest.raises(MergingError) as caught:
        adapted(tmp_path, base, tensors)
    text = str(caught.value)
    assert "no tensor 'layers.1.q_proj.weight'" in text
    assert "nearest: layers.0.q_proj.weight" in text
    assert "no tensor 'layers.0.q_proj.bias'" in text


@pytest.mark.parametrize(
    ("shape", "rank", "error"),
    [((6, 5), 4, MatchError), ((5, 7), 4, MatchError), ((5, 6), 3, CheckpointError)],
)
def test_factors_that_do_not_fit_are_refused(
    shape: tuple[int, int], rank: int, error: type[MergingError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        adapted(tmp_path, {"q.weight": random(*shape)}, linear("q", 5, 6, rank))


@pytest.mark.parametrize(
    "tensors",
    [
        {"q.lora_A.weight": random(4, 6)},
        {"q.lora_A.weight": random(4, 6), "q.lora_B.weight": random(5, 3)},
        {**linear("q", 5, 6), "q.lora_magnitude_vector": random(5)},
        {**linear("q", 5, 6), "q.lora_B.bias": random(5)},
        {"q.lora_A.weight": torch.ones(4, 6, dtype=torch.int8), "q.lora_B.weight": torch.ones(5, 4, dtype=torch.int8)},
    ],
)
def test_tensors_that_are_not_two_factors_are_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        adapted(tmp_path, {"q.weight": random(5, 6)}, tensors)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "of type 'IA3'"),
        ({"use_dora": True}, "uses DoRA"),
        ({"alora_invocation_tokens": [1, 2]}, "uses activated LoRA"),
        ({"target_parameters": ["experts.w"]}, "uses LoRA on bare parameters"),
        ({"trainable_token_indices": [5]}, "uses trained single tokens"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "uses replicated layers"),
        ({"something_of_next_year": 1}, "uses something_of_next_year"),
        ({"init_lora_weights": "pissa_niter_4"}, "started by 'pissa_niter_4', which changes the base model"),
        ({"init_lora_weights": "loftq"}, "started by 'loftq'"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"r": 5}, "the factors have rank 4"),
        ({"alpha_pattern": ["q"]}, "alpha_pattern is"),
        ({"alpha_pattern": {"(a+)+b": 1}}, "is too intricate"),
        ({"alpha_pattern": {"(": 1}}, "is not valid"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(MergingError) as caught:
        adapted(tmp_path, {"q.weight": random(5, 6)}, linear("q", 5, 6), **config)
    assert words in str(caught.value)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no adapter"):
        open_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(CheckpointError, match="has no weights"):
        open_adapter(tmp_path)


def test_adapters_of_one_base_have_their_own_fingerprints(tmp_path: Path) -> None:
    base = {"q.weight": random(5, 6)}
    found = set()
    for i, config in enumerate(({}, {"lora_alpha": 7}, {})):
        folder = tmp_path / str(i)
        folder.mkdir()
        tensors = linear("q", 5, 6)
        if i == 2:
            tensors["q.lora_A.weight"] = tensors["q.lora_A.weight"] + 1
        found.add(adapted(folder, base, tensors, **config).fingerprint)
    assert len(found) == 3
