"""Distances between populations of cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert._statistics import pearson
from transpert.errors import MetricInputError

from .metric import CELLS, Metric
from .population import Population

# multiples of the mean squared distance between two real cells
MMD_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
_BLOCK = 1024

type Cells = np.ndarray | sparse.spmatrix | Population


@as_annotated(error=MetricInputError, but=("cells", "other"))
@fill_docstring
def energy_distance(cells: Cells, other: Cells, *, squared: bool = False, self_pairs: bool = False) -> float:
    """Energy distance of two populations, ``2 E|x - y| - E|x - x'| - E|y - y'|``.

    Parameters
    ----------
    cells, other : (N, G), (M, G)
        Log1p counts per 10k, or any other space of nonnegative values.
    squared
        Take squared Euclidean distances (scPerturb, CellFlow) in place of plain ones (pertpy, cell-eval). Without
        self-pairs it is then twice an unbiased estimate of the squared distance of the means.
    self_pairs
        Count the distance of a cell to itself, 0, as one of the distances within a population (pertpy, cell-eval).
        That makes small populations look farther apart.

    Returns
    -------
    Lower is better. From 0 with self-pairs; about 0 or a little below without, where it is unbiased. A population of
    one cell has no distance within itself, which then counts as 0.

    %(raises_bad_matrices)s

    Notes
    -----
    Szekely and Rizzo 2013; Peidli et al. 2024 (scPerturb). Of all pairs of cells, none of which is sampled; block by
    block, no matrix of them is held. Float32 cells are multiplied in float32 after centring, and summed in
    double precision; of sparse cells, genes that few of them have are multiplied over the values that are not 0. The
    distances within a population are kept: give one :class:`Population` of the controls of a context to every
    comparison. :func:`transpert.tl.evaluate` does, and takes fewer controls with ``max_controls``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import energy_distance
    >>> energy_distance(np.array([[0.0], [0.0]]), np.array([[2.0], [2.0]]))
    4.0
    >>> energy_distance(np.array([[0.0], [0.0]]), np.array([[2.0], [2.0]]), squared=True)
    8.0
    """
    y = Population.of(other, where="the other cells")
    x = Population.of(cells)
    x.check_genes(y.n_genes)
    if squared:
        between = x.mean_square + y.mean_square - 2 * float(x.mean @ y.mean)
    else:
        between = _distance_sum(x, y) / (x.n_cells * y.n_cells)
    return 2 * between - sum(_within(z, squared, self_pairs) for z in (x, y))


@as_annotated(error=MetricInputError, but=("cells", "other"))
@fill_docstring
def maximum_mean_discrepancy(cells: Cells, other: Cells, *, scales: Sequence[float] = MMD_SCALES) -> float:
    """Squared maximum mean discrepancy under a mixture of Gaussian kernels.

    ``E k(x, x') + E k(y, y') - 2 E k(x, y)`` without self-pairs, ``k(x, y)`` the mean over ``scales`` of
    ``exp(-|x - y|^2 / (scale * s))``, with ``s`` the mean squared distance between two cells of ``other``.

    Parameters
    ----------
    cells, other : (N, G), (M, G)
        Log1p counts per 10k; give the real cells as ``other``, so that the bandwidths do not depend on the prediction.
    scales
        Squared bandwidths, as multiples of ``s``.

    Returns
    -------
    Lower is better; about 0 for the same distribution (it is unbiased, and can be a little below), at most 2. NaN if a
    population has one cell, or if all cells of ``other`` are the same.

    %(raises_bad_matrices)s

    Notes
    -----
    Gretton et al. 2012, the unbiased estimator. The mean squared distance has a closed form, unlike the median that
    is often taken.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import maximum_mean_discrepancy
    >>> cells = np.random.default_rng(0).random((40, 3))
    >>> maximum_mean_discrepancy(cells + 1, cells) > maximum_mean_discrepancy(cells + 0.1, cells)
    True
    """
    if not len(scales) or min(scales) <= 0:
        raise MetricInputError(f"scales is {scales}", where="scales", remedy="Give one number above 0, or several.")
    y = Population.of(other, where="the other cells")
    x = Population.of(cells)
    x.check_genes(y.n_genes)
    spread = _within(y, squared=True, self_pairs=False)
    if min(x.n_cells, y.n_cells) < 2 or spread <= 0:
        return float("nan")
    bandwidths = np.asarray(scales, dtype=float) * spread
    between = _kernel_sum(x, y, bandwidths) / (x.n_cells * y.n_cells)
    within = [(_kernel_sum(z, z, bandwidths) - z.n_cells) / (z.n_cells * (z.n_cells - 1)) for z in (x, y)]
    return sum(within) - 2 * between


def _within(population: Population, squared: bool, self_pairs: bool) -> float:
    """Mean distance of two cells of a population."""
    n = population.n_cells
    if squared:
        mean = max(2 * (population.mean_square - float(population.mean @ population.mean)), 0.0)
        return mean if self_pairs else mean * n / max(n - 1, 1)
    if population.distance_sum is None:
        population.distance_sum = _distance_sum(population, population)
    return population.distance_sum / (n * n if self_pairs else max(n * (n - 1), 1))


def _kernel_sum(x: Population, y: Population, bandwidths: np.ndarray) -> float:
    total = 0.0
    for block, times in _squared_distances(x, y):
        each = sum(float(np.exp(block / -width).sum(dtype=np.float64)) for width in bandwidths)
        total += times * each / len(bandwidths)
    return total


def _squared_distances(x: Population, y: Population) -> Iterator[tuple[np.ndarray, int]]:
    """Squared distances of the cells of ``x`` to those of ``y``, in blocks, and how often each block counts."""
    # around a common origin near both: far from it, rounding would be larger than the distances
    parts = y.parts if sparse.issparse(x.cells) else None
    there = y.centred if parts is None else parts.centred
    squares = y.centred_squares if parts is None else parts.squares
    rare = None
    if parts is not None:
        here, rare, own = (there, parts.rare, squares) if x is y else parts.of_others(x.cells)
    else:
        here = there if x is y else (x.dense - y.mean.astype(there.dtype)).astype(there.dtype, copy=False)
        own = squares if x is y else np.einsum("ij,ij->i", here, here)
    for start in range(0, len(here), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # within a population the rest of the row is that of the column: half of the products
        columns = [(rows, 1), (slice(start + _BLOCK, None), 2)] if x is y else [(slice(None), 1)]
        for column, times in columns:
            block = here[rows] @ there[column].T
            if parts is not None and rare is not None:
                parts.add_rare(block, rare[rows], column)
            block *= -2
            block += own[rows, None]
            block += squares[column]
            np.maximum(block, 0, out=block)
            if column is rows:
                np.fill_diagonal(block, 0)  # of a cell to itself rounding makes a little more than nothing
            yield block, times


def _distance_sum(x: Population, y: Population) -> float:
    return sum(
        times * float(np.sqrt(block, out=block).sum(dtype=np.float64)) for block, times in _squared_distances(x, y)
    )


_ENERGY = ("energy_predicted", "energy_real")


def _pearson_energy(summaries: Any) -> np.ndarray:
    """Correlate predicted and real energy distances to the controls over the perturbations of each context."""
    return summaries.one(lambda rows: pearson(*(summaries[name][rows] for name in _ENERGY)))


ENTRIES = (
    Metric("energy_distance", "distribution", "lower", CELLS, lambda c: energy_distance(c.predicted, c.real)),
    Metric(
        "energy_distance_squared",
        "distribution",
        "lower",
        CELLS,
        lambda c: energy_distance(c.predicted, c.real, squared=True),
    ),
    Metric("mmd_rbf", "distribution", "lower", CELLS, lambda c: maximum_mean_discrepancy(c.predicted, c.real)),
    Metric(
        "pearson_edistance",
        "distribution",
        "higher",
        _ENERGY,
        _pearson_energy,
        level="prediction",
        per="context",
        panels=("cell-eval",),
    ),
)
