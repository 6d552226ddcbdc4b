"""Doses and times between those that were measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from sklearn.isotonic import IsotonicRegression

from transpert.conditions import Condition

# squared distance of doses on a log10 scale below which they are the same
_SAME_DOSE = 1e-6

type Effect = tuple[np.ndarray, np.ndarray]


def interpolate_over(
    condition: Condition, known: Iterable[Condition], effect_of: Callable[[Condition], Effect]
) -> Effect:
    """Predict the effect of a condition from those with the same parts at the doses and times that were measured.

    At dose zero there is no effect. With one dose, that dose serves for all others. With several, the effect keeps the
    direction of their mean, and its size is a non-decreasing function of the logarithm of the dose: measured sizes are
    made monotone by isotonic regression and joined by straight lines. Between two times the effect is a straight line.

    The doses of a combination may rise together, and are one dose then. Where they do not (a matrix of doses), the
    effect at doses that were measured is what was measured there, and elsewhere the mean of all, weighted by the
    inverse squared distance of the logarithms of the doses.
    """
    same = sorted({c for c in known if c.action == condition.action}, key=_order)
    if not same:
        return effect_of(condition)
    times = sorted({c.time for c in same if c.time is not None})
    if condition.time is None or not times:
        return _over_doses(condition, same, effect_of)
    before = max((t for t in times if t <= condition.time), default=times[0])
    after = min((t for t in times if t >= condition.time), default=times[-1])
    early, late = (
        _over_doses(dataclasses.replace(condition, time=t), [c for c in same if c.time == t], effect_of)
        for t in (before, after)
    )
    share = 0.0 if after == before else (condition.time - before) / (after - before)
    return (1 - share) * early[0] + share * late[0], (1 - share) ** 2 * early[1] + share**2 * late[1]


def _order(condition: Condition) -> tuple[float, tuple[float, ...]]:
    """Sort by time, then by dose; what is not recorded comes first."""
    time, *doses = (-1.0 if value is None else value for value in (condition.time, *condition.doses))
    return time, tuple(doses)


def _over_doses(condition: Condition, same: list[Condition], effect_of: Callable[[Condition], Effect]) -> Effect:
    """Interpolate the size of the effect between doses, along a curve that rises."""
    if not condition.parts or any(dose is None for dose in condition.doses):
        return _mean([effect_of(c) for c in same])
    measured = [c for c in same if None not in c.doses]
    if not any(condition.doses) and any(any(c.doses) for c in measured):
        effect, variance = effect_of(same[0])
        return np.zeros_like(effect), np.zeros_like(variance)
    if len(measured) < 2:
        return effect_of(condition) if condition in same else _mean([effect_of(c) for c in same])
    if not _rise_together([*measured, condition]):
        return effect_of(condition) if condition in measured else _over_matrix(condition, measured, effect_of)
    effects = [effect_of(c) for c in measured]
    matrix = np.array([effect for effect, _ in effects])
    direction = matrix.mean(axis=0)
    norm = float(direction @ direction)
    if norm == 0:
        return _mean(effects)
    totals = np.array([_total_dose(c) for c in measured])
    positive = totals[totals > 0]
    if not len(positive):
        return _mean(effects)
    # below the lowest dose, one decade down counts as none
    floor = np.log10(positive.min()) - 1
    places = np.log10(np.maximum(totals, 10**floor))
    sizes = matrix @ direction / norm
    curve = IsotonicRegression(increasing=True, out_of_bounds="clip")
    curve.fit(
        np.concatenate([[floor], places]), np.concatenate([[0.0], sizes]), sample_weight=[1e6, *np.ones(len(places))]
    )
    total = _total_dose(condition)
    size = float(curve.predict([max(np.log10(total), floor)])[0]) if total > 0 else 0.0
    nearest = int(np.argmin(np.abs(places - (np.log10(total) if total > 0 else floor))))
    pooled = np.mean([variance for _, variance in effects], axis=0) / len(effects)
    variance = np.maximum(size, 0.0) ** 2 * np.maximum(pooled, effects[nearest][1] / len(effects))
    return size * direction, variance


def _rise_together(conditions: list[Condition]) -> bool:
    """Whether no part has a larger dose where another one has a smaller one."""
    doses = np.unique(np.array([c.doses for c in conditions], dtype=float), axis=0)  # sorted by the first part
    return bool((np.diff(doses, axis=0) >= 0).all())


def _over_matrix(condition: Condition, measured: list[Condition], effect_of: Callable[[Condition], Effect]) -> Effect:
    """The mean of what was measured at all pairs of doses, by their distances on a log scale."""
    doses = np.array([c.doses for c in [*measured, condition]], dtype=float)
    # a decade below the lowest dose of a part counts as none of it
    lowest = np.where(doses > 0, doses, np.inf).min(axis=0)
    floor = np.where(np.isfinite(lowest), lowest, 1.0) / 10
    places = np.log10(np.maximum(doses, floor))
    weights = 1 / ((places[:-1] - places[-1]) ** 2).sum(axis=1).clip(_SAME_DOSE)
    weights /= weights.sum()
    effects, variances = (np.array(values) for values in zip(*map(effect_of, measured), strict=True))
    return weights @ effects, weights**2 @ variances


def given_parts(condition: Condition) -> Condition:
    """Return a combination without the parts at dose zero, which were not given."""
    given = [single for single in condition.singles() if single.doses != (0.0,)]
    return Condition(
        tuple(single.parts[0] for single in given),
        tuple(single.doses[0] for single in given),
        condition.time,
        tuple(single.directions[0] for single in given),
    )


def _mean(effects: list[Effect]) -> Effect:
    return np.mean([e for e, _ in effects], axis=0), np.sum([v for _, v in effects], axis=0) / len(effects) ** 2


def _total_dose(condition: Condition) -> float:
    """One number for the doses of a combination: their geometric mean, which is what moves on a log scale."""
    doses = np.array([dose or 0.0 for dose in condition.doses])
    return float(np.exp(np.log(doses).mean())) if (doses > 0).all() else 0.0
