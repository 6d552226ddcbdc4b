"""What a model knows of its own errors, from groups that it left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from transpert.conditions import Condition
from transpert.errors import warn_user
from transpert.transport import (
    NOVELTIES,
    ErrorModel,
    GroupEffects,
    Novelty,
    log_fold_of_means,
    observed_log_folds,
)
from transpert.transport.weighing import units_of

from .familiarity import Familiarity

# left out groups, at most, from which the errors of a situation are learned
_MOST_LEFT_OUT = 60


@dataclass(frozen=True, slots=True, eq=False)
class UncertaintyEstimates:
    """Everything a trained model remembers about its own errors."""

    familiarity: Familiarity
    errors: Mapping[str, ErrorModel]

    @classmethod
    def fit(
        cls,
        effects: GroupEffects,
        left_out: Callable[[Novelty, np.ndarray], np.ndarray | None],
        *,
        among: np.ndarray | None = None,
        seed: int = 0,
    ) -> Self:
        """Learn errors from left-out groups."""
        among = np.arange(len(effects)) if among is None else among
        among = np.random.default_rng(seed).permutation(among)
        errors: dict[str, ErrorModel] = {}
        for novelty in NOVELTIES:
            rows = among[_can_be_new(novelty, effects.conditions)[among]][:_MOST_LEFT_OUT]
            shifts = left_out(novelty, rows)
            if shifts is None:
                continue
            usable = np.isfinite(shifts).all(axis=1)
            if usable.sum() < 2:
                continue
            used = rows[usable]
            observed, variance = observed_log_folds(effects[used])
            before = effects.control.mean_log[used]
            predicted = log_fold_of_means(np.maximum(before + shifts[usable], 0), before)
            # the groups of one context, or of one perturbation, err together
            together = novelty in ("context", "perturbation")
            units = units_of(effects.contexts[used], effects[used].conditions, novelty) if together else None
            errors[novelty] = ErrorModel.fit(predicted, observed, variance, units)
        return cls(Familiarity.of(effects), errors)

    def errors_for(self, novelties: Sequence[Novelty]) -> ErrorModel | None:
        """Return the largest error model among these kinds of novelty.

        If one could not be simulated, it is the largest of all. A kind that could not be
        simulated is reported. Where nothing is new, the errors are at most those of a pair that was left out.
        """
        if not self.errors:
            return None
        imitated = [self.errors[novelty] for novelty in novelties or ("pair",) if novelty in self.errors]
        missing = [novelty for novelty in novelties if novelty not in self.errors]
        if imitated and not missing:
            return max(imitated, key=_size)
        name, found = max(self.errors.items(), key=lambda item: _size(item[1]))
        if missing:
            warn_user(
                f"The training data could not imitate that {_WORDS[missing[0]]}; intervals are those of where "
                f"{_WORDS[name]}, and may be too narrow."
            )
        return found

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain data and arrays."""
        plain, arrays = self.familiarity.to_state()
        described: dict[str, Any] = {"familiarity": plain, "errors": {}}
        for name, errors in self.errors.items():
            described["errors"][name], own = errors.to_state()
            arrays |= {f"{name}_{key}": value for key, value in own.items()}
        return described, arrays

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make it from what :meth:`to_state` returned."""
        errors = {
            name: ErrorModel.from_state(own, {key: arrays[f"{name}_{key}"] for key in ("spread", "quantiles")})
            for name, own in plain["errors"].items()
        }
        return cls(Familiarity.from_state(plain["familiarity"], arrays), errors)


_WORDS = {
    "pair": "a pair is new",
    "context": "a context is new",
    "perturbation": "a perturbation is new",
    "combination": "a combination is new",
    "dose": "a dose or time is new",
    "extrapolation": "a dose or time lies beyond all others",
}


def _size(errors: ErrorModel) -> float:
    return float(np.mean(errors.spread))


def _can_be_new(novelty: Novelty, conditions: Sequence[Condition]) -> np.ndarray:
    """Return the groups ``(P,)`` in which this kind of novelty is possible."""
    if novelty == "combination":
        return np.array([condition.is_combination for condition in conditions], dtype=bool)
    if novelty in ("dose", "extrapolation"):
        amounts: dict[Any, set[Condition]] = {}
        for condition in conditions:
            amounts.setdefault(condition.action, set()).add(condition)
        return np.array([len(amounts[condition.action]) > 1 for condition in conditions], dtype=bool)
    return np.ones(len(conditions), dtype=bool)
