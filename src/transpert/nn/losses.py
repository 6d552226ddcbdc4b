"""Distances between sets of cells."""

from __future__ import annotations

import torch
from torch import Tensor


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances with a gradient that is finite where two cells coincide."""
    # a difference of large numbers: half precision would leave nothing of it
    with torch.autocast(x.device.type, enabled=False):
        if x.dtype in (torch.float16, torch.bfloat16) or y.dtype in (torch.float16, torch.bfloat16):
            x, y = x.float(), y.float()
        return root_of_squares(x.square().sum(-1), y.square().sum(-1), x @ y.transpose(-1, -2))


def root_of_squares(square_x: Tensor, square_y: Tensor, products: Tensor) -> Tensor:
    """Euclidean distances of cells from their squared lengths ``(S, N)``, ``(S, M)`` and products ``(S, N, M)``."""
    squared = torch.sub(square_x[..., :, None] + square_y[..., None, :], products, alpha=2).clamp_min(0)
    return (squared + 1e-6).sqrt()


def _mean_without_self(matrix: Tensor) -> Tensor:
    """Mean over the pairs of different cells of one set."""
    n = matrix.shape[-1]
    total = matrix.sum(dim=(-2, -1)) - matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    return total / max(n * (n - 1), 1)


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Energy distance of sets, ``2 E|x - y| - E|x - x'| - E|y - y'|``, without self-pairs.

    Parameters
    ----------
    x, y : (S, N, G), (S, M, G)
        The sets.

    Returns
    -------
    ``(S,)``: unbiased, and so a little below 0 at times.

    Notes
    -----
    Székely and Rizzo (2013), "Energy statistics", Journal of Statistical Planning and Inference 143:1249.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import energy_distance
    >>> x = torch.zeros(1, 3, 2)
    >>> round(energy_distance(x, x + 1).item(), 2)
    2.83
    """
    return energy_of_distances(_distances(x, y), _distances(x, x), _distances(y, y))


def energy_of_distances(between: Tensor, within_x: Tensor, within_y: Tensor) -> Tensor:
    """Return the energy distance of sets whose distances ``(S, N, M)``, ``(S, N, N)`` and ``(S, M, M)`` are known."""
    return 2 * between.mean(dim=(-2, -1)) - _mean_without_self(within_x) - _mean_without_self(within_y)


def gaussian_mmd(
    x: Tensor,
    y: Tensor,
    *,
    multiples: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
) -> Tensor:
    """Squared maximum mean discrepancy of sets with Gaussian kernels, without self-pairs.

    Parameters
    ----------
    x, y : (S, N, G), (S, M, G)
        The sets.
    multiples
        Squared bandwidths, as multiples of the mean squared distance within ``y``.

    Returns
    -------
    ``(S,)``: mean over the bandwidths; unbiased for given bandwidths, and so a little below 0 at times.

    Notes
    -----
    Gretton et al. (2012), "A kernel two-sample test", JMLR 13:723.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import gaussian_mmd
    >>> x = torch.tensor([[[0.0], [1.0]]])
    >>> bool(gaussian_mmd(x, x + 5) > 1)
    True
    """
    xx, yy, xy = (_distances(a, b).square() for a, b in ((x, x), (y, y), (x, y)))
    width = _mean_without_self(yy).detach().clamp_min(1e-6)[:, None, None]
    total = torch.zeros(len(x), device=x.device, dtype=xx.dtype)
    for multiple in multiples:
        kernel = [torch.exp(-d / (2 * multiple * width)) for d in (xx, yy, xy)]
        within = _mean_without_self(kernel[0]) + _mean_without_self(kernel[1])
        total = total + (within - 2 * kernel[2].mean(dim=(-2, -1)))
    return total / len(multiples)
