"""Which groups a member of the ensemble does not see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transpert.conditions import Condition
from transpert.groups import Groups

from .options import LeaveOut

__all__ = ["assign_folds", "resolve_level", "rows_like_asked"]


def resolve_level(groups: Groups, level: LeaveOut, split_kind: str | None) -> str:
    """Choose what is left out: what the split leaves out if it says so, else what the shape of the data allows.

    Parameters
    ----------
    groups
        The training groups.
    level
        The choice of the user; ``"auto"`` to choose here.
    split_kind
        The ``kind`` that :func:`transpert.pp.split` wrote, or ``None``.

    Returns
    -------
    ``"context"``, ``"perturbation"`` or ``"pair"``.
    """
    if level != "auto":
        return level
    contexts = {groups.table["context"][group] for group in groups.perturbed_groups}
    parts = {groups.conditions[group].parts for group in groups.perturbed_groups}
    if split_kind == "context" and len(contexts) > 1:
        return "context"
    if split_kind in ("perturbation", "combination") and len(parts) > 1:
        return "perturbation"
    if len(parts) == 1 or len(contexts) == 1:
        return "context" if len(contexts) > 1 else "perturbation"
    return "pair"


def assign_folds(groups: Groups, level: str, n_folds: int, *, seed: int = 0) -> np.ndarray:
    """Divide the perturbed groups into folds; groups that belong together share one.

    Parameters
    ----------
    groups
        The groups.
    level
        ``"context"``, ``"perturbation"`` or ``"pair"``.
    n_folds
        Number of folds.
    seed
        Seed of the draw.

    Returns
    -------
    ``(P,)``: fold of every group; -1 for controls, and for all if there are fewer units than two.
    """
    rng = np.random.default_rng(seed)
    perturbed = groups.perturbed_groups
    contexts = _shuffled_rank([str(groups.table["context"][group]) for group in perturbed], rng)
    parts = _shuffled_rank([groups.conditions[group].label for group in perturbed], rng)
    number = {"context": contexts, "perturbation": parts, "pair": contexts + parts}[level]
    folds = np.full(len(groups), -1)
    if len(np.unique(number)) >= 2:
        folds[perturbed] = number % min(n_folds, len(np.unique(number)))
    return folds


def rows_like_asked(conditions: Sequence[Condition], folds: np.ndarray, split_kind: str | None) -> np.ndarray:
    """Choose the left-out rows that ask what the split asks, which is what the networks are to be weighed by.

    Where combinations of known perturbations are to be predicted, a perturbation that was left out as a whole says
    nothing: the anchor knows the parts of what is asked, but not of that.

    Parameters
    ----------
    conditions
        Condition of every row.
    folds : (P,)
        Fold of every row, which was left out together.
    split_kind
        The ``kind`` that :func:`transpert.pp.split` wrote, or ``None``.

    Returns
    -------
    ``(P,)`` bool: combinations of perturbations measured alone in other folds, if the split holds out combinations;
    all rows otherwise.
    """
    if split_kind != "combination":
        return np.ones(len(folds), dtype=bool)
    alone: dict[str, set[int]] = {}
    for condition, fold in zip(conditions, folds, strict=True):
        if len(condition.parts) == 1:
            alone.setdefault(condition.parts[0], set()).add(int(fold))
    return np.array(
        [
            len(condition.parts) > 1 and all(alone.get(part, set()) - {int(fold)} for part in condition.parts)
            for condition, fold in zip(conditions, folds, strict=True)
        ],
        dtype=bool,
    )


def _shuffled_rank(names: list[str], rng: np.random.Generator) -> np.ndarray:
    distinct = sorted(set(names))
    rank = dict(zip(distinct, rng.permutation(len(distinct)), strict=True))
    return np.array([rank[name] for name in names])
