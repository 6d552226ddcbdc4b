"""Padded cells change nothing, wherever they are and whatever is in them."""

from __future__ import annotations

import pytest
import torch

from transpert.nn import (
    ConditionOptions,
    LossOptions,
    SetBatch,
    SetOptions,
    couple,
    energy_distance,
    gaussian_mmd,
)

REAL = 8
VARIANTS = {
    "default": {},
    "llama": {"kind": "llama"},
    "mean pooling": {"sets": SetOptions(pooling="mean")},
    "cross": {"conditions": ConditionOptions(conditioning="cross")},
    "all terms": {"losses": LossOptions(reconstruction_mmd=1.0, set_kernel="mmd")},
    "velocity": {"flow": {"predict": "v", "loss": "v", "steps": 3, "solver": "midpoint"}},
}


@pytest.fixture
def positions() -> torch.Tensor:
    """Where the real cells of a set of 12 are: padding stands between them."""
    return torch.tensor([0, 1, 3, 4, 6, 7, 9, 11])


@pytest.fixture
def mask(positions) -> torch.Tensor:
    mask = torch.zeros(3, 12, dtype=torch.bool)
    mask[:, positions] = True
    return mask


def padded(cells: torch.Tensor, positions: torch.Tensor, filling: float) -> torch.Tensor:
    out = torch.full((cells.shape[0], 12, cells.shape[2]), filling)
    out[:, positions] = cells
    return out


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_does_not_change_the_prediction(variant, make_network, make_cells, conditions, positions, mask) -> None:
    network, x = make_network(**VARIANTS[variant]), make_cells(3, REAL)
    condition = conditions([[1, 0], [2, 0], [1, 2]])
    bare = network.transport(x, condition)
    for filling in (0.0, 50.0):
        out = network.transport(padded(x, positions, filling), condition, mask=mask)
        for name in ("z0", "z1", "x0_hat", "x1_hat"):
            torch.testing.assert_close(getattr(out, name)[:, positions], getattr(bare, name), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_does_not_change_the_loss(variant, make_network, make_cells, conditions, positions, mask) -> None:
    network = make_network(**VARIANTS[variant])
    x0, x1, condition = make_cells(3, REAL), make_cells(3, REAL, seed=1), conditions([[1, 0], [2, 0], [1, 2]])
    bare = network.losses(SetBatch(x0, x1, condition), generator=torch.Generator().manual_seed(0))
    filled = SetBatch(padded(x0, positions, 50.0), padded(x1, positions, -50.0), condition, mask=mask)
    out = network.losses(filled, generator=torch.Generator().manual_seed(0))
    assert set(out) == set(bare)
    for name, value in bare.items():
        torch.testing.assert_close(out[name], value, atol=1e-4, rtol=1e-4)


def test_sets_are_taken_with_their_mask(make_cells, conditions, mask) -> None:
    mask[1, 0] = False
    batch = SetBatch(make_cells(), make_cells(), conditions([[1]] * 3), mask=mask)[torch.tensor([1])]
    assert torch.equal(batch.mask, mask[1:2])
    assert batch.state0 is None


@pytest.mark.parametrize("distance", [energy_distance, gaussian_mmd])
def test_distances_of_padded_sets_of_different_sizes(distance) -> None:
    x, y = torch.randn(1, 7, 3), torch.randn(1, 9, 3)
    mask_x, mask_y = torch.arange(7)[None] < 5, torch.arange(9)[None] < 6
    expected = distance(x[:, :5], y[:, :6])
    torch.testing.assert_close(distance(x, y, mask_x=mask_x, mask_y=mask_y), expected)
    torch.testing.assert_close(distance(x, y[:, :6], mask_x=mask_x), expected)


@pytest.mark.parametrize("kind", ["ot", "sinkhorn", "index"])
def test_real_cells_are_coupled_with_real_cells(kind, mask, positions) -> None:
    z0, z1 = torch.randn(3, 12, 4), torch.randn(3, 12, 4)
    z1[~mask] = z0[~mask] = 0.0  # near everything: tempting partners
    partners = couple(z0, z1, kind, mask=mask, generator=torch.Generator().manual_seed(0))
    assert mask.gather(1, partners)[mask].all()
    assert torch.equal(partners[~mask], torch.arange(12).expand(3, -1)[~mask])
    if kind == "ot":
        bare = couple(z0[:, positions], z1[:, positions])
        assert torch.equal(partners[:, positions], positions[bare])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["ot", "sinkhorn"])
def test_cells_that_are_not_numbers_are_coupled_without_an_error(kind, padded, value, mask) -> None:
    z0, z1 = torch.randn(3, 12, 4), torch.randn(3, 12, 4)
    options = {"kind": kind, "mask": mask if padded else None}
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    expected = couple(z0, z1, **options, generator=draws[0])
    z1[1, torch.nonzero(mask[1]).flatten()[0], 2] = value
    partners = couple(z0, z1, **options, generator=draws[1])
    # the other sets are coupled as before
    assert torch.equal(partners[[0, 2]], expected[[0, 2]])
    assert ((partners >= 0) & (partners < 12)).all()
    if kind == "ot":
        assert torch.equal(partners[1], torch.arange(12))
