"""Every prediction of the anchor is a weighted sum of measured effects; here are the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transpert.conditions import Condition

__all__ = ["EffectTable", "condition_coefficients", "context_coefficients", "ridge_coefficients"]

# beyond this multiple of the average, more cells make a context no more telling than another
_LARGEST_WEIGHT = 3.0
# with fewer contexts there is nothing to learn about how an effect depends on them
_FEWEST_CONTEXTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class EffectTable:
    """Which effects were measured, and what is known about their contexts.

    Parameters
    ----------
    contexts : (P,)
        Context of each effect.
    conditions
        Condition of each effect.
    weights : (P,)
        Number of cells behind each effect.
    profiles : (P, G)
        Mean log1p of the controls of each effect.
    """

    contexts: np.ndarray
    conditions: tuple[Condition, ...]
    weights: np.ndarray
    profiles: np.ndarray

    def of_context(self, context: str) -> np.ndarray:
        """Return which effects were measured in a context."""
        return self.contexts == context

    def of_condition(self, condition: Condition) -> np.ndarray:
        """Return which effects are those of a condition, at its dose and time."""
        return np.array([other == condition for other in self.conditions], dtype=bool)

    def of_action(self, condition: Condition) -> np.ndarray:
        """Return which effects are those of the perturbations of a condition, at whatever dose and time."""
        action = condition.action
        return np.array([other.action == action for other in self.conditions], dtype=bool)


def _average(table: EffectTable, rows: np.ndarray) -> np.ndarray:
    """Coefficients of the mean of some effects, by number of cells but no one above its share."""
    coefficients = np.zeros(len(table.weights))
    if rows.any():
        coefficients[rows] = _capped(table.weights[rows])
        coefficients /= coefficients.sum()
    return coefficients


def _capped(weights: np.ndarray) -> np.ndarray:
    return np.minimum(weights / weights.mean(), _LARGEST_WEIGHT)


def context_coefficients(
    table: EffectTable, context: str, allowed: np.ndarray, *, without: Condition | None = None
) -> np.ndarray:
    """Coefficients of the main effect of a context: the mean over the perturbations seen in it.

    Parameters
    ----------
    table
        The measured effects.
    context
        The context.
    allowed : (P,)
        Effects that may be used.
    without
        A condition that is left out of the mean.

    Returns
    -------
    ``(P,)``; all zero where nothing else was seen in the context.
    """
    rows = table.of_context(context) & allowed
    if without is not None:
        rows &= ~table.of_condition(without)
    return _average(table, rows)


def condition_coefficients(table: EffectTable, condition: Condition, context: str, allowed: np.ndarray) -> np.ndarray:
    """Coefficients of the main effect of a condition: its mean over other contexts, less what those have in common.

    From each effect the main effect of its own context (over the other perturbations) is taken off, where the target
    context has a main effect of its own to put in its place.

    Parameters
    ----------
    table
        The measured effects.
    condition, context
        The target.
    allowed : (P,)
        Effects that may be used.

    Returns
    -------
    ``(P,)``; all zero where the condition was seen nowhere else.
    """
    rows = table.of_condition(condition) & allowed & ~table.of_context(context)
    mean = _average(table, rows)
    if not context_coefficients(table, context, allowed, without=condition).any():
        return mean
    deviation = mean.copy()
    for row in np.flatnonzero(mean):
        deviation -= mean[row] * context_coefficients(table, table.contexts[row], allowed, without=condition)
    return deviation


def ridge_coefficients(
    table: EffectTable,
    condition: Condition,
    context: str,
    profile: np.ndarray,
    allowed: np.ndarray,
    *,
    n_components: int,
    penalty: float,
) -> np.ndarray:
    """Coefficients of how the effect of a condition in a context deviates from its mean over contexts.

    A ridge regression of the effect on the leading principal components of the control profiles; linear in the
    effects, and therefore the same weights for every gene.

    Parameters
    ----------
    table
        The measured effects.
    condition, context
        The target.
    profile : (G,)
        Mean log1p of the controls of the target.
    allowed : (P,)
        Effects that may be used.
    n_components
        Number of principal components.
    penalty
        Ridge penalty, relative to the leading component.

    Returns
    -------
    ``(P,)``; all zero with fewer than four contexts.
    """
    rows = np.flatnonzero(table.of_condition(condition) & allowed & ~table.of_context(context))
    coefficients = np.zeros(len(table.weights))
    if len(rows) < _FEWEST_CONTEXTS:
        return coefficients
    weights = _capped(table.weights[rows])
    share = np.sqrt(table.weights[rows] / table.weights[rows].sum())
    centre = np.average(table.profiles[rows], axis=0, weights=share)
    centred = (table.profiles[rows] - centre) * np.sqrt(share)[:, None]
    # the Gram matrix is contexts x contexts, and so never large
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.argsort(values)[::-1][: min(n_components, len(rows) - 1)]
    kept = kept[values[kept] > 1e-9 * values[kept[0]]]
    loadings = (centred.T @ vectors[:, kept]) / np.sqrt(values[kept])
    scale = np.sqrt(values[kept[0]])
    scores = (table.profiles[rows] - centre) @ loadings / scale
    target = (profile - centre) @ loadings / scale
    middle = np.average(scores, axis=0, weights=weights)
    deviations = scores - middle
    gram = (deviations * weights[:, None]).T @ deviations + penalty * np.eye(len(kept))
    smoother = np.linalg.solve(gram, (deviations * weights[:, None]).T)
    by_row = (target - middle) @ smoother
    # the effects are centred on their weighted mean before they are regressed
    coefficients[rows] = by_row - by_row.sum() * weights / weights.sum()
    return coefficients
