"""The four objectives, the conversions between them, and the set distances against slow ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from transpert.nn import (
    CellDecoder,
    DecoderOptions,
    LossOptions,
    SetBatch,
    couple,
    endpoint_of,
    energy_distance,
    gaussian_mmd,
    interpolate,
    velocity_of,
)
from transpert.nn.comparison import InnerProducts, WrittenCells, compare_decoded


def objective(make_network, make_cells, conditions, predict, loss, conversion) -> torch.Tensor:
    network = make_network(flow={"predict": predict, "loss": loss, "conversion": conversion})
    batch = SetBatch(make_cells(), make_cells(seed=1), conditions([[1]] * 3))
    return network.losses(batch, generator=torch.Generator().manual_seed(0))["endpoint"].detach()


@pytest.mark.parametrize("predict", ["x", "v"])
def test_with_z0_the_loss_space_makes_no_difference(predict, make_network, make_cells, conditions) -> None:
    x, v = (objective(make_network, make_cells, conditions, predict, loss, "z0") for loss in "xv")
    torch.testing.assert_close(x, v)


@pytest.mark.parametrize("predict", ["x", "v"])
def test_with_jit_the_loss_space_weighs_the_times(predict, make_network, make_cells, conditions) -> None:
    x, v = (objective(make_network, make_cells, conditions, predict, loss, "jit") for loss in "xv")
    assert v > 1.05 * x  # 1 / (1 - t) ** 2 is above 1 everywhere


def test_the_weight_of_the_velocity_loss_by_hand(make_network) -> None:
    network = make_network(flow={"predict": "x", "loss": "v", "conversion": "jit"})
    target, off = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    for time, weight in ((0.0, 1.0), (0.5, 4.0), (0.95, 400.0), (1.0, 400.0)):
        t = torch.tensor([time])
        error = network._endpoint_error(off, target, t, torch.full((1, 1, 1), 0.3), target)
        assert error.item() == pytest.approx(weight, rel=1e-3)
        perfect = network._endpoint_error(target, target, t, torch.full((1, 1, 1), 0.3), target)
        assert perfect.item() == 0


@settings(deadline=None, max_examples=25)
@given(t=st.floats(0, 0.9), conversion=st.sampled_from(["jit", "z0"]), seed=st.integers(0, 99))
def test_conversions_are_inverse_and_right_on_the_path(t, conversion, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    z0, z1, any_end = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    time = torch.full((2,), t, dtype=torch.float64)
    zt = interpolate(time, z0, z1)
    torch.testing.assert_close(velocity_of(z1, "x", conversion, time, zt, z0), z1 - z0)
    back = endpoint_of(velocity_of(any_end, "x", conversion, time, zt, z0), "v", conversion, time, zt, z0)
    torch.testing.assert_close(back, any_end)


def slow_mean(x, y, function, *, same) -> float:
    return float(np.mean([function(a, b) for (i, a), (j, b) in itertools.product(enumerate(x), enumerate(y))
                          if not (same and i == j)]))  # fmt: skip


def slow_mmd(x, y, multiples) -> float:
    def squared(a, b):
        return float(((a - b) ** 2).sum())

    width, values = slow_mean(y, y, squared, same=True), []
    for multiple in multiples:

        def kernel(a, b, multiple=multiple):
            return np.exp(-squared(a, b) / (2 * multiple * width))

        values.append(slow_mean(x, x, kernel, same=True) + slow_mean(y, y, kernel, same=True)
                      - 2 * slow_mean(x, y, kernel, same=False))  # fmt: skip
    return float(np.mean(values))


def test_mmd_against_a_slow_one() -> None:
    x, y = torch.randn(2, 7, 3), torch.randn(2, 5, 3) + 1
    multiples = (0.5, 1.0, 3.0)
    for i in range(2):
        expected = slow_mmd(x[i].numpy(), y[i].numpy(), multiples)
        assert gaussian_mmd(x, y, multiples=multiples)[i].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("distance", [energy_distance, gaussian_mmd])
def test_distances_of_equal_populations_are_zero_on_average(distance) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2000, 6, 3, generator=generator) for _ in range(2))
    values = distance(x, y)
    assert abs(values.mean()) < 4 * values.std() / len(values) ** 0.5
    assert (values < 0).any()


@pytest.mark.parametrize("distance", [energy_distance, gaussian_mmd])
def test_distances_have_finite_gradients_where_cells_coincide(distance) -> None:
    x = torch.zeros(1, 4, 3, requires_grad=True)
    distance(x, torch.zeros(1, 4, 3)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_distances_keep_their_precision_under_autocast() -> None:
    x = 100 + torch.randn(1, 16, 4)
    y = x + 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = energy_distance(x, y)
    torch.testing.assert_close(half, energy_distance(x, y))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_set_with_a_cell_that_is_no_number_is_coupled_as_it_comes_and_the_others_as_before(value) -> None:
    z0, z1 = torch.randn(3, 12, 4), torch.randn(3, 12, 4)
    expected = couple(z0, z1)
    z1[1, 5, 2] = value
    partners = couple(z0, z1)
    assert torch.equal(partners[[0, 2]], expected[[0, 2]])
    assert torch.equal(partners[1], torch.arange(12))


def test_reconstruction_mmd_sees_control_and_perturbed_cells(make_network, make_cells, conditions) -> None:
    network = make_network(losses=LossOptions(reconstruction_mmd=1.0))
    x0, x1 = make_cells(), make_cells(seed=1) + 1

    def term(first, second) -> float:
        losses = network.losses(SetBatch(first, second, conditions([[1]] * 3)))
        return losses["reconstruction_mmd"].item()

    assert term(x0, x1) == pytest.approx((term(x0, x0) + term(x1, x1)) / 2, abs=1e-5)


def test_the_total_is_the_weighted_sum(make_network, make_cells, conditions) -> None:
    weights = {"reconstruction": 2.0, "reconstruction_mmd": 3.0, "endpoint": 0.5, "decoded_endpoint": 0.0,
               "set_level": 4.0, "mean_shift": 7.0}  # fmt: skip
    network = make_network(losses=LossOptions(**weights))
    losses = network.losses(SetBatch(make_cells(), make_cells(seed=1), conditions([[1]] * 3)))
    assert "decoded_endpoint" not in losses
    total = sum(weights[name] * value for name, value in losses.items() if name != "total")
    torch.testing.assert_close(losses["total"], total)


@pytest.mark.parametrize("stop", [True, False])
def test_the_target_is_only_pulled_where_gradients_are_let_through(stop, make_network, make_cells, conditions) -> None:
    only_endpoint = LossOptions(reconstruction=0, decoded_endpoint=0, set_level=0, mean_shift=0, stop_gradient=stop)
    network = make_network(losses=only_endpoint, flow={"coupling": "index"})
    x1 = make_cells(seed=1).requires_grad_()
    network.losses(SetBatch(make_cells(), x1, conditions([[1]] * 3)))["total"].backward()
    assert (x1.grad is None or not x1.grad.any()) == stop


def test_products_of_cells_give_the_losses_of_written_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    n_genes = 60
    decoder = CellDecoder(4, n_genes, DecoderOptions())
    true = tuple(torch.randn(3, 7, n_genes, generator=generator) for _ in range(2))
    latent = [torch.randn(3, 7, 4, generator=generator) for _ in range(2)]
    partners = torch.stack([torch.randperm(7, generator=generator) for _ in range(3)])

    def values(kernels: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        comparison = compare_decoded(decoder, true, kernels=kernels)
        assert isinstance(comparison, WrittenCells if kernels else InnerProducts)
        before, after = comparison.decode(*latent)
        found = [
            comparison.squared_error(before, 0),
            comparison.squared_error(after, 1, partners),
            comparison.energy(after, 1),
            comparison.mmd(after, 1),
            comparison.mean_change(before, after),
        ]
        total = torch.stack([value.square().mean() for value in found]).sum()
        return found, list(torch.autograd.grad(total, decoder.parameters()))

    (products, gradients), (written, expected) = values(False), values(True)
    for ours, theirs in zip([*products, *gradients], [*written, *expected], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_cells_are_written_out_where_products_would_not_do() -> None:
    true = (torch.zeros(1, 2, 60), torch.zeros(1, 2, 60))

    def kind(decoder: CellDecoder) -> type:
        return type(compare_decoded(decoder, true, kernels=False))

    assert kind(CellDecoder(4, 60, DecoderOptions())) is InnerProducts
    assert kind(CellDecoder(40, 60, DecoderOptions())) is WrittenCells
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kind(CellDecoder(4, 60, DecoderOptions())) is WrittenCells


class Operators(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function).removeprefix("aten.").split(".")[0])
        return function(*args, **(kwargs or {}))


def test_a_step_treats_populations_together_and_waits_for_no_value(make_network, conditions) -> None:
    network = make_network(flow={"coupling": "index"}).train()
    cells = torch.rand(3, 12, 10)
    batch = SetBatch(cells, cells + 0.1, conditions([[1], [2], [3]]))
    with Operators() as seen:
        network.losses(batch, generator=torch.Generator().manual_seed(0))["total"].backward()
    # attention of the token of the condition, and of each block of the flow once: a part of the way and all of it go
    # together; and the pooling of both populations
    assert seen.names.count("_softmax") == 2 + 1 + 1
    assert len(seen.names) <= 1_470  # views included; 1,455 are needed
    # each would make the host wait for a GPU
    assert not {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select"} & set(seen.names)
