"""Layouts of the family files, by what the models of transformers do with the weights."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from merging.families.family import recognise
from merging.methods.layout import Layout

with warnings.catch_warnings():
    # Warnings of other libraries' imports are not ours to fix.
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="the test extra brings it")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 11}


def model_of(kind: str, **sizes: int) -> Any:
    """A small model with random weights, biases too."""
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **sizes}, attn_implementation="eager")
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return model


def maps_of(model: Any, name: str) -> tuple[torch.Tensor, Layout]:
    """A tensor of a model, and how the family says that it is linear maps."""
    names = list(model.state_dict())
    place = recognise(model.config.to_dict(), names).place(name)
    return model.state_dict()[name], Layout.read(place.layout)


def without(model: Any, name: str, chosen: set[int]) -> None:
    """Put zeros in the place of some of the maps of a tensor."""
    stored, layout = maps_of(model, name)
    maps = layout.split(stored.flatten(), tuple(stored.shape))
    kept = [torch.zeros_like(each) if i in chosen else each for i, each in enumerate(maps)]
    stored.copy_(layout.join(kept, tuple(stored.shape)).view(stored.shape))


def output_of(model: Any, part: Any) -> torch.Tensor:
    """What a part of a model returns in a forward pass."""
    found = []
    hook = part.register_forward_hook(lambda *told: found.append(told[2]))
    with torch.no_grad():
        model(torch.arange(10).view(2, 5))
    hook.remove()
    return found[0][0] if isinstance(found[0], tuple) else found[0]


@pytest.mark.parametrize(
    ("kind", "sizes", "name", "attention", "last"),
    [
        (
            "GPTNeoX",
            {"intermediate_size": 32},
            "layers.0.attention.query_key_value",
            lambda model: model.layers[0].attention,
            lambda model: model.layers[0].attention.dense,
        ),
        ("GPT2", {}, "h.0.attn.c_attn", lambda model: model.h[0].attn, lambda model: model.h[0].attn.c_proj),
    ],
    ids=["gpt_neox", "gpt2"],
)
def test_without_the_third_map_there_are_no_values(kind: str, sizes: Any, name: str, attention: Any, last: Any) -> None:
    model = model_of(kind, **sizes)
    bias = model.state_dict()[f"{name}.bias"]
    bias.zero_()
    assert not torch.allclose(output_of(model, attention(model)), last(model).bias.expand(2, 5, 16))
    without(model, f"{name}.weight", {2})
    torch.testing.assert_close(output_of(model, attention(model)), last(model).bias.expand(2, 5, 16))


def test_without_every_experts_gate_a_mixture_is_silent() -> None:
    experts = 3
    model = model_of(
        "Mixtral", num_local_experts=experts, num_experts_per_tok=2, intermediate_size=8, num_key_value_heads=2
    )
    name = "layers.0.mlp.experts.gate_up_proj"
    assert len(maps_of(model, name)[1].labels(tuple(model.state_dict()[name].shape))) == 2 * experts
    assert output_of(model, model.layers[0].mlp).abs().max() > 0
    without(model, name, {2 * expert for expert in range(experts)})
    assert output_of(model, model.layers[0].mlp).abs().max() == 0


def test_weights_of_gpt2_are_turned_and_those_of_its_bigger_sister_are_not() -> None:
    model = model_of("GPT2")
    stored, layout = maps_of(model, "h.0.mlp.c_fc.weight")
    assert layout.sides(tuple(stored.shape)) == (4 * 16, 16)
    sister = model_of("GPTBigCode")
    stored, layout = maps_of(sister, "h.0.mlp.c_fc.weight")
    assert layout.sides(tuple(stored.shape)) == (4 * 16, 16)
