from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from transpert.errors import OptionError
from transpert.nn import (
    ConditionBatch,
    ConditionOptions,
    EncoderOptions,
    FlowOptions,
    LossOptions,
    NetworkOptions,
    NetworkSizes,
    SetBatch,
    SetOptions,
    TransportNetwork,
    couple,
    endpoint_of,
    energy_distance,
    gaussian_mmd,
    interpolate,
    velocity_of,
)

S, N, G = 3, 12, 10


def conditions(perturbation, *, dose=None) -> ConditionBatch:
    parts = torch.as_tensor(perturbation)
    n = len(parts)
    doses = torch.zeros(parts.shape) if dose is None else torch.as_tensor(dose, dtype=torch.float32)
    zero = torch.zeros(n)
    return ConditionBatch(
        parts, doses, doses > 0, zero, torch.ones(n, 1, dtype=torch.long), torch.ones(n, dtype=torch.long)
    )


def network(
    seed=0, *, kind="mlp", sets=None, condition=None, table=None, losses=None, decoder=None, **flow
) -> TransportNetwork:
    torch.manual_seed(seed)
    options = NetworkOptions(
        EncoderOptions(kind, width=16, depth=1, n_tokens=4, n_heads=2, n_key_heads=1),
        sets or SetOptions(),
        condition or ConditionOptions(),
        FlowOptions(**{"depth": 1, "n_heads": 2, "n_key_heads": 1, **flow}),
        losses or LossOptions(),
        **({} if decoder is None else {"decoder": decoder}),
    )
    net = TransportNetwork(NetworkSizes(G, G, 4, (3,), 2), options, table)
    # an untrained flow hardly moves; make it move
    torch.nn.init.normal_(net.field.out.weight, std=0.3)
    return net.eval()


def cells(seed=0) -> torch.Tensor:
    return torch.rand(S, N, G, generator=torch.Generator().manual_seed(seed)) * 2


VARIANTS = {
    "default": {},
    "llama": {"kind": "llama"},
    "mean pooling": {"sets": SetOptions(pooling="mean")},
    "cross": {"condition": ConditionOptions(conditioning="cross")},
    "three steps": {"steps": 3},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuting_cells_permutes_the_prediction_and_nothing_else(variant) -> None:
    net, x = network(**VARIANTS[variant]), cells()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    condition = conditions([[1, 0], [2, 0], [1, 2]])
    straight, permuted = net.transport(x, condition), net.transport(x[:, order], condition)
    assert (straight.x1_hat - straight.x0_hat).abs().max() > 1e-2
    torch.testing.assert_close(straight.x1_hat[:, order], permuted.x1_hat, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_control_condition_is_the_control_population(variant) -> None:
    net = network(**VARIANTS[variant])
    out = net.transport(cells(), conditions([[0, 0]] * S))
    assert torch.equal(out.x0_hat, out.x1_hat)
    gaussian = network(prior="gaussian").transport(cells(), conditions([[0]] * S))
    assert torch.equal(gaussian.x0_hat, gaussian.x1_hat)


def test_the_order_of_a_combination_does_not_matter() -> None:
    net = network()
    a, b = (net.transport(cells(), conditions([pair] * S, dose=[dose] * S)).x1_hat
            for pair, dose in (([1, 2], [0.5, 0.9]), ([2, 1], [0.9, 0.5])))  # fmt: skip
    torch.testing.assert_close(a, b)
    c = net.transport(cells(), conditions([[1, 2]] * S, dose=[[0.9, 0.5]] * S)).x1_hat
    assert (a - c).abs().max() > 1e-4


@pytest.mark.parametrize("conversion", ["jit", "z0"])
@pytest.mark.parametrize("predict", ["x", "v"])
@pytest.mark.parametrize("loss", ["x", "v"])
def test_every_pair_of_prediction_and_loss_trains(predict, loss, conversion) -> None:
    net = network(predict=predict, loss=loss, conversion=conversion).train()
    x0 = cells()
    x1 = (x0 + torch.linspace(0, 1, G)).contiguous()
    batch = SetBatch(x0, x1, conditions([[1]] * S))
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    totals = []
    for step in range(60):
        losses = net.losses(batch, generator=torch.Generator().manual_seed(step % 5))
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        totals.append(losses["total"].item())
    assert np.isfinite(totals).all()
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])


def test_conversions_by_hand() -> None:
    t = torch.tensor([0.25])
    z0, z1 = torch.tensor([[[2.0]]]), torch.tensor([[[6.0]]])
    zt = interpolate(t, z0, z1)
    assert zt.item() == 3.0
    for conversion in ("jit", "z0"):
        assert velocity_of(z1, "x", conversion, t, zt, z0).item() == pytest.approx(4.0)
        assert endpoint_of(torch.tensor([[[4.0]]]), "v", conversion, t, zt, z0).item() == pytest.approx(6.0)
    # away from the straight path the two differ
    off = torch.tensor([[[5.0]]])
    assert velocity_of(z1, "x", "jit", t, off, z0).item() == pytest.approx(1.0 / 0.75)
    assert velocity_of(z1, "x", "z0", t, off, z0).item() == pytest.approx(4.0)


