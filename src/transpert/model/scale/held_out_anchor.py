"""What the anchor says about training groups that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from transpert.conditions import Condition
from transpert.groups import Groups
from transpert.transport import Anchor, GroupEffects
from transpert.transport.effects import groups_by_condition

from .folds import Folds, rows_of_split_kind

# one weight is fitted to them; of an atlas with a hundred thousand groups every one would take hours
_MOST_GROUPS = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutShifts:
    """Shifts of the training groups, each predicted by an anchor that knows nothing of its fold."""

    rows: np.ndarray
    shifts: np.ndarray
    comparable: np.ndarray

    def only(self, kept: np.ndarray) -> LeftOutShifts:
        """Return those of some rows, ``(R,)`` bool."""
        return LeftOutShifts(self.rows[kept], self.shifts[kept], self.comparable[kept])

    def of_groups(self, members: Sequence[Sequence[int]], n_groups: int) -> np.ndarray:
        """Return the shift of every group, ``(n_groups, G)``; ``members`` has the groups of each row, others have 0."""
        shifts = np.zeros((n_groups, self.shifts.shape[1]))
        for shift, own in zip(self.shifts, members, strict=True):
            shifts[own] = shift
        return shifts


def groups_of(effects: GroupEffects, groups: Groups) -> list[list[int]]:
    """Return the groups (batches of one condition in one context) behind every row of the effects."""
    members = groups_by_condition(groups)
    return [members[key] for key in zip(effects.contexts, effects.conditions, strict=True)]


def choose_groups(preferred: np.ndarray, *, seed: int) -> np.ndarray:
    """Draw the groups by which networks and anchor are tested: all, or a thousand where there are more."""
    drawn = np.random.default_rng(seed).permutation(len(preferred))
    first = np.argsort(~preferred[drawn], kind="stable")
    return np.sort(drawn[first][:_MOST_GROUPS])


def gate_rows(conditions: Sequence[Condition], folds: Folds, split_kind: str | None, *, seed: int) -> np.ndarray:
    """Choose the rows of the effects by which networks and anchor are tested, those that ask what is asked first."""
    preferred = rows_of_split_kind(conditions, folds.test_fold, split_kind)
    if not folds.any:
        return choose_groups(preferred, seed=seed)
    tested = np.flatnonzero(folds.test_fold >= 0)
    return tested[choose_groups(preferred[tested], seed=seed)]


def leave_folds_out(
    whole: Anchor, effects: GroupEffects, folds: Folds, fit: Callable[[GroupEffects], Anchor], rows: np.ndarray
) -> LeftOutShifts:
    """Predict groups of every fold by an anchor fitted to all groups of the others.

    Everything is fitted again. An anchor that only leaves the effects of a fold out, but has chosen its kernel and its
    weights with them, looks better than it is.
    """
    asked, own_fold = effects[rows], folds.test_fold[rows]
    comparable = np.ones(len(rows), dtype=bool)
    if not folds.any:
        alone = whole.predict_left_out(asked, lambda row: np.arange(len(effects)) == rows[row])
        return LeftOutShifts(rows, alone, comparable)
    shifts = np.zeros_like(asked.shift())
    rest = np.flatnonzero(own_fold < 0)
    if len(rest):
        shifts[rest] = whole.predict_left_out(
            asked[rest], lambda row: whole.leave_out(int(rows[rest[row]]), "perturbation")
        )
    for number in np.unique(own_fold[own_fold >= 0]):
        others, own = ~folds.left_out[:, number], own_fold == number
        if not others.any():
            continue  # with nothing to learn from, no effect is what is expected
        anchor = fit(effects[others])
        shifts[own] = anchor.predict_groups(asked[own])
        # with too few contexts the anchor cannot fit a dependence on them, and a comparison would flatter the network
        comparable[own] = all(
            dependence is None or anchor.dependence[space] is not None for space, dependence in whole.dependence.items()
        )
    return LeftOutShifts(rows, shifts, comparable)
