"""Doses, times, combinations, tables of embeddings, and what is hidden in training."""

from __future__ import annotations

import pytest
import torch

from transpert.errors import OptionError
from transpert.nn import ConditionOptions, FlowOptions, SetBatch

CURVE = ConditionOptions(dose="saturating")


def effect(network, cells, condition) -> torch.Tensor:
    out = network.transport(cells, condition)
    return out.x1_hat - out.x0_hat


@pytest.mark.parametrize("conditioning", ["seed", "cross"])
@pytest.mark.parametrize("dose", ["features", "saturating"])
def test_the_order_of_the_parts_does_not_matter(conditioning, dose, make_network, make_cells, conditions) -> None:
    network = make_network(conditions=ConditionOptions(conditioning=conditioning, dose=dose))
    a = effect(network, make_cells(), conditions([[1, 2, 0]] * 3, dose=[[0.5, 0.9, 0]] * 3))
    b = effect(network, make_cells(), conditions([[0, 2, 1]] * 3, dose=[[0, 0.9, 0.5]] * 3))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_the_effect_vanishes_with_the_dose(make_network, make_cells, conditions) -> None:
    network, x = make_network(conditions=CURVE), make_cells()
    sizes = [effect(network, x, conditions([[1]] * 3, dose=[[d]] * 3)).abs().mean() for d in (1.0, 1e-2, 1e-4)]
    assert sizes[0] > 10 * sizes[1] > 100 * sizes[2] > 0
    none = network.transport(x, conditions([[1]] * 3, dose=[[0.0]] * 3))
    assert torch.equal(none.x1_hat, none.x0_hat)


def test_a_part_without_a_dose_acts_in_full(make_network, make_cells, conditions) -> None:
    network, x = make_network(conditions=CURVE), make_cells()
    encoded = network.conditions(conditions([[1, 2], [1, 0], [0, 0]]))
    assert encoded.strength.tolist() == [1.0, 1.0, 0.0]
    assert effect(network, x, conditions([[1]] * 3)).abs().max() > 1e-2


def test_a_part_at_dose_zero_is_not_there(make_network, make_cells, conditions) -> None:
    network, x = make_network(conditions=CURVE), make_cells()
    both = effect(network, x, conditions([[1, 2]] * 3, dose=[[0.0, 0.7]] * 3))
    one = effect(network, x, conditions([[2, 0]] * 3, dose=[[0.7, 0.0]] * 3))
    torch.testing.assert_close(both, one)


def test_the_strength_rises_with_the_dose(make_network, conditions) -> None:
    network = make_network(conditions=CURVE)
    doses = torch.linspace(0, 4, 20)[:, None]
    strength = network.conditions(conditions(torch.ones(20, 1, dtype=torch.long), dose=doses)).strength
    assert (strength.diff() > 0).all() and strength[0] == 0 and strength[-1] < 1


def test_from_noise_the_change_is_not_scaled_by_the_dose(make_network, conditions) -> None:
    network = make_network(conditions=CURVE, flow={"prior": "gaussian"})
    encoded = network._encode_condition(conditions([[1], [1], [0]], dose=[[0.1], [0.0], [0.0]]), None)
    assert encoded.strength.tolist() == [1.0, 0.0, 0.0]


def test_time_zero_is_not_no_time(make_network, make_cells, conditions) -> None:
    network, x = make_network(), make_cells()
    given = conditions([[1]] * 3, has_time=torch.ones(3, dtype=torch.bool))
    missing = conditions([[1]] * 3, has_time=torch.zeros(3, dtype=torch.bool))
    late = conditions([[1]] * 3, time=[1.0] * 3, has_time=torch.zeros(3, dtype=torch.bool))
    assert not torch.allclose(effect(network, x, given), effect(network, x, missing))
    torch.testing.assert_close(effect(network, x, late), effect(network, x, missing))
    assert torch.equal(missing[torch.tensor([0])].to("cpu").has_time, torch.tensor([False]))


def test_contexts_are_hidden_by_the_generator(make_network, conditions, in_context) -> None:
    network = make_network(conditions=ConditionOptions(unknown_rate=0.5)).train()
    condition = in_context(conditions(torch.ones(200, 1, dtype=torch.long)), 2)
    first, second, other = (
        network.conditions(condition, generator=torch.Generator().manual_seed(seed)).tokens for seed in (0, 0, 1)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    unknown = network.conditions.contexts[0].weight[0]
    share = (first[:, 1] == unknown).all(dim=1).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("prior", ["control", "gaussian"])
def test_a_generator_makes_everything_repeatable(prior, make_network, make_cells, conditions) -> None:
    network = make_network(flow={"prior": prior},
                           conditions=ConditionOptions(unknown_rate=0.5)).train()  # fmt: skip
    batch = SetBatch(make_cells(), make_cells(seed=1), conditions([[1]] * 3))
    first, second, other = (
        network.losses(batch, generator=torch.Generator().manual_seed(seed))["total"].item() for seed in (0, 0, 1)
    )
    assert first == second != other
    moved = [network.eval().transport(batch.x0, batch.condition, generator=torch.Generator().manual_seed(seed)).x1_hat
             for seed in (0, 0, 1)]  # fmt: skip
    assert torch.equal(moved[0], moved[1])
    assert torch.equal(moved[0], moved[2]) == (prior == "control")


def test_steps_below_one_are_refused(make_network, make_cells, conditions) -> None:
    with pytest.raises(OptionError, match="steps is 0"):
        make_network().transport(make_cells(), conditions([[1]] * 3), steps=0)
    assert FlowOptions(steps=2).steps == 2


def test_a_gate_over_one_useful_table_is_a_weighted_sum_of_projections() -> None:
    from transpert.nn.conditions import TableGate

    gate = TableGate((2, 3), 4)
    features = torch.randn(5, 5)
    shares = gate.logits(features).softmax(dim=-1)
    first, second = gate.projections[0](features[:, :2]), gate.projections[1](features[:, 2:])
    expected = shares[:, :1] * first + shares[:, 1:] * second
    torch.testing.assert_close(gate(features), expected)
