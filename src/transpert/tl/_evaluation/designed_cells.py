"""Cells that are made to have a mean, and are nothing like real cells: what a metric is audited with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from transpert._matrices import as_dense
from transpert.errors import OptionError

from .cell_reader import Fetch, Matrix
from .predictions import GivenPrediction, seed_of

_SHARE = 10  # one cell in so many carries the whole shift

type Make = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class DesignedCells:
    """Control cells that are turned into cells with a given mean."""

    before: GivenPrediction
    means: Mapping[tuple[str, str], np.ndarray]
    make: Make
    seed: int

    def cells(self, context: str, label: str, *, with_counts: bool) -> Fetch:
        """Return what makes the cells of a population."""
        fetch = self.before.cells(context, label, with_counts=False)
        return partial(_make_cells, fetch, self.means[context, label], self.make, seed_of(self.seed, context, label))

    def controls(self, context: str, *, limit: int | None, seed: int, with_counts: bool) -> Fetch:
        """Refuse: designed cells bring no controls."""
        raise OptionError("designed cells bring no controls", remedy="Take the real controls as the reference.")


def _make_cells(fetch: Fetch, mean: np.ndarray, make: Make, seed: int) -> tuple[Matrix, None]:
    """Make designed cells of those that are read."""
    return make(as_dense(fetch()[0]), mean, np.random.default_rng(seed)).astype(np.float32), None


def raise_a_tenth(cells: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change as few cells as give the mean: a tenth rises, or values are taken from cell after cell."""
    made = cells[rng.permutation(len(cells))]
    lacking = mean * len(made) - made.sum(axis=0)
    n_rising = max(len(made) // _SHARE, 1)
    made[:n_rising] += np.maximum(lacking, 0) / n_rising
    given_before = np.cumsum(made, axis=0) - made
    return made - np.clip(np.maximum(-lacking, 0) - given_before, 0, made)


def with_zeros(cells: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give every gene as many zeros as it has, in cells drawn for it alone, and one value elsewhere."""
    n_cells = len(cells)
    n_zeros = np.minimum((cells == 0).sum(axis=0), n_cells - 1)
    places = rng.permuted(np.tile(np.arange(n_cells)[:, None], (1, cells.shape[1])), axis=0)
    return np.where(places < n_zeros, 0.0, mean * n_cells / (n_cells - n_zeros))
