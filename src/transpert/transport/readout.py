"""The count read-out: counts of control cells are thinned or added to until their mean is the predicted one."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import sparse

from transpert import _keys
from transpert._counts import check_library_sizes, library_of_each, read_counts
from transpert._matrices import csr_of_dense
from transpert._signatures import as_annotated
from transpert.errors import CountsError, GroupSizeError

from .options import ReadoutOptions
from .readout_search import add_expected, add_to_genes, thin_expected, thin_genes
from .statistics import GroupStatistics, PooledStatistics

_DISPERSIONS: Final = (1e-3, 10.0)  # smallest and largest estimate
# counts of which the logarithm is looked up
_SMALL_COUNTS: Final = 16
# genes whose cells are looked at together, so that they stay in the cache
_GENES_AT_ONCE: Final = 64


@as_annotated()
def estimate_dispersion(statistics: GroupStatistics | PooledStatistics) -> np.ndarray:
    """Estimate one negative-binomial dispersion a gene by the method of moments, pooled over groups.

    Parameters
    ----------
    statistics
        Groups of cells; the variance between groups does not enter.

    Returns
    -------
    ``(G,)``, from .001 to 10: the dispersion ``d`` of ``variance = mean + d mean^2``, where counts are measured against
    their own library size.

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
    excess, square = statistics.overdispersion()
    dispersion = excess / np.maximum(square, 1e-12)
    return np.clip(np.where(square > 0, dispersion, 1.0), *_DISPERSIONS)


@as_annotated(counts="N G", cell_effects="N G")
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
        If ``counts`` are not counts, there is not one library size above 0 for each cell, or a target is NaN, infinite
        or negative.
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
    target = np.asarray(target_mean_log, dtype=np.float64)
    matrix = sparse.csr_matrix(read_counts(counts, where="the control counts"))
    if not matrix.shape[0]:
        raise GroupSizeError("there are no control cells to move", remedy="Give at least one control cell.")
    _check_target(target, matrix.shape[1])
    library = library_of_each(matrix, library_size)
    check_library_sizes(library, where="library_size")
    factor = _keys.SCALE_FACTOR / library
    shift = target - _mean_log(matrix, factor)
    rng = np.random.default_rng(seed)
    moved = matrix.toarray().astype(np.float32, copy=False)
    largest = np.maximum(np.floor(library), moved.max(axis=1))
    table = np.log1p(factor[:, None] * np.arange(_SMALL_COUNTS))
    for genes, sign in ((shift < -options.tolerance, -1.0), (shift > options.tolerance, 1.0)):
        chosen = np.flatnonzero(genes)
        for start in range(0, len(chosen), _GENES_AT_ONCE):
            columns = chosen[start : start + _GENES_AT_ONCE]
            block = moved[:, columns].T.astype(np.float64, order="C")
            weights = _weights(cell_effects, columns, sign, block.shape)
            if options.kind == "expected":
                change = thin_expected if sign < 0 else add_expected
                change(block, factor, weights, target[columns])
            elif sign < 0:
                thin_genes(block, factor, table, weights, target[columns], rng.random(block.shape))
            else:
                drawn = rng.random(block.shape)
                if dispersion is not None:
                    weights *= _frailty(np.asarray(dispersion, float)[columns], block.shape, rng)
                with np.errstate(divide="ignore"):
                    waits = -np.log(drawn)
                add_to_genes(block, factor, table, weights / factor, target[columns], drawn, waits)
            moved[:, columns] = block.T
    # no gene of a cell can have more counts than the cell
    return csr_of_dense(np.minimum(moved, largest[:, None], dtype=np.float32))


def _mean_log(counts: sparse.csr_matrix, factor: np.ndarray) -> np.ndarray:
    """Mean over the cells of log1p counts per 10k, ``(G,)``."""
    values = np.log1p(counts.data * np.repeat(factor, np.diff(counts.indptr)))
    return np.bincount(counts.indices, weights=values, minlength=counts.shape[1]) / counts.shape[0]


def _check_target(target: np.ndarray, n_genes: int) -> None:
    """Refuse target means of another shape, or that no cell can have."""
    if target.shape != (n_genes,):
        raise CountsError(
            f"the target has shape {target.shape}, not ({n_genes},)",
            where="target_mean_log",
            remedy="Give one mean for each gene.",
        )
    wrong = int(np.count_nonzero(~np.isfinite(target) | (target < -1e-6)))
    if wrong:
        raise CountsError(
            f"{wrong} values are NaN, infinite or negative",
            where="target_mean_log",
            remedy="Give means of log1p counts per 10k.",
        )


def _weights(effects: np.ndarray | None, genes: np.ndarray, sign: float, shape: tuple[int, int]) -> np.ndarray:
    """The part ``(G, N)`` that each cell takes in the change of a gene; its mean over the cells is 1."""
    if effects is None:
        return np.ones(shape)
    change = effects[:, genes].T.astype(np.float64, order="C")
    part = np.expm1(np.clip(change, 0, 10)) if sign > 0 else np.clip(-change, 0, 10)
    mean = part.mean(axis=1, keepdims=True)
    # where no cell is said to go in this direction, all take the same part
    return np.where(mean > 1e-8, part / np.maximum(mean, 1e-8), 1.0)


def _frailty(dispersion: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Gamma variables ``(G, N)`` of mean 1, which make a Poisson draw negative binomial."""
    shape_parameter = 1 / np.maximum(dispersion, 1e-8)[:, None]
    drawn = rng.gamma(shape_parameter, size=shape) / shape_parameter
    return np.where(dispersion[:, None] > 1e-8, drawn, 1.0)
