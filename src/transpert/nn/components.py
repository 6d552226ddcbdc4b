"""Principal components of cells, in which a network reads and writes many genes as a few numbers."""

from __future__ import annotations

import torch
from scipy import linalg
from torch import Tensor, nn


class GeneComponents(nn.Module):
    """Map cells to components, and changes of components back to changes of genes.

    Genes are taken in standard deviations around their mean. The components are scaled so that a mean over them is, up
    to a constant, the mean over the genes: squared errors and distances of cells keep their size, and their gradients.

    Parameters
    ----------
    n_genes
        Genes, ``G``.
    n_components
        Components, ``K``.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import GeneComponents
    >>> cells = torch.tensor([[0.0, 0.0, 1.0], [2.0, 2.0, 1.0], [4.0, 4.0, 1.0]])
    >>> components = GeneComponents(3, 1)
    >>> components.fit(cells - cells.mean(0), cells.mean(0), torch.ones(3))
    >>> change = components(cells[2:]) - components(cells[:1])
    >>> components.to_genes(change).round().tolist()
    [[4.0, 4.0, 0.0]]
    """

    into: Tensor
    offset: Tensor
    back: Tensor
    spread: Tensor

    def __init__(self, n_genes: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("into", torch.zeros(n_genes, n_components))
        self.register_buffer("offset", torch.zeros(n_components))
        self.register_buffer("back", torch.zeros(n_genes))
        self.register_buffer("spread", torch.ones(()))

    @torch.no_grad()
    def fit(self, rows: Tensor, mean: Tensor, scale: Tensor) -> None:
        """Find the components of rows ``(n, G)``, which are in units of ``scale`` around ``mean``, each ``(G,)``.

        Where the rows have fewer dimensions than there are components, the others are always 0.
        """
        n_genes, n_components = self.into.shape
        products = (rows @ rows.T).double().numpy()
        last = len(products) - 1
        first = max(last + 1 - n_components, 0)
        values, vectors = (torch.from_numpy(a) for a in linalg.eigh(products, subset_by_index=[first, last]))
        kept = (values > 1e-6 * values[-1]).nonzero().flatten().flip(0)
        directions = (rows.T @ vectors[:, kept].to(rows.dtype)) / values[kept].sqrt().to(rows.dtype)
        ratio = (n_components / n_genes) ** 0.5
        self.into.zero_()
        self.into[:, : len(kept)] = directions * (ratio / scale)[:, None]
        self.offset.copy_(mean @ self.into)
        self.back.copy_((scale / ratio).square())
        self.spread.copy_(((rows * scale) @ self.into).square().mean().sqrt())

    def forward(self, cells: Tensor) -> Tensor:
        """Map cells ``(..., G)``, log1p counts per 10k, to components ``(..., K)``."""
        return cells @ self.into - self.offset

    def to_genes(self, change: Tensor) -> Tensor:
        """Map changes of components ``(..., K)`` to changes of genes ``(..., G)``."""
        return (change @ self.into.T) * self.back
