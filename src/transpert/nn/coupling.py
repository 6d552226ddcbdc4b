"""Which perturbed cell a control cell of the same set is taken to become."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .options import Coupling


@torch.no_grad()
def couple(z0: Tensor, z1: Tensor, kind: Coupling = "ot") -> Tensor:
    """Return for every control cell the index of its partner in the perturbed set.

    Parameters
    ----------
    z0, z1 : (S, N, d)
        Latent states of control and perturbed cells.
    kind
        ``"ot"``: the assignment with the smallest sum of squared distances inside each set, which for two sets of
        equal size is the optimal transport between them, solved on the CPU; ``"index"``: as they come.

    Returns
    -------
    ``(S, N)`` long, a permutation of every set. Cells of a set in which a distance is not finite are paired as they
    come: its loss is then not finite either, and the training says in which set.

    Notes
    -----
    Tong et al. (2024), "Improving and generalizing flow-based generative models with minibatch optimal transport",
    arXiv 2302.00482. The exact assignment of some tens of cells costs less than an entropic one that converges.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import couple
    >>> couple(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[1.1], [0.2]]])).tolist()
    [[1, 0]]
    """
    n_sets, n_cells = z0.shape[:2]
    if kind == "index":
        return torch.arange(n_cells, device=z0.device).expand(n_sets, -1)
    cost = torch.cdist(z0.float(), z1.float()).square()
    return torch.stack([_cheapest(matrix) for matrix in cost.cpu().numpy()]).to(z0.device)


def _cheapest(cost: np.ndarray) -> Tensor:
    """Return the partner of every row of one set; its own column where there is no cheapest assignment."""
    # an error here would stop one of several processes only, and not name the set
    if not np.isfinite(cost).all():
        return torch.arange(len(cost))
    return torch.from_numpy(linear_sum_assignment(cost)[1])
