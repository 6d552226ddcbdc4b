"""The count read-out: counts of control cells are thinned or added to until their mean is the predicted one."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from scipy import sparse

from transpert import _keys
from transpert._counts import check_counts
from transpert.errors import CountsError, GroupSizeError

from .options import ReadoutOptions
from .statistics import GroupStatistics

__all__ = ["estimate_dispersion", "transport_counts"]

_BISECTIONS: Final = 40
# an added rate above this, in counts per 10k, is more than a gene can have
_LARGEST_RATE: Final = 1e4
# a gene thinned to exp(-30) of its counts has none left
_LARGEST_STRENGTH: Final = 30.0


def estimate_dispersion(statistics: GroupStatistics, *, smallest: float = 1e-3, largest: float = 10.0) -> np.ndarray:
    """Estimate one negative-binomial dispersion a gene by the method of moments, pooled over groups.

    Parameters
    ----------
    statistics
        Groups of cells; the variance between groups does not enter.
    smallest, largest
        Bounds of the estimate.

    Returns
    -------
    ``(G,)``: the dispersion ``d`` of ``variance = mean + d mean^2``, where counts are measured against their own
    library size.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.transport import estimate_dispersion, group_statistics
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.negative_binomial(2, 2 / (2 + 5), size=(4000, 1))
    >>> groups = group_statistics(counts, np.full(4000, 1e4), np.zeros(4000, dtype=int), 1)
    >>> estimate_dispersion(groups).round(1).tolist()
    [0.5]
    """
    weight = np.maximum(statistics.n_cells - 1, 0)[:, None]
    # Poisson noise of a rate is rate * E[1e4 / library]; what is left over is biological
    excess = statistics.var_rate - statistics.mean_rate * statistics.mean_inverse_library[:, None]
    square = (weight * statistics.mean_rate**2).sum(axis=0)
    dispersion = (weight * excess).sum(axis=0) / np.maximum(square, 1e-12)
    return np.clip(np.where(square > 0, dispersion, 1.0), smallest, largest)


def transport_counts(
    counts: sparse.csr_matrix | np.ndarray,
    library_size: np.ndarray,
    target_mean_log: np.ndarray,
    *,
    cell_effects: np.ndarray | None = None,
    dispersion: np.ndarray | None = None,
    seed: int | np.random.Generator = 0,
    options: ReadoutOptions | None = None,
) -> sparse.csr_matrix:
    """Change counts of control cells so that every gene has the predicted mean log1p over the set.

    A gene that goes down is thinned, ``k1 ~ Binomial(k0, r)``; one that goes up is added to,
    ``k1 = k0 + NegativeBinomial(a * library / 1e4)``; one that does not change is not touched. ``r`` or ``a`` is found
    by bisection on the realised draw, so that the mean is met up to the size of one count. Zeros, noise and
    correlations of real cells are kept.

    Parameters
    ----------
    counts : (N, G)
        Raw counts of control cells.
    library_size : (N,)
        Total counts of each cell over all measured genes. The result is to be normalised by the same sizes.
    target_mean_log : (G,)
        Predicted mean over the cells of log1p counts per 10k.
    cell_effects : (N, G)
        Predicted log fold change of every gene in every cell. Only its pattern over the cells counts: cells with a
        larger change in the direction of the gene take a larger part in it. The same part for all by default.
    dispersion : (G,)
        Negative-binomial dispersion of what is added; 0 (Poisson) by default.
    seed
        Seed of the draw.
    options
        ``kind="expected"`` scales and adds without drawing, which gives smooth values instead of integers.

    Returns
    -------
    ``(N, G)`` CSR float32, integers unless ``kind="expected"``.

    Raises
    ------
    transpert.errors.CountsError
        If ``counts`` are not counts, or a target is NaN, infinite or negative.
    transpert.errors.GroupSizeError
        If there are no cells.

    Notes
    -----
    Zeros make up most of a count matrix, and adding a constant to log values destroys them: a rank test then calls
    nearly every gene significant. Binomial thinning of counts is used for simulation in Gerard (2020), "Data-based
    RNA-seq simulations by binomial thinning", BMC Bioinformatics 21:206.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.transport import transport_counts
    >>> counts = np.random.default_rng(0).poisson(5, size=(200, 2))
    >>> library = np.full(200, 1e4)
    >>> before = np.log1p(counts).mean(axis=0)
    >>> moved = transport_counts(counts, library, before - [0.5, 0.0])
    >>> bool((moved.toarray() <= counts).all()), bool((moved[:, 1].toarray().ravel() == counts[:, 1]).all())
    (True, True)
    """
    options = options or ReadoutOptions()
    check_counts(counts, where="the control counts")
    target = np.asarray(target_mean_log, dtype=np.float64)
    dense = np.asarray(counts.todense() if sparse.issparse(counts) else counts, dtype=np.float64)
    if not len(dense):
        raise GroupSizeError("there are no control cells to move")
    _check_target(target, dense.shape[1])
    factor = _keys.SCALE_FACTOR / np.asarray(library_size, dtype=np.float64)
    shift = target - np.log1p(dense * factor[:, None]).mean(axis=0)
    rng = np.random.default_rng(seed)
    moved = dense.copy()
    draw = options.kind == "counts"
    for genes, sign in ((shift < -options.tolerance, -1.0), (shift > options.tolerance, 1.0)):
        chosen = np.flatnonzero(genes)
        if not len(chosen):
            continue
        block = np.asfortranarray(dense[:, chosen])
        weights = _weights(cell_effects, chosen, sign, block.shape)
        noise = rng.random(block.shape, dtype=np.float64).T.copy().T
        if sign < 0:
            moved[:, chosen] = _thin(block, factor, weights, target[chosen], noise, draw)
        else:
            spread = np.zeros(len(chosen)) if dispersion is None else np.asarray(dispersion, float)[chosen]
            frailty = _frailty(spread, block.shape, rng) if draw else np.ones(block.shape)
            moved[:, chosen] = _add(block, factor, weights * frailty, target[chosen], noise, draw)
    # no gene of a cell can have more counts than the cell
    moved = np.minimum(moved, np.maximum(np.floor(library_size), dense.max(axis=1))[:, None])
    return sparse.csr_matrix(moved, dtype=np.float32)


def _check_target(target: np.ndarray, n_genes: int) -> None:
    if target.shape != (n_genes,):
        raise CountsError(f"the target has shape {target.shape}, not ({n_genes},)", where="target_mean_log")
    wrong = int(np.count_nonzero(~np.isfinite(target) | (target < -1e-6)))
    if wrong:
        raise CountsError(f"{wrong} values are NaN, infinite or negative", where="target_mean_log")


def _weights(effects: np.ndarray | None, genes: np.ndarray, sign: float, shape: tuple[int, int]) -> np.ndarray:
    """The part that each cell takes in the change of a gene; its mean over the cells is 1."""
    if effects is None:
        return np.ones(shape, order="F")
    change = np.asarray(effects[:, genes], dtype=np.float64)
    part = np.expm1(np.clip(change, 0, 10)) if sign > 0 else np.clip(-change, 0, 10)
    mean = part.mean(axis=0)
    # where no cell is said to go in this direction, all take the same part
    return np.asfortranarray(np.where(mean > 1e-8, part / np.maximum(mean, 1e-8), 1.0))


def _frailty(dispersion: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Gamma variables of mean 1, which make a Poisson draw negative binomial."""
    shape_parameter = 1 / np.maximum(dispersion, 1e-8)
    drawn = rng.gamma(shape_parameter, size=shape) / shape_parameter
    return np.asfortranarray(np.where(dispersion > 1e-8, drawn, 1.0))


