"""How the effect of a condition follows the control profile of its context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from transpert._signatures import check_fields
from transpert.conditions import Condition

from .coefficients import EffectTable, cell_weights

# with fewer contexts there is nothing to learn about how an effect depends on them
FEWEST_CONTEXTS = 4
# profiles whose differences are a smaller share of them are those of the same cells, but for rounding
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class ContextScores:
    """Contexts in which a condition was measured, and the one asked for, on their leading principal components.

    Parameters
    ----------
    rows : (R,)
        Effects of the condition in other contexts.
    weights : (R,)
        What each of them counts.
    scores : (R, K)
        Their control profiles, in units of the leading component, the largest component first.
    target : (K,)
        The control profile of the context asked for.
    """

    rows: np.ndarray
    weights: np.ndarray
    scores: np.ndarray
    target: np.ndarray

    @classmethod
    def of(
        cls,
        table: EffectTable,
        condition: Condition,
        context: str,
        profile: np.ndarray,
        allowed: np.ndarray,
        *,
        n_components: int,
    ) -> Self | None:
        """Find the contexts and their scores.

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
            Principal components, at most.

        Returns
        -------
        The scores; ``None`` with fewer than four contexts, or where all have the same controls.
        """
        rows = np.flatnonzero(table.of_condition(condition) & allowed & ~table.of_context(context))
        if len(rows) < FEWEST_CONTEXTS:
            return None
        share = np.sqrt(table.weights[rows] / table.weights[rows].sum())
        centre = np.average(table.profiles[rows], axis=0, weights=share)
        centred = (table.profiles[rows] - centre) * np.sqrt(share)[:, None]
        # the Gram matrix is contexts x contexts, and so never large
        values, vectors = np.linalg.eigh(centred @ centred.T)
        kept = np.argsort(values)[::-1][: min(n_components, len(rows) - 1)]
        if values[kept[0]] <= _ROUNDING**2 * (centre @ centre):
            return None
        kept = kept[values[kept] > 1e-9 * values[kept[0]]]
        loadings = (centred.T @ vectors[:, kept]) / (np.sqrt(values[kept]) * np.sqrt(values[kept[0]]))
        scores = (table.profiles[rows] - centre) @ loadings
        return cls(rows, cell_weights(table.weights[rows]), scores, (profile - centre) @ loadings)


@dataclass(frozen=True, slots=True)
class Dependence:
    """A regression of effects on the control profiles of their contexts.

    It is linear in the effects, and so its weights are the same for every gene.

    Parameters
    ----------
    n_components
        Principal components of the control profiles that it sees.
    penalty
        Ridge penalty: without ``width`` relative to the leading component, else to the kernel's diagonal, which is 1.
    width
        Width of a Gaussian kernel, relative to the median distance of two contexts, so that contexts whose controls
        are alike are expected to answer alike; ``None`` for a linear dependence.

    Notes
    -----
    With a width it is the posterior mean of a Gaussian process: Rasmussen & Williams (2006), "Gaussian Processes for
    Machine Learning", chapter 2.
    """

    n_components: int
    penalty: float
    width: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def coefficients(self, contexts: ContextScores | None, n_effects: int) -> np.ndarray:
        """Weights of the measured effects in how the target deviates from the mean over contexts.

        Parameters
        ----------
        contexts
            Where the condition was measured, with at least ``n_components`` components where there are as many.
        n_effects
            Number of measured effects.

        Returns
        -------
        ``(P,)``, which sum to 0; all 0 where there are too few contexts, or nothing tells them apart.
        """
        coefficients = np.zeros(n_effects)
        if contexts is None:
            return coefficients
        by_row = self._linear(contexts) if self.width is None else self._kernel(contexts, self.width)
        # the effects are centred on their weighted mean before they are regressed
        weights = contexts.weights
        coefficients[contexts.rows] = by_row - by_row.sum() * weights / weights.sum()
        return coefficients

    def _linear(self, contexts: ContextScores) -> np.ndarray:
        scores, target = contexts.scores[:, : self.n_components], contexts.target[: self.n_components]
        weights = contexts.weights[:, None]
        middle = np.average(scores, axis=0, weights=contexts.weights)
        deviations = scores - middle
        gram = (deviations * weights).T @ deviations + self.penalty * np.eye(scores.shape[1])
        return (target - middle) @ np.linalg.solve(gram, (deviations * weights).T)

    def _kernel(self, contexts: ContextScores, width: float) -> np.ndarray:
        scores, target = contexts.scores[:, : self.n_components], contexts.target[: self.n_components]
        between = np.square(scores[:, None] - scores).sum(axis=2)
        typical = np.median(between[np.triu_indices(len(scores), 1)])
        if typical <= 0:
            return np.zeros(len(scores))
        scale = 2 * width**2 * typical
        kernel = np.exp(-between / scale) + np.diag(self.penalty / contexts.weights)
        return np.linalg.solve(kernel, np.exp(-np.square(scores - target).sum(axis=1) / scale))
