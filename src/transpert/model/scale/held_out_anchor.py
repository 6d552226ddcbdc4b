"""What the anchor says about training groups that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from transpert.conditions import Condition
from transpert.groups import Groups
from transpert.transport import Anchor, GroupEffects
from transpert.transport.anchor import Situation
from transpert.transport.dependence import FEWEST_CONTEXTS
from transpert.transport.effects import groups_by_condition

from .folds import Folds, rows_of_split_kind

# one weight is fitted to them; of an atlas with a hundred thousand groups every one would take hours
_MOST_GROUPS = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutShifts:
    """Shifts of the training groups, each predicted by an anchor that has not seen it.

    ``comparable`` marks those where it lacks nothing else that the anchor which predicts has.
    """

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


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutGroups:
    """The training groups, and which of them are left out to weigh networks against the anchor.

    Parameters
    ----------
    effects, folds
        Measured effects, and the fold that leaves each of them out.
    groups, members
        The groups of cells, and those (the batches) behind each effect.
    level, kind
        What is left out, and what the populations to predict are new in.
    """

    effects: GroupEffects
    folds: Folds
    groups: Groups
    members: Sequence[Sequence[int]]
    level: str
    kind: str | None

    @property
    def first(self) -> np.ndarray:
        """The first group of each effect."""
        return np.array([own[0] for own in self.members], dtype=int)

    def predicted_by(self, anchor: Anchor | None, *, stacked: bool, seed: int) -> LeftOutShifts:
        """Return what an anchor, or none, predicts for effects had they not been measured; for some if stacked."""
        rows = np.arange(len(self.effects))
        if stacked:  # in the other case networks start from what is predicted here
            rows = gate_rows(self.effects.conditions, self.folds, self.kind, seed=seed)
        if anchor is None:
            n_genes = self.effects.treated.mean_log.shape[1]
            return LeftOutShifts(rows, np.zeros((len(rows), n_genes)), np.ones(len(rows), dtype=bool))
        return leave_rows_out(anchor, self.effects, rows, self.level, self.kind)

    def deciding(self, anchored: LeftOutShifts) -> np.ndarray:
        """Mark the left-out rows, ``(R,)`` bool, by which networks and anchor are weighed."""
        alike = rows_of_split_kind(self.effects.conditions, self.folds.test_fold, self.kind)
        return ((self.folds.test_fold >= 0) & alike)[anchored.rows] & anchored.comparable


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
    """Choose the rows by which networks and anchor are tested, first those that are new like the test set."""
    preferred = rows_of_split_kind(conditions, folds.test_fold, split_kind)
    if not folds.any:
        return choose_groups(preferred, seed=seed)
    tested = np.flatnonzero(folds.test_fold >= 0)
    return tested[choose_groups(preferred[tested], seed=seed)]


def leave_rows_out(
    whole: Anchor, effects: GroupEffects, rows: np.ndarray, level: str, kind: str | None
) -> LeftOutShifts:
    """Predict groups by the anchor without the effects that would be unknown if the groups were new.

    Kernel, weights and stack were chosen with these groups among others, which favours the anchor a little. An anchor
    that is fitted again without a third of all groups is far weaker than the one that predicts, and networks looked
    better beside it than they are.
    """
    table = whole.table

    def left_out(row: int) -> np.ndarray:
        if level == "perturbation" and kind == "combination":  # its parts are to be known
            return table.of_action(table.conditions[row])
        return whole.leave_out(row, cast(Situation, level))

    shifts = whole.predict_left_out(effects[rows], lambda number: left_out(int(rows[number])))
    follows = any(dependence is not None for dependence in whole.dependence.values())
    comparable = np.ones(len(rows), dtype=bool)
    if follows and level != "perturbation":
        for number, row in enumerate(map(int, rows)):
            same = table.of_condition(table.conditions[row])
            # without its own context it is in too few to follow them, and a comparison would flatter the networks
            enough = int((same & ~left_out(row)).sum()) >= FEWEST_CONTEXTS
            comparable[number] = enough or int(same.sum()) < FEWEST_CONTEXTS
    return LeftOutShifts(rows, shifts, comparable)
