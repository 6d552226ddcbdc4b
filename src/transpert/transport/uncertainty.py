"""How far predicted effects are off, learned from groups that were left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np

from transpert._signatures import as_annotated
from transpert.errors import OptionError

from .effects import GroupEffects

# counts per 10k added before a log fold change of means is taken
PSEUDO_RATE = 0.05
# the error of a gene is a mean over the groups left out; so many groups' worth of the typical gene keep it steady
_PRIOR_GROUPS = 2.0
_N_QUANTILES = 401
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class ErrorModel:
    """Errors of predicted effects of groups that the prediction has not seen.

    Parameters
    ----------
    spread : (G,)
        Standard deviation of the error of each gene, beyond the sampling error of what it was compared with.
    quantiles : (401,)
        Quantiles, at equal steps from 0 to 1, of the absolute error in units of its standard deviation.
    n_groups
        How many groups were left out.
    """

    spread: np.ndarray
    quantiles: np.ndarray
    n_groups: int

    @classmethod
    def fit(
        cls,
        predicted: np.ndarray,
        observed: np.ndarray,
        variance: np.ndarray,
        units: Sequence[str] | np.ndarray | None = None,
    ) -> Self:
        """Learn the errors from predictions of left-out groups.

        The mean squared error of a gene, less its sampling variance, is the variance of the prediction's own error;
        it is drawn a little towards that of the typical gene. Errors need not be normal: how many standard deviations
        an interval spans is read off the errors themselves, those that tell more about predictions than about
        sampling counting more. With units, the standard deviation there is that of the other units: a few of them would
        know each other's errors too well.

        Parameters
        ----------
        predicted, observed : (P, G)
            Effects.
        variance : (P, G)
            Sampling variance of the observed effects.
        units : (P,)
            What each group was left out with, such as its context, where the errors of one unit are alike.

        Returns
        -------
        The errors.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.transport import ErrorModel
        >>> errors = np.random.default_rng(0).normal(size=(50, 100))
        >>> model = ErrorModel.fit(np.zeros((50, 100)), errors, np.zeros((50, 100)))
        >>> round(float(model.half_width(0.9).mean()), 1)
        1.6
        """
        squared = (observed - predicted) ** 2
        excess = squared - variance
        variance_of_gene = _steadied(excess)
        others = variance_of_gene if units is None else _variance_of_others(excess, units)
        standard = np.sqrt(squared / np.maximum(others + variance, _TINY)).ravel()
        weight = (np.maximum(variance_of_gene, _TINY) / np.maximum(variance_of_gene + variance, _TINY)).ravel()
        order = np.argsort(standard)
        reached = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
        quantiles = np.interp(np.linspace(0, 1, _N_QUANTILES), reached, standard[order])
        return cls(np.sqrt(variance_of_gene), quantiles, len(squared))

    def half_width(self, level: float, variance: np.ndarray | float = 0.0) -> np.ndarray:
        """Return half the width of a predictive interval for each gene, ``(G,)``.

        Parameters
        ----------
        level
            Share of effects that the interval is to contain.
        variance
            Sampling variance of what is measured; 0 for the effect in the whole population.

        Raises
        ------
        transpert.errors.OptionError
            If ``level`` is not a number between 0 and 1.
        """
        if not isinstance(level, Real) or not 0 < level < 1:
            raise OptionError(f"the level of an interval is {level!r}", remedy="Give a number from 0 to 1, like 0.9.")
        span = float(np.interp(level, np.linspace(0, 1, _N_QUANTILES), self.quantiles))
        return span * np.sqrt(self.spread**2 + variance)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain data and arrays."""
        return {"n_groups": self.n_groups}, {"spread": self.spread, "quantiles": self.quantiles}

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make errors from what :meth:`to_state` returned."""
        return cls(arrays["spread"], arrays["quantiles"], int(plain["n_groups"]))


def _steadied(excess: np.ndarray) -> np.ndarray:
    """Mean over groups of squared errors less their sampling variances, drawn a little towards the typical gene."""
    own = np.maximum(excess.mean(axis=0), 0)
    return (len(excess) * own + _PRIOR_GROUPS * own.mean()) / (len(excess) + _PRIOR_GROUPS)


def _variance_of_others(excess: np.ndarray, units: Sequence[str] | np.ndarray) -> np.ndarray:
    """For each group what the groups of the other units say of the errors, ``(P, G)``; all if there is one unit."""
    names, codes = np.unique(units, return_inverse=True)
    if len(names) == 1:
        return np.broadcast_to(_steadied(excess), excess.shape)
    return np.array([_steadied(excess[codes != code]) for code in range(len(names))])[codes]


@as_annotated(after="...", before="...")
def log_fold_of_means(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the natural-log fold change between two means of log1p counts per 10k.

    Parameters
    ----------
    after, before
        Mean log1p counts per 10k, arrays of one shape or single values.

    Returns
    -------
    The log fold changes in that shape; a rate of 0.05 counts per 10k is added to both sides before.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.transport import log_fold_of_means
    >>> float(log_fold_of_means(np.log1p(19.95), np.log1p(9.95)).round(3))
    0.693
    """
    return np.log(np.expm1(after) + PSEUDO_RATE) - np.log(np.expm1(before) + PSEUDO_RATE)


@as_annotated()
def observed_log_folds(effects: GroupEffects) -> tuple[np.ndarray, np.ndarray]:
    """Return measured effects as log fold changes of mean log1p values, and their sampling variances.

    Parameters
    ----------
    effects
        Measured effects.

    Returns
    -------
    Effects and variances, each ``(P, G)``.
    """
    variance = np.zeros_like(effects.treated.mean_log)
    for means in (effects.treated, effects.control):
        slope = np.exp(means.mean_log) / (np.expm1(means.mean_log) + PSEUDO_RATE)
        variance += slope**2 * effects.error_log(means)
    return log_fold_of_means(effects.treated.mean_log, effects.control.mean_log), variance
