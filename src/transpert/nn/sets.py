"""From the cells of a set to what they know of each other: permutation-invariant summary, equivariant fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import mlp
from .options import SetOptions


def mean_over_cells(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of values ``(S, N, d)`` over the real cells of each set, ``(S, d)``."""
    if mask is None:
        return values.mean(dim=1)
    weight = mask[..., None].to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1)


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

    def forward(self, cells: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map cells ``(S, N, d)``, real where ``mask`` ``(S, N)``, to fused cells ``(S, N, d)``."""
        features = self.phi(cells)
        if self.score is None:
            summary = mean_over_cells(features, mask)
        else:
            score = self.score(features)
            if mask is not None:
                score = score.masked_fill(~mask[..., None], -torch.inf)
            summary = (torch.softmax(score, dim=1) * features).sum(dim=1)
        summary = self.rho(summary)[:, None].expand_as(cells)
        return cells + self.psi(torch.cat([cells, summary], dim=-1))