@njit(cache=True)
def _binomial(u: float, n: int, p: float) -> float:
    """Inverse of the binomial distribution function: grows with ``p`` for the same ``u``."""
    if p >= 1.0:
        return n
    if p <= 0.0:
        return 0.0
    if n > 200:
        # wide enough for the normal approximation, whose quantile grows with p too
        value = np.floor(n * p + np.sqrt(n * p * (1 - p)) * _normal_quantile(u) + 0.5)
        return min(max(value, 0.0), float(n))
    odds = p / (1.0 - p)
    mass = (1.0 - p) ** n
    total = mass
    k = 0
    while total < u and k < n:
        mass *= odds * (n - k) / (k + 1)
        total += mass
        k += 1
    return float(k)


@njit(cache=True)
def _poisson(u: float, mean: float) -> float:
    """Inverse of the Poisson distribution function: grows with ``mean`` for the same ``u``."""
    if mean <= 0.0:
        return 0.0
    if mean > 100.0:
        return max(np.floor(mean + np.sqrt(mean) * _normal_quantile(u) + 0.5), 0.0)
    mass = np.exp(-mean)
    total = mass
    k = 0
    while total < u and k < 400:
        k += 1
        mass *= mean / k
        total += mass
    return float(k)


@njit(cache=True)
def _normal_quantile(u: float) -> float:
    """Abramowitz and Stegun 26.2.23, to 4.5e-4."""
    tail = min(u, 1.0 - u)
    t = np.sqrt(-2.0 * np.log(max(tail, 1e-300)))
    value = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (
        1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t
    )
    return value if u > 0.5 else -value


@njit(cache=True)
def _thin(
    counts: np.ndarray, factor: np.ndarray, weights: np.ndarray, target: np.ndarray, noise: np.ndarray, draw: bool
) -> np.ndarray:
    n_cells, n_genes = counts.shape
    result = np.empty_like(counts)
    for g in range(n_genes):
        low, high = 0.0, _LARGEST_STRENGTH
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            total = 0.0
            for i in range(n_cells):
                k = counts[i, g]
                if k > 0:
                    kept = np.exp(-middle * weights[i, g])
                    total += np.log1p(factor[i] * (_binomial(noise[i, g], int(k), kept) if draw else k * kept))
            if total / n_cells > target[g]:
                low = middle
            else:
                high = middle
        for i in range(n_cells):
            k = counts[i, g]
            kept = np.exp(-high * weights[i, g])
            result[i, g] = 0.0 if k == 0 else (_binomial(noise[i, g], int(k), kept) if draw else k * kept)
    return result


@njit(cache=True)
def _add(
    counts: np.ndarray, factor: np.ndarray, weights: np.ndarray, target: np.ndarray, noise: np.ndarray, draw: bool
) -> np.ndarray:
    n_cells, n_genes = counts.shape
    result = np.empty_like(counts)
    for g in range(n_genes):
        # bisect the logarithm: added rates span many orders of magnitude
        low, high = np.log(1e-6), np.log(_LARGEST_RATE)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            rate = np.exp(middle)
            total = 0.0
            for i in range(n_cells):
                mean = rate * weights[i, g] / factor[i]
                added = _poisson(noise[i, g], mean) if draw else mean
                total += np.log1p(factor[i] * (counts[i, g] + added))
            if total / n_cells < target[g]:
                low = middle
            else:
                high = middle
        rate = np.exp(low)
        for i in range(n_cells):
            mean = rate * weights[i, g] / factor[i]
            result[i, g] = counts[i, g] + (_poisson(noise[i, g], mean) if draw else mean)
    return result
