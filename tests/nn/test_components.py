"""Components of cells: what is in them comes back, and sizes stay as they were among genes."""

from __future__ import annotations

import pytest
import torch

from transpert.nn import GeneComponents


@pytest.fixture
def cells() -> torch.Tensor:
    """Cells of 30 genes that vary in three directions, and one gene that is twice as spread as the others."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(3, 30, generator=generator)
    return 5 + torch.randn(40, 3, generator=generator) @ directions


def fitted(cells: torch.Tensor, n_components: int) -> GeneComponents:
    components = GeneComponents(cells.shape[1], n_components)
    mean, scale = cells.mean(0), cells.std(0)
    components.fit((cells - mean) / scale, mean, scale)
    return components


@pytest.mark.parametrize("n_components", [3, 8])
def test_changes_of_cells_come_back_as_changes_of_genes(cells, n_components) -> None:
    components = fitted(cells, n_components)
    change = components(cells[1:]) - components(cells[:1])
    torch.testing.assert_close(components.to_genes(change), cells[1:] - cells[:1], atol=1e-3, rtol=1e-3)


def test_the_mean_cell_is_zero_and_mean_squares_are_those_of_standardised_genes(cells) -> None:
    components = fitted(cells, 3)
    torch.testing.assert_close(components(cells).mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    of_genes = ((cells[1:] - cells[:1]) / cells.std(0)).square().mean(-1)
    of_components = (components(cells[1:]) - components(cells[:1])).square().mean(-1)
    torch.testing.assert_close(of_components, of_genes, atol=0, rtol=1e-3)
    assert components.spread.item() == pytest.approx(components(cells).square().mean().sqrt().item(), rel=1e-3)


def test_components_that_the_cells_do_not_fill_are_zero(cells) -> None:
    read = fitted(cells, 8)(cells)
    assert read[:, :3].abs().min(dim=0).values.max() > 0
    assert torch.equal(read[:, 3:], torch.zeros(40, 5))
