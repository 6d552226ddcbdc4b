"""From a latent state back to the genes of a cell."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .blocks import mlp
from .options import DecoderOptions


class CellDecoder(nn.Module):
    """Decode every cell on its own, to genes in units of their standard deviation around their mean.

    The output is linear: the effect on a cell, ``decode(z1) - decode(z0)``, then has the same gradient
    whatever the level of the gene, and a gene that is silent in the control can still be switched on. Values below
    zero are left to the read-out, which clips them once, instead of a saturating output that would hide small effects.

    Parameters
    ----------
    width
        Latent width.
    n_genes
        Genes that are decoded.
    options
        Sizes.
    """

    def __init__(self, width: int, n_genes: int, options: DecoderOptions) -> None:
        super().__init__()
        self.body = mlp(width, options.hidden * width, n_genes, depth=options.depth)

    def forward(self, latent: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Map latent states ``(..., d)`` to log1p counts per 10k ``(..., G)``, given mean and scale of every gene."""
        return mean + scale * self.body(latent)

    @property
    def last(self) -> nn.Linear:
        """The layer that puts out the genes."""
        return self.body[-1]  # type: ignore[return-value]

    def units(self, latent: Tensor) -> Tensor:
        """Return the layer before the genes, ``(..., h)``."""
        return self.body[:-1](latent)

    def standardised(self, latent: Tensor) -> Tensor:
        """Return ``(forward(...) - mean) / scale``."""
        return self.body(latent)

    def difference(self, before: Tensor, after: Tensor, scale: Tensor) -> Tensor:
        """Return ``forward(after) - forward(before)``, with one pass through the output instead of two."""
        return functional.linear(self.units(after) - self.units(before), self.last.weight * scale[:, None])

    def mean_difference(self, before: Tensor, after: Tensor, scale: Tensor) -> Tensor:
        """Return the mean of :meth:`difference` over all cells, ``(K, G)``; the output puts out one cell.

        Sets ``(S, N, d)`` before, and after each of ``K`` conditions, ``(S, K, N, d)``.
        """
        changed = (self.units(after) - self.units(before)[:, None]).mean(dim=(0, 2))
        return functional.linear(changed, self.last.weight) * scale
