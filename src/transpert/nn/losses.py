"""Distances between sets of cells."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["energy_distance", "gaussian_mmd"]


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances with a gradient that is finite where two cells coincide."""
    squared = (
        x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :] - 2 * x @ y.transpose(-1, -2)
    ).clamp_min(0)
    return (squared + 1e-6).sqrt()


def _mean_without_self(matrix: Tensor) -> Tensor:
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
    return (
        2 * _distances(x, y).mean(dim=(-2, -1))
        - _mean_without_self(_distances(x, x))
        - _mean_without_self(_distances(y, y))
    )


def gaussian_mmd(x: Tensor, y: Tensor, *, multiples: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)) -> Tensor:
    """Squared maximum mean discrepancy of sets with Gaussian kernels, without self-pairs.

    Parameters
    ----------
    x, y : (S, N, G), (S, M, G)
        The sets.
    multiples
        Squared bandwidths, as multiples of the mean squared distance within ``y``.

    Returns
    -------
    ``(S,)``: mean over the bandwidths.

    Notes
    -----
    Gretton et al. (2012), "A kernel two-sample test", JMLR 13:723.
    """
    xx, yy, xy = (_distances(a, b).square() for a, b in ((x, x), (y, y), (x, y)))
    width = _mean_without_self(yy).detach().clamp_min(1e-6)[:, None, None]
    total = torch.zeros(len(x), device=x.device, dtype=x.dtype)
    for multiple in multiples:
        kernel = [torch.exp(-d / (2 * multiple * width)) for d in (xx, yy, xy)]
        total = total + (
            _mean_without_self(kernel[0]) + _mean_without_self(kernel[1]) - 2 * kernel[2].mean(dim=(-2, -1))
        )
    return total / len(multiples)
