"""The flow: where the cells of a set are going, seen from a point on their way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import TransformerBlock, mlp, run_block
from .conditions import EncodedCondition, SeedToken
from .draws import DrawSource, draw_normal
from .options import ConditionOptions, Conversion, FlowOptions, Space

# closer to the end of the path than this, (1 - t) is not divided by when cells are moved
_CLOSEST = 1e-3


class FlowField(nn.Module):
    """The network ``f(t, zt, condition)``: endpoint or velocity of every cell of a set.

    Its output is a change: added to ``zt`` (endpoint) or taken as it is (velocity), and multiplied by the strength of
    the condition, which is 0 where nothing was done to the cells, so that the control condition moves nothing.

    Parameters
    ----------
    width
        Latent width.
    options
        Depth and heads, and what is put out.
    conditions
        How the condition joins the cells.
    """

    def __init__(self, width: int, options: FlowOptions, conditions: ConditionOptions) -> None:
        super().__init__()
        self.predict, self.checkpoint = options.predict, options.checkpoint
        self.seed = (
            SeedToken(width, options.n_heads, options.n_key_heads) if conditions.conditioning == "seed" else None
        )
        self.time = mlp(1, width, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width, options.n_heads, options.n_key_heads, modulated=True, cross=conditions.conditioning == "cross"
            )
            for _ in range(options.depth)
        )
        self.norm = nn.RMSNorm(width)
        self.out = nn.Linear(width, width)
        # an untrained flow hardly moves a cell
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)

    def forward(self, t: Tensor, zt: Tensor, condition: EncodedCondition) -> Tensor:
        """Predict from states ``(S, N, d)`` at times ``(S,)``.

        Parameters
        ----------
        t, zt
            Time and state.
        condition
            The encoded condition.

        Returns
        -------
        Endpoint or velocity, ``(S, N, d)``.
        """
        vector = condition.vector + self.time(t[:, None].to(zt.dtype))
        context: Tensor | None = condition.tokens
        state, n_cells = zt, zt.shape[1]
        if self.seed is not None:
            state, context = torch.cat([zt, self.seed(condition.tokens)], dim=1), None
        for block in self.blocks:
            state = run_block(block, state, vector, context, checkpointed=self.checkpoint)
        change = self.out(self.norm(state[:, :n_cells])) * condition.strength[:, None, None].to(zt.dtype)
        return zt + change if self.predict == "x" else change


def interpolate(t: Tensor, z0: Tensor, z1: Tensor) -> Tensor:
    """Return the point at time ``t`` on the straight path, ``(1 - t) z0 + t z1``.

    Parameters
    ----------
    t : (S,)
        Times from 0 to 1.
    z0, z1 : (S, N, d)
        Start and end.

    Returns
    -------
    ``(S, N, d)``.
    """
    t = t.view(-1, *[1] * (z0.dim() - 1))
    return (1 - t) * z0 + t * z1


def start_of_path(z0: Tensor, prior: str, generator: DrawSource = None) -> Tensor:
    """Return where the path starts: the control cells, or Gaussian noise plus half of them.

    Parameters
    ----------
    z0 : (S, N, d)
        Control cells.
    prior
        ``"control"`` or ``"gaussian"``.
    generator
        Source of the noise.

    Returns
    -------
    ``(S, N, d)``.
    """
    if prior == "control":
        return z0
    return draw_normal(tuple(z0.shape), generator, z0) + 0.5 * z0


def velocity_of(
    output: Tensor,
    space: Space,
    conversion: Conversion,
    t: Tensor,
    zt: Tensor,
    z0: Tensor,
    *,
    closest: float = _CLOSEST,
) -> Tensor:
    """Return the velocity of an output that is one, or an endpoint.

    Parameters
    ----------
    output : (S, N, d)
        What the network put out.
    space
        Whether that is an endpoint ``"x"`` or a velocity ``"v"``.
    conversion
        ``"jit"``: ``(z1 - zt) / (1 - t)``; ``"z0"``: ``z1 - z0``.
    t, zt, z0
        Time, state at that time and start of the path.
    closest
        The smallest ``1 - t`` that is divided by.

    Returns
    -------
    ``(S, N, d)``.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import velocity_of
    >>> t, zt, z0 = torch.tensor([0.5]), torch.full((1, 1, 1), 2.0), torch.zeros(1, 1, 1)
    >>> [velocity_of(torch.full((1, 1, 1), 3.0), "x", kind, t, zt, z0).item() for kind in ("jit", "z0")]
    [2.0, 3.0]
    """
    if space == "v":
        return output
    if conversion == "z0":
        return output - z0
    remaining = (1 - t).clamp_min(closest).view(-1, *[1] * (zt.dim() - 1))
    return (output - zt) / remaining


def endpoint_of(output: Tensor, space: Space, conversion: Conversion, t: Tensor, zt: Tensor, z0: Tensor) -> Tensor:
    """Return the endpoint of an output that is one, or a velocity; the inverse of :func:`velocity_of`.

    Parameters
    ----------
    output, space, conversion, t, zt, z0
        As in :func:`velocity_of`.

    Returns
    -------
    ``(S, N, d)``.
    """
    if space == "x":
        return output
    if conversion == "z0":
        return z0 + output
    remaining = (1 - t).view(-1, *[1] * (zt.dim() - 1))
    return zt + remaining * output
