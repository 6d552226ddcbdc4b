"""Every prediction of the anchor is a weighted sum of measured effects; here are the weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np

from transpert.conditions import Condition
from transpert.conditions.condition import opposed

# beyond this multiple of the average, more cells make a context no more informative than another
_LARGEST_WEIGHT = 3.0
# to copy the effects that count pays where they are at most a fourth of all
_FEW = 4
# so many effects at a time are read, and become double precision
_ROWS_AT_ONCE = 256
# what is left of a coefficient by rounding, as a share of it
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class EffectTable:
    """Which effects were measured, and what is known about their contexts."""

    contexts: np.ndarray
    conditions: tuple[Condition, ...]
    weights: np.ndarray
    profiles: np.ndarray
    _by_condition: dict[Hashable, np.ndarray] = field(init=False, repr=False)
    _by_action: dict[Hashable, np.ndarray] = field(init=False, repr=False)
    _by_context: dict[Hashable, np.ndarray] = field(init=False, repr=False)
    _by_part: dict[Hashable, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # these are asked for thousands of times while an anchor is fitted
        object.__setattr__(self, "_by_condition", rows_by((condition,) for condition in self.conditions))
        object.__setattr__(self, "_by_action", rows_by((condition.action,) for condition in self.conditions))
        object.__setattr__(self, "_by_context", rows_by((context,) for context in self.contexts))
        object.__setattr__(self, "_by_part", rows_by(condition.parts for condition in self.conditions))

    def rows_of_context(self, context: str) -> np.ndarray:
        """Return the rows of the effects that were measured in a context."""
        return self._by_context[context]

    def of_context(self, context: str) -> np.ndarray:
        """Return which effects were measured in a context."""
        return self._marked(self._by_context, context)

    def of_condition(self, condition: Condition) -> np.ndarray:
        """Return which effects are those of a condition, at its dose and time."""
        return self._marked(self._by_condition, condition)

    def of_action(self, condition: Condition) -> np.ndarray:
        """Return which effects are those of the perturbations of a condition, at whatever dose and time."""
        return self._marked(self._by_action, condition.action)

    def n_shared_parts(self, condition: Condition) -> np.ndarray:
        """Return how many of the perturbations of a condition each effect is of, alone or with others, ``(P,)``."""
        shared = np.zeros(len(self.conditions), dtype=int)
        for part in set(condition.parts):
            shared += self._marked(self._by_part, part)
        return shared

    def was_given(self, part: str, direction: str | None) -> bool:
        """Return whether a perturbation was measured, alone or with others, in a direction that is not another one."""
        rows = self._by_part.get(part, ())
        return any(not opposed(direction, dict(self.conditions[row].action)[part]) for row in rows)

    def _marked(self, rows_of: dict[Hashable, np.ndarray], name: Hashable) -> np.ndarray:
        marked = np.zeros(len(self.conditions), dtype=bool)
        marked[rows_of.get(name, [])] = True
        return marked


def rows_by(names_of_rows: Iterable[Iterable[Hashable]]) -> dict[Hashable, np.ndarray]:
    """Rows under each of the names that they have."""
    rows: dict[Hashable, list[int]] = {}
    for row, names in enumerate(names_of_rows):
        for name in names:
            rows.setdefault(name, []).append(row)
    return {name: np.array(found) for name, found in rows.items()}


def weighted_sum(coefficients: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Sum effects ``(P, G)`` with coefficients ``(P,)`` or ``(R, P)``, reading only those that count.

    With few of a hundred thousand effects that is hundreds of times faster than a product with all of them.
    """
    used = np.flatnonzero(coefficients if coefficients.ndim == 1 else coefficients.any(axis=0))
    if _FEW * len(used) > len(effects) and effects.dtype == np.float64:
        return coefficients @ effects
    total = np.zeros((*coefficients.shape[:-1], effects.shape[1]))
    for start in range(0, len(used), _ROWS_AT_ONCE):
        rows = used[start : start + _ROWS_AT_ONCE]
        total += coefficients[..., rows] @ effects[rows]
    return total


class SumsByContext:
    """Sums of effects over each context, of which weighted sums over all effects are made.

    The main effect of a context has the coefficients of all of its effects in fixed proportions, but for those that are
    left out. Its sum is made once, and a weighted sum adds what is left for single effects.

    Parameters
    ----------
    table
        The measured effects.
    values : (P, G)
        Effects or their variances.
    power
        1 for effects; 2 for variances, whose coefficients are squares.
    """

    def __init__(self, table: EffectTable, values: np.ndarray, power: int) -> None:
        self._values = values
        self._rows = [table.rows_of_context(context) for context in dict.fromkeys(table.contexts)]
        self._weights = [cell_weights(table.weights[rows]) ** power for rows in self._rows]
        coefficients = np.zeros((len(self._rows), len(values)))
        for number, (rows, weights) in enumerate(zip(self._rows, self._weights, strict=True)):
            coefficients[number, rows] = weights
        self._sums = np.array([weighted_sum(own, values) for own in coefficients])

    def weighted(self, coefficients: np.ndarray) -> np.ndarray:
        """Sum the values with coefficients ``(R, P)``, as :func:`weighted_sum`."""
        if np.count_nonzero(coefficients.any(axis=0)) <= len(self._sums):
            return weighted_sum(coefficients, self._values)
        left = coefficients.copy()
        shares = np.zeros((len(coefficients), len(self._sums)))
        for number, (rows, weights) in enumerate(zip(self._rows, self._weights, strict=True)):
            own = coefficients[:, rows]
            if not own.any():
                continue
            # the proportion that most effects of the context have
            proportions = np.divide(own, weights, out=np.zeros_like(own), where=weights > 0)
            shares[:, number] = np.partition(proportions, len(rows) // 2, axis=1)[:, len(rows) // 2]
            expected = shares[:, [number]] * weights
            own = own - expected
            left[:, rows] = np.where(np.abs(own) <= _ROUNDING * np.abs(expected), 0, own)
        return shares @ self._sums + weighted_sum(left, self._values)


def cell_weights(n_cells: np.ndarray) -> np.ndarray:
    """Weigh effects by their cells, relative to the average and no one above three times that."""
    return np.minimum(n_cells / n_cells.mean(), _LARGEST_WEIGHT)


def _average(table: EffectTable, rows: np.ndarray) -> np.ndarray:
    """Coefficients of the mean of some effects, by number of cells but no one above its share."""
    coefficients = np.zeros(len(table.weights))
    if rows.any():
        coefficients[rows] = cell_weights(table.weights[rows])
        coefficients /= coefficients.sum()
    return coefficients


def context_coefficients(
    table: EffectTable, context: str, allowed: np.ndarray, *, without: Condition | None = None
) -> np.ndarray:
    """Coefficients of the main effect of a context: the mean over the perturbations seen in it."""
    rows = table.of_context(context) & allowed
    if without is not None:
        rows &= ~table.of_condition(without)
    return _average(table, rows)


def condition_coefficients(table: EffectTable, condition: Condition, context: str, allowed: np.ndarray) -> np.ndarray:
    """Coefficients of the main effect of a condition: its mean over other contexts, less what those have in common.

    From each effect the main effect of its own context (over the other perturbations) is taken off, where the target
    context has a main effect of its own to put in its place.
    """
    rows = table.of_condition(condition) & allowed & ~table.of_context(context)
    mean = _average(table, rows)
    if not context_coefficients(table, context, allowed, without=condition).any():
        return mean
    deviation = mean.copy()
    for row in np.flatnonzero(mean):
        deviation -= mean[row] * context_coefficients(table, table.contexts[row], allowed, without=condition)
    return deviation
