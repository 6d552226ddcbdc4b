"""The gate: how much the networks count beside the anchor, and where they count at all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from transpert.conditions import Embedding
from transpert.errors import UnknownNameError
from transpert.transport import Anchor, GroupEffects, fit_stack

from ..prediction.requests import Request
from ..uncertainty.estimates import UncertaintyEstimates

_LEAST_ROWS = 2  # groups like those asked for, without which nothing speaks for the networks


def fit_gate(effects: GroupEffects, anchored: np.ndarray, networks: np.ndarray, rows: np.ndarray) -> float:
    """Weigh networks and anchor by what each says about groups that it has not seen."""
    if np.count_nonzero(rows) < _LEAST_ROWS:
        return 0.0
    weights = np.sqrt(np.minimum(effects.treated.n_cells, effects.control.n_cells))
    fitted = fit_stack(
        {"anchor": anchored[rows], "network": networks[rows]},
        effects.shift()[rows],
        weights[rows],
        prior={"anchor": 1.0, "network": 0.0},
    )
    return fitted["network"]


def was_tried(anchor: Anchor, request: Request, embedding: Embedding | None, left_out_level: str) -> bool:
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
