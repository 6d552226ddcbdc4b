"""From a condition to tokens: the perturbations with their doses, the context, the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .batch import ConditionBatch, NetworkSizes
from .blocks import GroupedQueryAttention, mlp
from .options import ConditionOptions

__all__ = ["ConditionEncoder", "SeedToken"]

# of a part: its dose, the dose squared, and whether there is one
_DOSE_FEATURES = 3


class ConditionEncoder(nn.Module):
    """Encode conditions as three kinds of token: perturbation, context columns, batch.

    A combination is the sum of what its parts become, and so does not depend on their order. The perturbation table
    is either learned or given: a given table of embeddings, looked up by name outside, can be replaced by a larger
    one without training anew.

    Parameters
    ----------
    sizes
        Numbers of perturbations, contexts and batches.
    width
        Width of the tokens.
    options
        Options.
    table : (n_perturbations, E)
        Fixed embeddings of the perturbations, row 0 zero; learned ones if ``None``.
    """

    def __init__(self, sizes: NetworkSizes, width: int, options: ConditionOptions, table: Tensor | None = None) -> None:
        super().__init__()
        self.options = options
        if table is None:
            self.table: nn.Embedding | None = nn.Embedding(sizes.n_perturbations, width, padding_idx=0)
            n_features = width
            self.register_buffer("fixed", None)
        else:
            self.table = None
            n_features = table.shape[1]
            self.register_buffer("fixed", table.clone())
        self.part = mlp(n_features + _DOSE_FEATURES, 2 * width, width)
        self.contexts = nn.ModuleList(nn.Embedding(n, width) for n in sizes.n_contexts)
        self.batch = nn.Embedding(sizes.n_batches, width)
        for embedding in (*self.contexts, self.batch):
            nn.init.normal_(embedding.weight, std=0.02)  # type: ignore[arg-type]
        self.time = mlp(1, width, width)

    def set_table(self, table: Tensor) -> None:
        """Replace the fixed embeddings, for example to add perturbations that were not in the training data."""
        self.fixed = table.to(self.batch.weight.device)

    def forward(self, condition: ConditionBatch) -> tuple[Tensor, Tensor]:
        """Return tokens ``(S, 2 + K, d)`` and the vector that modulates the blocks, ``(S, d)``."""
        present = (condition.perturbation > 0).unsqueeze(-1)
        features = self.fixed[condition.perturbation] if self.table is None else self.table(condition.perturbation)
        given = condition.has_dose.to(features.dtype)
        doses = torch.stack([condition.dose * given, (condition.dose * given) ** 2, given], dim=-1).to(features.dtype)
        parts = self.part(torch.cat([features, doses], dim=-1)) * present
        perturbation = parts.sum(dim=1)
        context, batch = self._hide(condition.context), self._hide(condition.batch[:, None])
        tokens = [
            perturbation,
            *(table(context[:, i]) for i, table in enumerate(self.contexts)),
            self.batch(batch[:, 0]),
        ]
        return torch.stack(tokens, dim=1), perturbation + self.time(condition.time[:, None].to(features.dtype))

    def _hide(self, codes: Tensor) -> Tensor:
        """Replace the codes of some training sets by 0, unknown."""
        if not self.training or not self.options.unknown_rate or not codes.shape[1]:
            return codes
        hidden = torch.rand(len(codes), 1, device=codes.device) < self.options.unknown_rate
        return codes.masked_fill(hidden, 0)


class SeedToken(nn.Module):
    """One learned query that attends over the condition tokens and stands for them in the set.

    Parameters
    ----------
    width
        Width of the tokens.
    n_heads, n_key_heads
        Heads of the attention.
    """

    def __init__(self, width: int, n_heads: int, n_key_heads: int) -> None:
        super().__init__()
        self.seed = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.norm = nn.RMSNorm(width)
        self.attention = GroupedQueryAttention(width, n_heads, n_key_heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map condition tokens ``(S, U, d)`` to one token ``(S, 1, d)``."""
        seed = self.seed.expand(len(tokens), -1, -1)
        return seed + self.attention(seed, self.norm(tokens))
