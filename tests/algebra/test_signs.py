from __future__ import annotations

import torch

from merging.algebra.signs import disjoint_mean, disjoint_sum, elect_sign, sum_models


def random(seed=0, models=3):
    return torch.randn(models, 300, generator=torch.Generator().manual_seed(seed))


def test_the_larger_mass_elects_the_sign():
    assert elect_sign(torch.tensor([[3.0, -3.0], [-1.0, 1.0], [-1.0, 1.0]])).tolist() == [1, -1]


def test_an_even_vote_goes_to_the_stated_side():
    even = torch.tensor([[2.0, 0.0, -0.0], [-2.0, 0.0, -0.0]])
    assert elect_sign(even).tolist() == [1, 1, 1]
    assert elect_sign(even, tie=-1).tolist() == [-1, -1, -1]


def test_the_disjoint_sums_of_both_signs_add_up_to_the_sum():
    x = random()
    one = torch.ones(300)
    assert torch.allclose(disjoint_sum(x, one) + disjoint_sum(x, -one), sum_models(x), atol=1e-6)


def test_agreeing_models_are_averaged_by_weight():
    weighted = torch.tensor([[2.0], [3.0], [-1.0]])
    assert disjoint_mean(weighted, torch.ones(1), torch.tensor([[1.0], [3.0], [5.0]])).tolist() == [1.25]


def test_zeros_agree_with_no_one():
    assert disjoint_mean(torch.tensor([[4.0], [0.0]]), torch.ones(1), torch.ones(2, 1)).tolist() == [4.0]
    assert disjoint_mean(torch.zeros(2, 1), torch.ones(1), torch.ones(2, 1)).tolist() == [0.0]


def test_a_divisor_of_zero_counts_as_one():
    weighted = torch.tensor([[2.0], [2.0]])
    assert disjoint_mean(weighted, torch.ones(1), torch.tensor([[1.0], [-1.0]])).tolist() == [4.0]


def test_not_a_number_is_never_voted_away():
    x = torch.tensor([[float("nan")], [1.0]])
    sign = elect_sign(x)
    assert disjoint_sum(x, sign).isnan().all()
    assert disjoint_mean(x, sign, torch.ones(2, 1)).isnan().all()


def test_arguments_are_left_alone():
    x, sign, weight = random(), elect_sign(random()), torch.ones(3, 1)
    before = x.clone(), sign.clone(), weight.clone()
    elect_sign(x), disjoint_sum(x, sign), disjoint_mean(x, sign, weight), sum_models(x)
    assert all(map(torch.equal, before, (x, sign, weight)))
