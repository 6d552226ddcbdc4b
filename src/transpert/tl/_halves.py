"""Effects measured twice, in disjoint halves of the treated cells and of the controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from transpert._matrices import as_dense
from transpert.conditions.text import population_text
from transpert.errors import GroupSizeError, list_names, warn_user
from transpert.scaling import HalvedEffects

from ._populations import Populations

_FEWEST = 4  # cells, two in each half
_MOST_CELLS = 250  # of a half, to measure their covariance


def large_populations(found: Populations) -> list[tuple[str, str]]:
    """Return the populations that have enough cells to be halved, with enough controls.

    Raises
    ------
    transpert.errors.GroupSizeError
        If there is none.
    """
    controlled = {context for context, rows in found.controls.items() if len(rows) >= _FEWEST}
    large = [key for key in found if len(found.cells[key]) >= _FEWEST and key[0] in controlled]
    if not large:
        raise GroupSizeError(
            f"no population has {_FEWEST} cells and {_FEWEST} controls",
            remedy="Effects are measured in two halves of the cells: pool contexts, or take more cells.",
        )
    if len(large) < len(found.cells):
        small = [population_text(*key) for key in found if key not in set(large)]
        warn_user(
            f"{len(small)} populations with fewer than {_FEWEST} cells or controls are left out: {list_names(small)}."
        )
    return large


def halved_effects(
    values: np.ndarray | sparse.csr_matrix,
    found: Populations,
    batches: np.ndarray,
    wanted: list[tuple[str, str]],
    rng: np.random.Generator,
) -> HalvedEffects:
    """Draw halves and measure the difference of mean log1p in each, with the controls of the same batches.

    Parameters
    ----------
    values : (N, G)
        Log1p counts per 10k.
    found, wanted
        The populations, and which of them are measured.
    batches : (N,)
        Number of the batch of every cell; controls are weighted as the treated cells are spread over batches.
    rng
        Draws the halves, inside every batch.
    """
    contexts = dict.fromkeys(context for context, _ in wanted)
    controls = {context: _halves(found.controls[context], batches, rng) for context in contexts}
    treated = [_halves(found.cells[key], batches, rng) for key in wanted]
    sides = []
    for half in (0, 1):
        before = {context: _Controls.of(values, rows[half], batches) for context, rows in controls.items()}
        after = _means(values, [rows[half] for rows in treated])
        for row, (context, _) in enumerate(wanted):
            after[row] -= before[context].mean(batches[treated[row][half]])
        sides.append(after)
    names = [label for _, label in wanted]
    of = np.array([context for context, _ in wanted], dtype=object)
    return HalvedEffects(sides[0], sides[1], of, np.array(names, dtype=object))


def shared_errors(
    values: np.ndarray | sparse.csr_matrix,
    found: Populations,
    batches: np.ndarray,
    wanted: list[tuple[str, str]],
    n_splits: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Sampling variances of the energy that perturbations share in one context, and in two, when they share nothing.

    Both come from the square of the covariance of the control cells, which is measured between two halves of them.
    """
    errors = []
    for context in dict.fromkeys(context for context, _ in wanted):
        rows = found.controls[context]
        sizes = np.array([len(found.cells[key]) for key in wanted if key[0] == context])
        # of the mean over perturbations, each with controls that are the same for all
        one_cell = 1 / len(rows) + (1 / sizes).sum() / len(sizes) ** 2
        errors.append(one_cell * np.sqrt(_squared_covariance(values, rows, batches, rng)))
    shared, n = np.array(errors), len(errors)
    within = (2 + 2 / n_splits) * (shared**2).sum() / n**2  # halves that are drawn so often
    pairs = shared.sum() ** 2 - (shared**2).sum()
    return float(within), float(2 * pairs / max(n * (n - 1), 1) ** 2)


def _squared_covariance(
    values: np.ndarray | sparse.csr_matrix, rows: np.ndarray, batches: np.ndarray, rng: np.random.Generator
) -> float:
    """Trace of the square of the covariance of cells around the means of their batches."""
    centred = []
    for half in _halves(rows, batches, rng):
        cells = as_dense(values[half[:_MOST_CELLS]])
        numbers = np.unique(batches[half[:_MOST_CELLS]], return_inverse=True)[1]
        means = np.stack([cells[numbers == number].mean(axis=0) for number in range(numbers.max() + 1)])
        freedom = max(len(cells) - len(means), 1)
        centred.append((cells - means[numbers]) / np.sqrt(freedom))
    return float(((centred[0] @ centred[1].T) ** 2).sum())


def _halves(rows: np.ndarray, batches: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Halve cells at random, so that each batch is halved too."""
    order = rows[np.lexsort((rng.random(len(rows)), batches[rows]))]
    return order[::2], order[1::2]


def _means(values: np.ndarray | sparse.csr_matrix, sets: list[np.ndarray]) -> np.ndarray:
    """Mean over the cells of each set, ``(len(sets), G)``."""
    cells = np.concatenate(sets)
    sizes = np.array([len(rows) for rows in sets])
    weights = sparse.csr_array(
        (np.repeat(1 / sizes, sizes), cells, np.concatenate([[0], np.cumsum(sizes)])),
        shape=(len(sets), values.shape[0]),
    )
    return as_dense(weights @ values)


@dataclass(frozen=True, slots=True, eq=False)
class _Controls:
    """Mean of the control cells of one context in every batch, ``(B, G)``, and the numbers of the batches."""

    numbers: np.ndarray
    sizes: np.ndarray
    means: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray | sparse.csr_matrix, rows: np.ndarray, batches: np.ndarray) -> _Controls:
        numbers, sizes = np.unique(batches[rows], return_counts=True)
        return cls(numbers, sizes, _means(values, [rows[batches[rows] == number] for number in numbers]))

    def mean(self, batches: np.ndarray) -> np.ndarray:
        """Average them as treated cells are spread over batches; all of them alike where they share no batch."""
        shares = np.array([np.count_nonzero(batches == number) for number in self.numbers], dtype=np.float64)
        shares = shares if shares.any() else self.sizes
        return shares / shares.sum() @ self.means
