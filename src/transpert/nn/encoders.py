"""From the genes of a cell to a latent vector: the cell encoder, which sees one cell at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import TransformerBlock, mlp, run_block
from .options import EncoderOptions


class CellEncoder(nn.Module):
    """Encode every cell on its own.

    Parameters
    ----------
    n_inputs
        Genes, or dimensions of an embedding.
    options
        Kind and sizes.
    """

    def __init__(self, n_inputs: int, options: EncoderOptions) -> None:
        super().__init__()
        self.options = options
        width = options.width
        if options.kind == "mlp":
            self.body: nn.Module = mlp(n_inputs, width, width, depth=options.depth)
            return
        self.patch = nn.Linear(n_inputs, options.n_tokens * width)
        self.body = nn.ModuleList(
            TransformerBlock(width, options.n_heads, options.n_key_heads) for _ in range(options.depth)
        )
        self.norm = nn.RMSNorm(width)
        self.pool = nn.Linear(width, 1)

    def forward(self, cells: Tensor) -> Tensor:
        """Map cells ``(..., G)``, scaled, to latent vectors ``(..., d)``."""
        if self.options.kind == "mlp":
            return self.body(cells)
        shape = cells.shape[:-1]
        tokens = self.patch(cells).view(-1, self.options.n_tokens, self.options.width)
        for block in self.body:  # type: ignore[attr-defined]
            tokens = run_block(block, tokens, checkpointed=self.options.checkpoint)
        tokens = self.norm(tokens)
        weights = torch.softmax(self.pool(tokens), dim=1)
        return (weights * tokens).sum(dim=1).view(*shape, self.options.width)
