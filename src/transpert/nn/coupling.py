"""Which perturbed cell a control cell of the same set is taken to become."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .options import Coupling

__all__ = ["couple"]


@torch.no_grad()
def couple(z0: Tensor, z1: Tensor, kind: Coupling = "ot") -> Tensor:
    """Return for every control cell the index of its partner in the perturbed set.

    Parameters
    ----------
    z0, z1 : (S, N, d)
        Latent states of control and perturbed cells.
    kind
        ``"ot"``: the assignment with the smallest sum of squared distances inside each set, which for two sets of
        equal size is the optimal transport between them; ``"index"``: as they come.

    Returns
    -------
    ``(S, N)`` long; a permutation of every set.

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
    cost = torch.cdist(z0.float(), z1.float()).square().cpu().numpy()
    partners = [torch.from_numpy(linear_sum_assignment(matrix)[1]) for matrix in cost]
    return torch.stack(partners).to(z0.device)
