"""What the anchor says about training groups that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transpert.transport import Anchor, GroupEffects

__all__ = ["LeftOutShifts", "leave_folds_out"]


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutShifts:
    """Shifts of the training groups, each predicted by an anchor that knows nothing of its fold.

    Parameters
    ----------
    shifts : (P, G)
        Predicted shifts of the mean log1p.
    comparable : (P,)
        Whether that anchor is of the same kind as the one that predicts, bool: with too few contexts left, it cannot
        learn how effects follow the context, and is beaten by anything.
    """

    shifts: np.ndarray
    comparable: np.ndarray


def leave_folds_out(
    whole: Anchor, effects: GroupEffects, fold: np.ndarray, fit: Callable[[GroupEffects], Anchor]
) -> LeftOutShifts:
    """Predict the groups of every fold by an anchor fitted to the others.

    Everything is fitted again. An anchor that only leaves the effects of a fold out, but has chosen its kernel and its
    weights with them, looks better than it is.

    Parameters
    ----------
    whole
        The anchor that predicts, fitted to all groups.
    effects
        The effects of the ``P`` training groups.
    fold : (P,)
        Fold of every group; -1 for all where there are too few to divide.
    fit
        Fits an anchor to some of the groups.

    Returns
    -------
    The shifts. Without folds every group is left out by itself, of the anchor that there is.
    """
    everything = np.ones(len(effects), dtype=bool)
    if (fold < 0).all():
        return LeftOutShifts(whole.predict_left_out(effects, lambda row: np.arange(len(fold)) == row), everything)
    shifts, comparable = np.zeros_like(effects.shift()), everything.copy()
    for number in np.unique(fold):
        own = fold == number
        if own.all():  # a single fold: nothing is left to learn from, and no effect is what is then expected
            break
        anchor = fit(effects[~own])
        shifts[own] = anchor.predict_groups(effects[own])
        comparable[own] = all(
            dependence is None or anchor.dependence[space] is not None for space, dependence in whole.dependence.items()
        )
    return LeftOutShifts(shifts, comparable)
