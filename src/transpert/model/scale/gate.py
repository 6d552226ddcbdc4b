"""The gate: how much the networks count beside the anchor, and where they count at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from transpert._statistics import pearson
from transpert.conditions import Embedding
from transpert.errors import UnknownNameError
from transpert.transport import Anchor, GroupEffects
from transpert.transport.weighing import CERTAINTY, FEWEST_UNITS, FittedWeight, fit_weight, units_of

from ..prediction.requests import Request
from ..uncertainty.estimates import UncertaintyEstimates

_TINY = 1e-12
UNITS = {"context": "contexts", "perturbation": "perturbations", "pair": "pairs of context and condition"}
# share of the anchor's squared error, beyond sampling error, below which networks have nothing to learn
_LEAST_UNEXPLAINED = 0.05
# what is gained beyond doubt on left-out groups, but by less, was lost on new cells: see the zoo of designs
_LEAST_GAIN = 0.02


def fit_gate(
    effects: GroupEffects, anchored: np.ndarray, networks: np.ndarray, rows: np.ndarray, level: str
) -> FittedWeight:
    """Weigh networks against the anchor by what each says about units that it has not seen."""
    asked = np.flatnonzero(rows)
    units = _units(effects[asked], level)
    return fit_weight(effects.shift()[asked], anchored[asked], networks[asked], units, least_gain=_LEAST_GAIN)


def nothing_to_learn(effects: GroupEffects, anchored: np.ndarray, rows: np.ndarray, level: str) -> str:
    """Return why no network could open the gate, whatever it learned; an empty text where one could."""
    asked = np.flatnonzero(rows)
    units = _units(effects[asked], level)
    n_units = len(set(units))
    if n_units < FEWEST_UNITS:
        return (
            f"the gate needs {FEWEST_UNITS} {UNITS[level]} that can be left out while the anchor keeps enough "
            f"to learn from, and there are {n_units}"
        )
    _, sampling = effects[asked].in_space("log1p", pseudo_rate=1.0)
    squared = np.square(effects.shift()[asked] - anchored[asked]).sum(axis=1)
    beyond = pd.DataFrame({"squared": squared, "beyond": squared - sampling.sum(axis=1)}).groupby(units).sum()
    share: np.ndarray = (beyond["beyond"] / np.maximum(beyond["squared"], _TINY)).to_numpy()
    upper = share.mean() + stats.t.ppf(CERTAINTY, n_units - 1) * share.std(ddof=1) / np.sqrt(n_units)
    if upper < _LEAST_UNEXPLAINED:
        return "what the anchor leaves unexplained is no more than the sampling error of the cells"
    return ""


def _units(effects: GroupEffects, level: str) -> list[str]:
    """Name the unit that every row was left out with."""
    return units_of(effects.contexts, effects.conditions, level)


def gate_applies_to(anchor: Anchor, request: Request, embedding: Embedding | None, left_out_level: str) -> bool:
    """Whether the gate was fitted on requests of this kind, so that it says something about this one.

    It is fitted on groups whose perturbation was left out in their context. Where no combination is among them, nothing
    is known of how the networks predict one, while the anchor adds up effects that were measured. Nor is anything
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
    """Return how well anchor, networks and both together predict each group that was left out."""
    observed = effects.shift()

    def correlation(predicted: np.ndarray) -> list[float]:
        return [pearson(p, o) for p, o in zip(predicted, observed, strict=True)]

    return pd.DataFrame(
        {
            "context": list(effects.contexts),
            "condition": [str(condition) for condition in effects.conditions],
            "anchor": correlation(anchored),
            "network": correlation(networks),
            "joined": correlation((1 - gate) * anchored + gate * networks),
        }
    )


def evidence_text(found: FittedWeight | None, level: str, gate: float) -> str:
    """Return the number of independent units that the gate rests on, and its gain on them."""
    if found is None:
        return ""
    text = f", from {found.n_units} {UNITS[level]} left out"
    return f"{text}; gain {found.gain:.3f}, at least {found.gain_lower:.3f} with 90 % confidence" if gate else text
