"""The gate: how much the networks count beside the anchor, and where they count at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from transpert.conditions import Embedding
from transpert.errors import UnknownNameError
from transpert.transport import Anchor, GroupEffects

from ..prediction.requests import Request
from ..uncertainty.estimates import UncertaintyEstimates

_GRID = np.linspace(0, 1, 21)  # weights of the networks that are compared
_CERTAINTY = 0.9  # with which networks must be better on another unit before they count
_TINY = 1e-12
UNITS = {"context": "contexts", "perturbation": "perturbations", "pair": "pairs of context and condition"}
# a gate that rests on fewer units stays shut: any three of them can agree by chance
_FEWEST_UNITS = 5
# share of the anchor's squared error, beyond sampling error, below which networks have nothing to learn
_LEAST_UNEXPLAINED = 0.05


@dataclass(frozen=True, slots=True)
class FittedGate:
    """The weight of the networks, and what speaks for it.

    A *unit* is what was left out as a whole: a context, a perturbation, or a pair. Groups of one unit err together, so
    that only units are independent evidence. The gain of a unit is half the logarithm of how many times smaller its
    squared error gets, plus what its correlation gains: every unit counts the same, however strong its effects are.
    """

    weight: float = 0.0
    n_units: int = 0
    gain: float = 0.0
    gain_lower: float = 0.0


def fit_gate(
    effects: GroupEffects, anchored: np.ndarray, networks: np.ndarray, rows: np.ndarray, level: str
) -> FittedGate:
    """Weigh networks against the anchor by what each says about units that it has not seen.

    The weight is the one whose gain has the largest lower confidence bound over the units, and 0 where no weight has a
    bound above 0. A handful of units is therefore not enough, unless they all say the same.
    """
    asked = np.flatnonzero(rows)
    units = _units(effects[asked], level)
    n_units = len(set(units))
    if n_units < _FEWEST_UNITS:
        return FittedGate(n_units=n_units)
    gains = _gains(effects.shift()[asked], anchored[asked], networks[asked])
    of_units = pd.DataFrame(gains).groupby(units, sort=False).mean().to_numpy()
    mean, error = of_units.mean(axis=0), of_units.std(axis=0, ddof=1) / np.sqrt(n_units)
    lower = mean - stats.t.ppf(_CERTAINTY, n_units - 1) * error
    best = int(np.argmax(lower))
    return FittedGate(float(_GRID[best]), n_units, float(mean[best]), float(lower[best]))


def nothing_to_learn(effects: GroupEffects, anchored: np.ndarray, rows: np.ndarray, level: str) -> str:
    """Return why no network could open the gate, whatever it learned; an empty text where one could."""
    asked = np.flatnonzero(rows)
    units = _units(effects[asked], level)
    n_units = len(set(units))
    if n_units < _FEWEST_UNITS:
        return (
            f"the gate needs {_FEWEST_UNITS} {UNITS[level]} that can be left out while the anchor keeps enough "
            f"to learn from, and there are {n_units}"
        )
    _, sampling = effects[asked].in_space("log1p", pseudo_rate=1.0)
    squared = np.square(effects.shift()[asked] - anchored[asked]).sum(axis=1)
    beyond = pd.DataFrame({"squared": squared, "beyond": squared - sampling.sum(axis=1)}).groupby(units).sum()
    share: np.ndarray = (beyond["beyond"] / np.maximum(beyond["squared"], _TINY)).to_numpy()
    upper = share.mean() + stats.t.ppf(_CERTAINTY, n_units - 1) * share.std(ddof=1) / np.sqrt(n_units)
    if upper < _LEAST_UNEXPLAINED:
        return "what the anchor leaves unexplained is no more than the sampling error of the cells"
    return ""


def _units(effects: GroupEffects, level: str) -> list[str]:
    """Name the unit that every row was left out with."""
    conditions = [condition.label for condition in effects.conditions]
    contexts = list(map(str, effects.contexts))
    if level == "context":
        return contexts
    return (
        conditions if level == "perturbation" else [" | ".join(pair) for pair in zip(contexts, conditions, strict=True)]
    )


def _gains(observed: np.ndarray, anchored: np.ndarray, networks: np.ndarray) -> np.ndarray:
    """What every weight of the grid gains over the anchor alone, ``(P, 21)``."""
    apart = networks - anchored
    error = _along(observed - anchored, observed - anchored)[:, None]
    squared = error - 2 * _GRID * _along(observed - anchored, apart)[:, None] + _GRID**2 * _along(apart, apart)[:, None]
    o, a, d = (values - values.mean(axis=1, keepdims=True) for values in (observed, anchored, apart))
    shared = _along(o, a)[:, None] + _GRID * _along(o, d)[:, None]
    spread = _along(a, a)[:, None] + 2 * _GRID * _along(a, d)[:, None] + _GRID**2 * _along(d, d)[:, None]
    norm = np.sqrt(np.maximum(spread, 0) * _along(o, o)[:, None])
    correlation = np.divide(shared, norm, out=np.zeros_like(shared), where=norm > _TINY)
    return 0.5 * np.log((error + _TINY) / (np.maximum(squared, 0) + _TINY)) + correlation - correlation[:, :1]


def _along(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products of rows, ``(P,)``."""
    return np.einsum("pg,pg->p", first, second)


def gate_applies_to(anchor: Anchor, request: Request, embedding: Embedding | None, left_out_level: str) -> bool:
    """Whether the gate was fitted on requests of this kind, so that it says something about this one.

    It is fitted on groups whose perturbation was left out in their context. Where no combination is among them, nothing
    is known of what the networks make of one, while the anchor adds up effects that were measured. Nor is anything
    known where the perturbation *was* measured in the context, at this dose or at others between which the anchor
    interpolates: the anchor that was beaten by the networks had to do without those. And where networks learn a vector
    for each perturbation, that of one which was not trained on is random, which only a gate that was fitted on whole
    perturbations that were left out has seen.
    """
    known = anchor.table
    if request.condition.is_combination and not any(condition.is_combination for condition in known.conditions):
        return False
    if embedding is None and left_out_level != "perturbation":
        if not all(known.was_given(*action) for action in request.condition.action):
            return False
    return not (known.of_context(request.context) & known.of_action(request.condition)).any()


def require_trained(
    request: Request, gate: float, embedding: Embedding | None, estimates: UncertaintyEstimates | None
) -> None:
    """Refuse a request that networks would have to answer with the random vector of an untrained perturbation."""
    if gate == 0 or embedding is not None or estimates is None:
        return
    trained = estimates.familiarity.perturbations
    unknown = sorted(set(request.condition.parts) - set(trained))
    if unknown:
        raise UnknownNameError(
            "perturbation",
            unknown,
            trained,
            where="what the networks were trained on",
            remedy="Pass embeddings= with a vector for every perturbation, or train on cells with this one.",
        )


def gate_table(effects: GroupEffects, anchored: np.ndarray, networks: np.ndarray, gate: float) -> pd.DataFrame:
    """Tell how well anchor, networks and both together predict each group that was left out."""
    observed = effects.shift()

    def correlation(predicted: np.ndarray) -> list[float]:
        return [
            float(np.corrcoef(p, o)[0, 1]) if p.std() > 0 and o.std() > 0 else float("nan")
            for p, o in zip(predicted, observed, strict=True)
        ]

    return pd.DataFrame(
        {
            "context": list(effects.contexts),
            "condition": [str(condition) for condition in effects.conditions],
            "anchor": correlation(anchored),
            "network": correlation(networks),
            "joined": correlation((1 - gate) * anchored + gate * networks),
        }
    )
