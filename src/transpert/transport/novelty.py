"""What can be new about a population, and what the anchor says about training groups as if that were new to it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np

from transpert._arguments import refused
from transpert._signatures import as_annotated
from transpert.conditions import Condition

from .anchor import Anchor
from .effects import GroupEffects

Novelty = Literal["pair", "context", "perturbation", "combination", "dose", "extrapolation"]
NOVELTIES: tuple[Novelty, ...] = ("pair", "context", "perturbation", "combination", "dose", "extrapolation")

# three numbers say what a combination is made of: with fewer combinations they know the one that is left out
_FEWEST_COMBINATIONS = 6


@as_annotated(rows="R")
def predict_as_new(anchor: Anchor, effects: GroupEffects, novelty: Novelty, rows: np.ndarray) -> np.ndarray:
    """Predict training groups as if something about them had never been seen.

    Parameters
    ----------
    anchor
        The anchor.
    effects
        The effects it was fitted to.
    novelty
        What is new: the ``"context"``; a ``"perturbation"``; just the ``"pair"`` of both; the ``"combination"`` of
        known perturbations, in whatever context; the ``"dose"`` or time, between others, or beyond them,
        ``"extrapolation"``.
    rows : (R,)
        Rows to predict.

    Returns
    -------
    ``(R, G)``: predicted shifts of the mean log1p; NaN where leaving that out leaves another situation.
    """
    shifts = np.full((len(rows), effects.control.mean_log.shape[1]), np.nan)
    for number, row in enumerate(rows):
        allowed = _allowed(anchor, int(row), novelty)
        if allowed is not None:
            # of one context, a condition or a perturbation every trace is gone; what is left of the others may be used
            measured = novelty in ("combination", "dose", "extrapolation")
            shifts[number] = anchor.shift_of_group(effects, int(row), allowed, measured=measured)
    return shifts


def _allowed(anchor: Anchor, row: int, novelty: Novelty) -> np.ndarray | None:
    """What may be seen, ``(P,)`` bool, if just that is to be new about a row; ``None`` where it cannot be."""
    table, condition = anchor.table, anchor.table.conditions[row]
    if novelty == "combination":
        combinations = {other.action for other in table.conditions if other.is_combination}
        allowed = ~table.of_action(condition)
        known = all((table.of_action(single) & allowed).any() for single in condition.singles())
        fits = condition.is_combination and known and len(combinations) >= _FEWEST_COMBINATIONS
    elif novelty == "dose" or novelty == "extrapolation":
        allowed = ~table.of_condition(condition)
        others = [table.conditions[other] for other in np.flatnonzero(table.of_action(condition) & allowed)]
        outside = bool(others) and amount_distance(condition, others) > 0
        # below the smallest dose hardly anything happens, and little can go wrong
        fits = bool(others) and (outside and _is_most(condition, others) if novelty == "extrapolation" else not outside)
    else:
        allowed = ~anchor.leave_out(row, novelty)
        fits = bool(allowed.any()) and anchor.situation(condition, table.contexts[row], allowed) == novelty
    return allowed if fits else None


def _is_most(condition: Condition, others: Iterable[Condition]) -> bool:
    """Whether a dose or the time is above all others."""
    rivals = zip(*map(_amounts, others), strict=True)
    return any(
        amount is not None and amount > max((value for value in known if value is not None), default=-np.inf)
        for amount, known in zip(_amounts(condition), rivals, strict=True)
    )


def _amounts(condition: Condition) -> tuple[float | None, ...]:
    return (*condition.doses, condition.time)


@as_annotated()
def amount_distance(condition: Condition, known: Iterable[Condition]) -> float:
    """Say how far doses and time lie beyond those that are known, on a logarithmic scale.

    Parameters
    ----------
    condition
        The condition.
    known
        Conditions with the same parts.

    Returns
    -------
    0 between known doses and times, and 1 as far beyond them as they lie apart (the median over neighbours; a factor of
    10 if there is one only). As in the curve through doses, a tenth of the smallest one counts as
    none. Infinite where no dose or time is known.

    Examples
    --------
    >>> from transpert.conditions import Condition
    >>> known = [Condition(("A",), (dose,)) for dose in (0.1, 1.0, 10.0)]
    >>> [amount_distance(Condition(("A",), (dose,)), known) for dose in (0.5, 100.0, 1000.0)]
    [0.0, 1.0, 2.0]
    """
    known = list(known)
    if not all(isinstance(each, Condition) for each in known):
        raise refused("known", known, "Give conditions.")
    if not known:
        return math.inf
    places = zip(*map(_amounts, known), strict=True)
    return max(_beyond(amount, set(values)) for amount, values in zip(_amounts(condition), places, strict=True))


def _beyond(amount: float | None, known: set[float | None]) -> float:
    """Return how far an amount lies outside the known ones, on a logarithmic scale."""
    if amount is None:
        return 0.0
    values = sorted(value for value in known if value is not None)
    if not values:
        return float("inf")
    positive = [value for value in values if value > 0]
    if not positive:  # any amount is as new as another: none was given
        return float(amount > 0)
    floor = min(positive) / 10
    places = np.log10(np.maximum(values, floor))
    place = np.log10(max(amount, floor))
    gaps = np.diff(np.unique(places))
    unit = float(np.median(gaps)) if len(gaps) else 1.0
    return float(max(places[0] - place, place - places[-1], 0.0) / unit)
