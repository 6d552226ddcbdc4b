"""Blocks of a transformer: root-mean-square norm, grouped-query attention, gated feed-forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class GroupedQueryAttention(nn.Module):
    """Attention in which several query heads share one head of keys and values.

    No positions: the tokens are a set (Ainslie et al. 2023, arXiv 2305.13245).
    """

    def __init__(self, width: int, n_heads: int, n_key_heads: int) -> None:
        super().__init__()
        self.n_heads, self.n_key_heads = n_heads, n_key_heads
        head = width // n_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * n_key_heads * head, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from tokens ``(B, T, d)`` to themselves or a context ``(B, U, d)``."""
        context = tokens if context is None else context
        batch, length, width = tokens.shape
        query = self.query(tokens).view(batch, length, self.n_heads, -1)
        key, value = self.key_value(context).view(batch, context.shape[1], 2, self.n_key_heads, -1).unbind(2)
        attended = _attend_on_cpu(query, key, value) if tokens.device.type == "cpu" else _attend(query, key, value)
        return self.out(attended.reshape(batch, length, width))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend from ``(B, T, H, h)`` to ``(B, U, K, h)`` by the fused kernel of a device."""
    attended = functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return attended.transpose(1, 2)


def _attend_on_cpu(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend as :func:`_attend`, with the heads that share keys as rows of one product.

    Sets have some tens of cells: the fused kernel of a CPU would ask for many products that are too small to be fast.
    """
    batch, length, n_heads, width = query.shape
    n_keys = key.shape[2]
    rows = query.view(batch, length, n_keys, -1, width).transpose(1, 2).reshape(batch, n_keys, -1, width)
    shares = torch.softmax(rows @ (key * width**-0.5).permute(0, 2, 3, 1), dim=-1)
    attended = (shares @ value.transpose(1, 2)).view(batch, n_keys, length, -1, width)
    return attended.transpose(1, 2).reshape(batch, length, n_heads, width)


class FeedForward(nn.Module):
    """SwiGLU feed-forward (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, multiple: int = 2) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 2 * multiple * width, bias=False)
        self.out = nn.Linear(multiple * width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens of any leading shape."""
        gate, value = self.gate(tokens).chunk(2, dim=-1)
        return self.out(functional.silu(gate) * value)


class TransformerBlock(nn.Module):
    """Attention and feed-forward with pre-norm, optionally modulated by a vector (adaLN)."""

    def __init__(
        self, width: int, n_heads: int, n_key_heads: int, *, modulated: bool = False, cross: bool = False
    ) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = GroupedQueryAttention(width, n_heads, n_key_heads)
        self.feed = FeedForward(width)
        self.cross = GroupedQueryAttention(width, n_heads, n_key_heads) if cross else None
        self.norm_cross = nn.RMSNorm(width) if cross else None
        self.modulation = nn.Linear(width, 6 * width) if modulated else None
        if self.modulation is not None:
            # the block starts as if it were not modulated
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        tokens: Tensor,
        vector: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Map tokens ``(B, T, d)``, which a vector ``(B, d)`` modulates and which attend to a context ``(B, U, d)``."""
        scale1 = shift1 = gate1 = scale2 = shift2 = gate2 = torch.zeros((), device=tokens.device, dtype=tokens.dtype)
        if self.modulation is not None and vector is not None:
            modulation = self.modulation(functional.silu(vector))[:, None]
            scale1, shift1, gate1, scale2, shift2, gate2 = modulation.chunk(6, dim=-1)
        normed = self.norm_attention(tokens) * (1 + scale1) + shift1
        tokens = tokens + (1 + gate1) * self.attention(normed)
        if self.cross is not None and context is not None:
            assert self.norm_cross is not None
            tokens = tokens + self.cross(self.norm_cross(tokens), context)
        normed = self.norm_feed(tokens) * (1 + scale2) + shift2
        return tokens + (1 + gate2) * self.feed(normed)


def run_block(block: nn.Module, *inputs: Tensor | None, checkpointed: bool) -> Tensor:
    """Run a block, computing its activations again in the backward pass if ``checkpointed``."""
    if checkpointed and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


def mlp(n_in: int, width: int, n_out: int, *, depth: int = 1) -> nn.Sequential:
    """Return a network of ``depth`` hidden layers with normalisation and SiLU."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(n_in, width), nn.RMSNorm(width), nn.SiLU()]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))
