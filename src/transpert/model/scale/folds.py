"""Which groups a member of the ensemble does not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData

from transpert.conditions import Condition
from transpert.groups import Groups
from transpert.pp._splits.levels import kind_of
from transpert.pp._splits.report import as_split_report

from .options import LeaveOut


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """Which groups networks and anchors do without, and which fold tests a group."""

    test_fold: np.ndarray
    left_out: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Folds:
        return Folds(self.test_fold[rows], self.left_out[rows])

    @classmethod
    def of(cls, test_fold: np.ndarray) -> Folds:
        """Make folds that leave out just the groups that they are tested on."""
        return cls(test_fold, test_fold[:, None] == np.arange(test_fold.max(initial=-1) + 1))

    @property
    def any(self) -> bool:
        """Whether any group is left out."""
        return bool((self.test_fold >= 0).any())

    def seen(self, n_networks: int) -> np.ndarray:
        """Return on which groups each network trains, ``(P, n_networks)``; the last one, or only one, on all."""
        seen = np.ones((len(self.test_fold), n_networks), dtype=bool)
        if n_networks > 1:
            seen[:, : self.left_out.shape[1]] = ~self.left_out
        return seen

    def unseen(self, n_networks: int) -> np.ndarray:
        """Return by which groups each network is tested, ``(P, n_networks)``; an only one by those that it has seen."""
        if n_networks == 1:
            return self.seen(1)
        return self.test_fold[:, None] == np.arange(n_networks)


def resolve_level(groups: Groups, level: LeaveOut, split_kind: str | None) -> str:
    """Choose what is left out: what the split leaves out if it says so, else what the shape of the data allows."""
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


def assign_folds(groups: Groups, level: str, n_folds: int, *, split_kind: str | None = None, seed: int = 0) -> Folds:
    """Divide the perturbed groups into folds; groups that belong together share one.

    Where perturbations are left out, a combination goes with its parts: a fold that has seen ``A+B`` cannot say what
    it would make of an unknown ``A``. Where combinations of known perturbations are to be predicted, combinations alone
    are left out: their parts are to be known.
    """
    rng = np.random.default_rng(seed)
    perturbed = groups.perturbed_groups
    if level == "perturbation" and split_kind == "combination":
        perturbed = np.array([group for group in perturbed if groups.conditions[group].is_combination], dtype=int)
    contexts = _shuffled_rank([str(groups.table["context"][group]) for group in perturbed], rng)
    if level == "perturbation" and split_kind != "combination":
        return _folds_of_parts(groups, n_folds, rng)
    labels = _shuffled_rank([groups.conditions[group].label for group in perturbed], rng)
    number: np.ndarray = {"context": contexts, "perturbation": labels, "pair": contexts + labels}[level]
    test_fold = np.full(len(groups), -1)
    if len(np.unique(number)) >= 2:
        test_fold[perturbed] = number % min(n_folds, len(np.unique(number)))
    return Folds.of(test_fold)


def _folds_of_parts(groups: Groups, n_folds: int, rng: np.random.Generator) -> Folds:
    """Leave single perturbations out, with every combination that contains them."""
    parts = {group: groups.conditions[group].parts for group in groups.perturbed_groups.tolist()}
    names = sorted({part for own in parts.values() for part in own})
    nobody = np.full(len(groups), -1)
    if len(names) < 2:
        return Folds.of(nobody)
    n_folds = min(n_folds, len(names))
    fold = dict(zip(names, (rng.permutation(len(names)) % n_folds).tolist(), strict=True))
    test_fold, left_out = nobody, np.zeros((len(groups), n_folds), dtype=bool)
    for group, own in parts.items():
        folds = sorted({fold[part] for part in own})
        left_out[group, folds] = True
        test_fold[group] = folds[0] if len(folds) == 1 else -1
    return Folds(test_fold, left_out)


def rows_of_split_kind(conditions: Sequence[Condition], folds: np.ndarray, split_kind: str | None) -> np.ndarray:
    """Choose the left-out rows that are new in the way of the split, by which the networks are weighed.

    Where combinations of known perturbations are to be predicted, a perturbation that was left out as a whole says
    nothing: the anchor knows the parts of those combinations, but not those of this one.
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


def split_kind(data: object, split_key: str | None) -> str | None:
    """Return what a split holds out, as :func:`transpert.pp.split` notes it in ``uns``; ``None`` if it is not said."""
    if not isinstance(data, AnnData) or split_key is None:
        return None
    report = as_split_report(data.uns.get(split_key))
    return None if report is None else report["kind"]


def asked_kind(groups: Groups, is_trained: np.ndarray) -> str | None:
    """Say what populations outside training are new in: ``"context"`` too where one has controls alone.

    ``is_trained``, ``(P,)``, marks the groups with training cells. ``None`` where nothing is left to predict.
    """
    is_control = groups.table["is_control"].to_numpy()
    held_out = ~is_control & ~is_trained
    if held_out.any():
        return kind_of(groups, held_out)
    contexts = groups.table["context"]
    return "context" if set(contexts) - set(contexts[~is_control]) else None


def _shuffled_rank(names: list[str], rng: np.random.Generator) -> np.ndarray:
    distinct = sorted(set(names))
    rank = dict(zip(distinct, rng.permutation(len(distinct)), strict=True))
    return np.array([rank[name] for name in names])
