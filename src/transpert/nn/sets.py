"""From the cells of a set to what they know of each other: permutation-invariant summary, equivariant fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import mlp
from .options import SetOptions


class SetEncoder(nn.Module):
    """DeepSets: ``s = rho(pool_i phi(h_i))``, fused back into each cell, ``z_i = h_i + psi(h_i, s)``.

    Parameters
    ----------
    width
        Latent width.
    options
        Pooling and hidden width.

    Notes
    -----
    Zaheer et al. (2017), arXiv 1703.06114; attention pooling after Lee et al. (2019), arXiv 1810.00825.
    """

    def __init__(self, width: int, options: SetOptions) -> None:
        super().__init__()
        hidden = options.hidden * width
        self.phi = mlp(width, hidden, width)
        self.rho = mlp(width, hidden, width)
        self.score = nn.Linear(width, 1) if options.pooling == "attention" else None
        self.psi = mlp(2 * width, hidden, width)

    def forward(self, cells: Tensor) -> Tensor:
        """Map cells ``(S, N, d)`` to fused cells ``(S, N, d)``."""
        features = self.phi(cells)
        if self.score is None:
            summary = features.mean(dim=1)
        else:
            summary = (torch.softmax(self.score(features), dim=1) * features).sum(dim=1)
        summary = self.rho(summary)[:, None].expand_as(cells)
        return cells + self.psi(torch.cat([cells, summary], dim=-1))