def test_optimal_coupling_is_a_permutation_and_no_pairing_is_shorter() -> None:
    z0, z1 = torch.randn(4, 6, 2), torch.randn(4, 6, 2)
    partners = couple(z0, z1)
    assert (partners.sort(dim=1).values == torch.arange(6)).all()

    def cost(index):
        return (z0 - z1.gather(1, index[..., None].expand_as(z1))).square().sum()

    for seed in range(20):
        other = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(seed + i)) for i in range(4)])
        assert cost(partners) <= cost(other) + 1e-5


def slow_energy(x, y) -> float:
    def mean(a, b, without_self=False):
        d = [np.linalg.norm(p - q) for i, p in enumerate(a) for j, q in enumerate(b) if not (without_self and i == j)]
        return np.mean(d)

    return 2 * mean(x, y) - mean(x, x, True) - mean(y, y, True)


def test_set_distances_against_slow_ones() -> None:
    x, y = torch.randn(2, 7, 3), torch.randn(2, 5, 3) + 1
    for i in range(2):
        assert energy_distance(x, y)[i].item() == pytest.approx(slow_energy(x[i].numpy(), y[i].numpy()), abs=1e-3)
    same = torch.randn(1, 200, 3)
    assert abs(gaussian_mmd(same, torch.randn(1, 200, 3)).item()) < 0.05
    assert gaussian_mmd(same, torch.randn(1, 200, 3) + 2).item() > 0.2


def train_toy(losses: LossOptions, coupling: str) -> float:
    """Train on a population that widens, and return predicted over true variance."""
    generator = torch.Generator().manual_seed(0)
    net = network(losses=losses, coupling=coupling).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    scale = torch.linspace(1.0, 2.5, G)
    for _ in range(250):
        x0, x1 = (torch.randn(4, 16, G, generator=generator) for _ in range(2))
        batch = SetBatch(x0, x1 * scale + 1, conditions([[1]] * 4))
        total = net.losses(batch, generator=generator)["total"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    x0 = torch.randn(1, 400, G, generator=generator)
    predicted = net.eval().transport(x0, conditions([[1]])).x1_hat
    return (predicted.var(dim=1) / scale.square()).mean().item()


def test_set_level_loss_keeps_the_variance_that_pairing_by_index_loses() -> None:
    paper = LossOptions(set_level=0.0, mean_shift=0.0, decoded_endpoint=1.0)
    ours = LossOptions(set_level=5.0, decoded_endpoint=0.0, mean_shift=1.0)
    collapsed, kept = train_toy(paper, "index"), train_toy(ours, "ot")
    assert kept > 0.6 > collapsed


def test_the_latent_space_does_not_collapse() -> None:
    net = network().train()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(100):
        x0 = cells(step)
        total = net.losses(SetBatch(x0, x0 + 0.5, conditions([[1]] * S)))["total"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert net.eval().encode(cells(0)).std(dim=(0, 1)).mean() > 0.05


def test_gradients_reach_every_parameter() -> None:
    net = network().train()
    net.losses(SetBatch(cells(), cells(1), conditions([[1, 2]] * S)))["total"].backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None]
    assert silent == []


def test_hidden_contexts_only_while_training() -> None:
    net = network(condition=ConditionOptions(unknown_rate=1.0))
    known, other = conditions([[1]] * S), conditions([[1]] * S)
    other = dataclasses.replace(other, context=torch.full((S, 1), 2))
    assert not torch.equal(net.transport(cells(), known).x1_hat, net.transport(cells(), other).x1_hat)
    net.train()
    torch.testing.assert_close(net.transport(cells(), known).x1_hat, net.transport(cells(), other).x1_hat)


def test_options_refuse_nonsense() -> None:
    for build in (
        lambda: EncoderOptions("transformer"),
        lambda: EncoderOptions(width=30, n_heads=8),
        lambda: FlowOptions(steps=0),
        lambda: FlowOptions(coupling="random"),
        lambda: LossOptions(endpoint=-1),
        lambda: SetOptions(pooling="max"),
        lambda: ConditionOptions(unknown_rate=2),
    ):
        with pytest.raises(OptionError):
            build()


def test_shifts_are_the_differences_of_decoded_cells() -> None:
    net = network()
    net.set_statistics(*[(torch.rand(G), torch.rand(G) + 0.5)] * 2)
    condition, x = conditions([[1, 0], [2, 0], [1, 2]]), cells()
    out = net.transport(x, condition)
    expected = out.x1_hat - out.x0_hat
    assert expected.abs().max() > 1e-2
    each, ends = net.shift(net.encode_cells(x), condition)
    mean, same_ends = net.shift(net.encode_cells(x), condition, each_cell=False)
    torch.testing.assert_close(each, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(mean, expected.flatten(0, 1).mean(0), atol=1e-5, rtol=0)
    assert torch.equal(ends, same_ends)
