"""How far a condition is from what a model was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.spatial.distance import cdist

from transpert._amounts import written_amount
from transpert.conditions import Condition, Embedding
from transpert.conditions.condition import opposed
from transpert.transport import (
    GroupEffects,
    Novelty,
    amount_distance,
)

from ..prediction.requests import Request

_TINY = 1e-12

# a perturbation and its direction
type Action = tuple[str, str | None]


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What a model was trained on, to say how far something else is from it."""

    contexts: tuple[str, ...]
    profiles: np.ndarray
    unit: float
    perturbations: tuple[str, ...]
    conditions: frozenset[Condition]
    pairs: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, effects: GroupEffects) -> Self:
        """Remember the contexts and perturbations of measured effects."""
        contexts = tuple(dict.fromkeys(effects.contexts))
        first = [int(np.flatnonzero(effects.contexts == context)[0]) for context in contexts]
        profiles = effects.control.mean_log[first]
        noise = np.sqrt(2 * effects.control.error_log[first].sum(axis=1)).mean()
        unit = float(noise)
        if len(contexts) > 2:
            between = cdist(profiles, profiles)
            np.fill_diagonal(between, np.inf)
            unit = max(unit, float(np.median(between.min(axis=1))))
        parts = tuple(sorted({part for condition in effects.conditions for part in condition.parts}))
        pairs = frozenset((str(c), str(k)) for c, k in zip(effects.contexts, effects.conditions, strict=True))
        return cls(contexts, profiles, max(unit, _TINY), parts, frozenset(effects.conditions), pairs)

    def context_distance(self, context: str, profile: np.ndarray, *, own: bool) -> float:
        """Distance of a control profile to the nearest training context; 0 for one of them, in the training data."""
        if own and context in self.contexts:
            return 0.0
        return float(np.linalg.norm(self.profiles - profile, axis=1).min() / self.unit)

    def perturbation_distances(self, asked: Iterable[Action], embedding: Embedding | None) -> dict[Action, float]:
        """Distance of each to the nearest one trained on in its direction; infinite if nothing is known about it."""
        asked, found = set(asked), dict[Action, float]()
        for direction in {direction for _, direction in asked}:
            known = sorted(part for part in self._directions if self._was_given(part, direction))
            parts = sorted(part for part, other in asked if other == direction)
            if embedding is not None and known:
                distances = embedding.distances(parts, known)
            else:
                distances = {part: 0.0 if part in known else float("inf") for part in parts}
            found |= {(part, direction): distance for part, distance in distances.items()}
        return found

    def dose_distance(self, condition: Condition) -> float:
        """How far doses and time lie beyond those of the same perturbation; 0 where it is new itself."""
        same = self._same_action(condition)
        return amount_distance(condition, same) if same else 0.0

    def novelties(self, request: Request) -> tuple[Novelty, ...]:
        """What about a request is new; nothing if just this was trained on."""
        condition, found = request.condition, list[Novelty]()
        same = self._same_action(condition)
        if not all(self._was_given(*action) for action in condition.action):
            found.append("perturbation")
        elif not same and condition.is_combination:
            found.append("combination")
        elif same and condition not in same:
            found.append("extrapolation" if amount_distance(condition, same) > 0 else "dose")
        if request.context not in self.contexts:
            found.append("context")
        if not found and (request.context, str(condition)) not in self.pairs:
            found.append("pair")
        return tuple(found)

    def _was_given(self, part: str, direction: str | None) -> bool:
        return any(not opposed(direction, other) for other in self._directions.get(part, ()))

    @cached_property
    def _directions(self) -> dict[str, set[str | None]]:
        """The directions of every perturbation that was trained on, alone or with others."""
        found: dict[str, set[str | None]] = {}
        for condition in self.conditions:
            for part, direction in condition.action:
                found.setdefault(part, set()).add(direction)
        return found

    def _same_action(self, condition: Condition) -> list[Condition]:
        return self._by_action.get(condition.action, [])

    @cached_property
    def _by_action(self) -> dict[Any, list[Condition]]:
        """The conditions of every perturbation and direction; looked up for each of thousands of requests."""
        found: dict[Any, list[Condition]] = {}
        for condition in self.conditions:
            found.setdefault(condition.action, []).append(condition)
        return found

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain data and arrays."""
        plain = {
            "contexts": list(self.contexts),
            "unit": self.unit,
            "perturbations": list(self.perturbations),
            "conditions": [dataclasses.asdict(condition) for condition in sorted(self.conditions, key=str)],
            "pairs": sorted(map(list, self.pairs)),
        }
        return plain, {"profiles": self.profiles}

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make it from what :meth:`to_state` returned."""
        names, contexts = tuple(plain["perturbations"]), tuple(plain["contexts"])
        conditions = frozenset(Condition(**condition) for condition in plain["conditions"])
        renamed = {_former_text(condition): str(condition) for condition in conditions}
        pairs = frozenset((context, renamed.get(label, label)) for context, label in plain["pairs"])
        return cls(contexts, arrays["profiles"], float(plain["unit"]), names, conditions, pairs)


def _former_text(condition: Condition) -> str:
    """Write a condition as models of version 0.1 hold it."""
    said = zip(condition.parts, condition.directions, condition.doses, strict=True)
    parts = [
        part + (f" {direction}" if direction else "") + ("" if dose is None else f" ({written_amount(dose)})")
        for part, direction, dose in said
    ]
    return " + ".join(parts) + ("" if condition.time is None else f", time {written_amount(condition.time)}")
