"""From a condition to tokens: the perturbations with their doses, the context, the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .batch import ConditionBatch, NetworkSizes
from .blocks import GroupedQueryAttention, mlp
from .draws import DrawSource, draw_uniform
from .options import ConditionOptions


@dataclass(frozen=True, slots=True)
class EncodedCondition:
    """What the flow knows of a condition.

    Parameters
    ----------
    tokens : (S, 2 + K, d)
        Perturbation, context columns, batch.
    vector : (S, d)
        What modulates the blocks: perturbation with its dose, and time.
    strength : (S,)
        From 0, nothing was done to the cells, to 1.
    """

    tokens: Tensor
    vector: Tensor
    strength: Tensor

    def repeated(self, times: int) -> EncodedCondition:
        """Return the conditions of that many copies of the sets, one copy after the other."""
        return EncodedCondition(*(torch.cat([part] * times) for part in (self.tokens, self.vector, self.strength)))


# of a part: its dose, the dose squared, and whether there is one
_DOSE_FEATURES = 3


class ConditionEncoder(nn.Module):
    """Encode conditions as three kinds of token: perturbation, context columns, batch.

    A combination is the sum of what its parts become, and so does not depend on their order. The perturbation table
    is either learned or given.

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

    fixed: Tensor

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
        self.gate = None
        if table is not None and options.tables == "gated" and len(sizes.table_blocks) > 1:
            self.gate = TableGate(sizes.table_blocks, width)
            n_features = width
        self.n_directions = sizes.n_directions
        self.part = mlp(n_features + _DOSE_FEATURES + self.n_directions, 2 * width, width)
        self.contexts = nn.ModuleList(nn.Embedding(n, width) for n in sizes.n_contexts)
        self.batch = nn.Embedding(sizes.n_batches, width)
        for embedding in (*self.contexts, self.batch):
            nn.init.normal_(embedding.weight, std=0.02)
        self.time = mlp(1, width, width)
        self.rate = nn.Linear(n_features, 1) if options.dose == "saturating" else None
        if self.rate is not None:
            nn.init.zeros_(self.rate.weight)
            nn.init.ones_(self.rate.bias)

    def forward(self, condition: ConditionBatch, *, generator: DrawSource = None) -> EncodedCondition:
        """Encode the conditions of a batch; the generator draws what is masked while training."""
        present = (condition.perturbation > 0).unsqueeze(-1)
        features = self.fixed[condition.perturbation] if self.table is None else self.table(condition.perturbation)
        if self.gate is not None:
            features = self.gate(features)
        given = condition.has_dose.to(features.dtype)
        doses = torch.stack([condition.dose * given, (condition.dose * given) ** 2, given], dim=-1).to(features.dtype)
        context = self._hide(condition.context, self.options.unknown_rate, generator)
        batch = self._hide(condition.batch[:, None], self.options.unknown_rate, generator)
        action = self._action(condition, features) * present
        known = [features, doses]
        if self.n_directions:
            direction = condition.perturbation * 0 if condition.direction is None else condition.direction
            known.append(functional.one_hot(direction, self.n_directions + 1)[..., 1:].to(features.dtype))
        parts = self.part(torch.cat(known, dim=-1)) * action
        perturbation = parts.sum(dim=1)
        tokens = [
            perturbation,
            *(table(context[:, i]) for i, table in enumerate(self.contexts)),
            self.batch(batch[:, 0]),
        ]
        time = self.time(condition.time[:, None].to(features.dtype))
        if condition.has_time is not None:
            time = time * condition.has_time[:, None]
        strength = 1 - (1 - action).prod(dim=1).squeeze(-1)
        return EncodedCondition(torch.stack(tokens, dim=1), perturbation + time, strength.to(features.dtype))

    def _action(self, condition: ConditionBatch, features: Tensor) -> Tensor:
        """How much of each part acts, ``(S, P, 1)``: all of it, or as much as its dose says."""
        if self.rate is None:
            return torch.ones_like(features[..., :1])
        rate = functional.softplus(self.rate(features))
        curve = -torch.expm1(-rate * condition.dose.clamp_min(0)[..., None])
        return torch.where(condition.has_dose[..., None], curve, torch.ones_like(curve))

    def _hide(self, codes: Tensor, rate: float, generator: DrawSource) -> Tensor:
        """Replace the codes of some training sets by 0, unknown."""
        if not self.training or not rate or not codes.shape[1]:
            return codes
        hidden = draw_uniform((len(codes), 1), generator, codes) < rate
        return codes.masked_fill(hidden, 0)


class TableGate(nn.Module):
    """Weigh several embeddings of a perturbation, each projected to one width."""

    def __init__(self, blocks: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.projections = nn.ModuleList(nn.Linear(block, width) for block in blocks)
        self.logits = nn.Linear(sum(blocks), len(blocks))

    def forward(self, features: Tensor) -> Tensor:
        """Map embeddings ``(..., E)`` to ``(..., d)``."""
        shares = self.logits(features).softmax(dim=-1)
        parts = features.split(self.blocks, dim=-1)
        projected = [project(part) for project, part in zip(self.projections, parts, strict=True)]
        return (torch.stack(projected, dim=-1) * shares[..., None, :]).sum(dim=-1)


class SeedToken(nn.Module):
    """One learned query that attends over the condition tokens and stands for them in the set."""

    def __init__(self, width: int, n_heads: int, n_key_heads: int) -> None:
        super().__init__()
        self.seed = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.norm = nn.RMSNorm(width)
        self.attention = GroupedQueryAttention(width, n_heads, n_key_heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map condition tokens ``(S, U, d)`` to one token ``(S, 1, d)``."""
        seed = self.seed.expand(len(tokens), -1, -1)
        return seed + self.attention(seed, self.norm(tokens))
