"""Which perturbed cell a control cell of the same set is taken to become."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .draws import DrawSource, draw_uniform
from .options import Coupling

# of the entropic plan: blur as a share of the mean cost, and iterations
_BLUR = 0.05
_ITERATIONS = 50
# in place of minus infinity, so that padding leaves no NaN behind
_NEVER = -1e9


@torch.no_grad()
def couple(
    z0: Tensor,
    z1: Tensor,
    kind: Coupling = "ot",
    *,
    mask: Tensor | None = None,
    generator: DrawSource = None,
) -> Tensor:
    """Return for every control cell the index of its partner in the perturbed set.

    Parameters
    ----------
    z0, z1 : (S, N, d)
        Latent states of control and perturbed cells.
    kind
        ``"ot"``: the assignment with the smallest sum of squared distances inside each set, which for two sets of
        equal size is the optimal transport between them, solved on the CPU; ``"sinkhorn"``: a partner drawn from the
        entropic plan, which stays on the device of the cells and is not quite a permutation; ``"index"``: as they
        come.
    mask : (S, N)
        Which cells are real, in both populations; real cells are paired with real ones. All by default.
    generator
        Source of the draw of ``"sinkhorn"``.

    Returns
    -------
    ``(S, N)`` long; a permutation of every set, except with ``"sinkhorn"``. Cells of a set in which a distance is not
    finite are paired as they come: its loss is then not finite either, and the training says in which set.

    Notes
    -----
    Tong et al. (2024), "Improving and generalizing flow-based generative models with minibatch optimal transport",
    arXiv 2302.00482; Cuturi (2013), "Sinkhorn distances", NeurIPS 26. The exact assignment of some tens of cells costs
    less than an entropic one that converges.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import couple
    >>> couple(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[1.1], [0.2]]])).tolist()
    [[1, 0]]
    """
    n_sets, n_cells = z0.shape[:2]
    same = torch.arange(n_cells, device=z0.device).expand(n_sets, -1)
    if kind == "index":
        return same
    cost = torch.cdist(z0.float(), z1.float()).square()
    if kind == "sinkhorn":
        drawn = _draw_partners(cost, mask, generator)
        return drawn if mask is None else torch.where(mask, drawn, same)
    return _assign(cost, mask).to(z0.device)


def _assign(cost: Tensor, mask: Tensor | None) -> Tensor:
    """Solve the assignment of every set; padding is its own partner."""
    matrices = cost.cpu().numpy()
    if mask is None:
        return torch.stack([_cheapest(matrix) for matrix in matrices])
    partners = torch.arange(cost.shape[1]).repeat(len(cost), 1)
    for row, matrix, real in zip(partners, matrices, mask.cpu(), strict=True):
        cells = torch.nonzero(real).flatten()
        inside = matrix[cells.numpy()[:, None], cells.numpy()[None, :]]
        row[cells] = cells[_cheapest(inside)]
    return partners


def _cheapest(cost: np.ndarray) -> Tensor:
    """Return the partner of every row of one set; its own column where there is no cheapest assignment."""
    # an error here would stop one of several processes only, and not name the set
    if not np.isfinite(cost).all():
        return torch.arange(len(cost))
    return torch.from_numpy(linear_sum_assignment(cost)[1])


def _draw_partners(cost: Tensor, mask: Tensor | None, generator: DrawSource) -> Tensor:
    """Draw a partner for every cell from the entropic plan between uniform populations, in the log domain."""
    real = torch.ones(cost.shape[:2], dtype=torch.bool, device=cost.device) if mask is None else mask
    pairs = real[:, :, None] & real[:, None, :]
    blur = _BLUR * (cost * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
    log_kernel = (-cost / blur.clamp_min(1e-12)[:, None, None]).masked_fill(~pairs, _NEVER)
    log_share = -torch.log(real.sum(dim=1).to(cost.dtype))[:, None]
    left, right = torch.zeros_like(cost[:, :, 0]), torch.zeros_like(cost[:, 0, :])
    for _ in range(_ITERATIONS):
        left = (log_share - torch.logsumexp(log_kernel + right[:, None, :], dim=2)).masked_fill(~real, _NEVER)
        right = (log_share - torch.logsumexp(log_kernel + left[:, :, None], dim=1)).masked_fill(~real, _NEVER)
    plan = torch.softmax(log_kernel + right[:, None, :], dim=2)
    # the first cell whose cumulative share exceeds the draw; padding adds nothing and is never it
    reached = plan.cumsum(dim=2)
    drawn = draw_uniform((*cost.shape[:2], 1), generator, cost) * reached[..., -1:]
    return (reached <= drawn).sum(dim=2).clamp_max(cost.shape[2] - 1)
