"""Linear maps of stored tensors: taken apart and put together again, and what a matrix method is handed."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import given
from hypothesis import strategies as st

from merging.methods.declare import find_method
from merging.methods.layout import Layout
from tests.tiny import normal

layouts = st.builds(Layout, st.booleans(), st.booleans(), st.integers(1, 3), st.sampled_from([1, 2, 4]))
shapes = st.lists(st.integers(0, 6).map(lambda side: 2 * side), min_size=1, max_size=4).map(tuple)


@given(layouts, shapes)
def test_what_is_taken_apart_goes_together_again(layout: Layout, shape: tuple[int, ...]) -> None:
    entries = torch.arange(float(prod(shape)))
    maps = layout.split(entries, shape)
    assert len(maps) == len(layout.labels(shape))
    assert {tuple(each.shape) for each in maps} <= {layout.sides(shape)}
    assert torch.equal(layout.join(maps, shape), entries)


@given(layouts, shapes)
def test_operands_of_several_models_are_taken_apart_alike(layout: Layout, shape: tuple[int, ...]) -> None:
    entries = torch.arange(3.0 * prod(shape)).view(3, -1)
    together = layout.split(entries, shape)
    alone = [layout.split(each, shape) for each in entries]
    assert all(torch.equal(maps[i], alone[i][k]) for k, maps in enumerate(together) for i in range(3))


def test_projections_of_gpt_neox_alternate_within_a_head() -> None:
    """Its model views the outputs as (heads, 3 head_dim) and cuts every head in three."""
    heads, width, inputs = 4, 5, 6
    weight, x = normal((heads * 3 * width, inputs), "w", 0), normal((inputs,), "x", 0)
    expected = (weight @ x).view(heads, 3 * width).chunk(3, -1)
    found = Layout(parts=3, heads=heads).split(weight.flatten(), tuple(weight.shape))
    for part, map_ in zip(expected, found, strict=True):
        torch.testing.assert_close(map_ @ x, part.flatten())


def test_opcm_leaves_kernels_of_convolutions_to_the_plain_sum() -> None:
    shape = (8, 3, 3, 3)
    assert find_method("opcm").reach(shape) == "span" and find_method("tsv_merge").reach(shape) == "matrix"
    assert find_method("opcm").reach((8, 27)) == "matrix"
    assert find_method("opcm").reach((2, 8, 27), layout=Layout(each=True)) == "matrix"


def test_packed_experts_have_no_statistics_of_inputs_in_common() -> None:
    assert find_method("regmean").reach((2, 8, 6), layout=Layout(each=True)) == "span"
    assert find_method("regmean").reach((8, 6), layout=Layout(each=True)) == "matrix"
