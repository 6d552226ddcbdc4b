"""The gate: how much the networks count beside the anchor, and where they count at all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from transpert.transport import Anchor, GroupEffects, fit_stack

from .requests import Request

__all__ = ["fit_gate", "gate_table", "was_tried"]

_LEAST_ROWS = 2  # groups like those asked for, without which nothing speaks for the networks


def fit_gate(effects: GroupEffects, anchored: np.ndarray, networks: np.ndarray, rows: np.ndarray) -> float:
    """Weigh networks and anchor by what each says about groups that it has not seen.

    Parameters
    ----------
    effects
        The effects of the ``P`` training groups.
    anchored, networks : (P, G)
        Mean shifts that anchor and networks predict for each group without having seen it.
    rows : (P,)
        Groups that ask what will be asked, bool.

    Returns
    -------
    Weight of the networks, from 0 to 1; 0 where there are too few groups to tell.
    """
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


def was_tried(anchor: Anchor, request: Request) -> bool:
    """Whether the gate was fitted on requests of this kind, so that it says something about this one.

    It is fitted on groups whose perturbation was left out in their context. Where no combination is among them, nothing
    is known of what the networks make of one, while the anchor adds up effects that were measured. Nor is anything
    known where the perturbation *was* measured in the context, at this dose or at others between which the anchor
    interpolates: the anchor that was beaten by the networks had to do without those.

    Parameters
    ----------
    anchor
        The fitted anchor, which knows what was measured.
    request
        What is asked.

    Returns
    -------
    Whether the gate holds for it.
    """
    known = anchor.table
    if request.condition.is_combination and not any(condition.is_combination for condition in known.conditions):
        return False
    return not (known.of_context(request.context) & known.of_action(request.condition)).any()


def gate_table(effects: GroupEffects, anchored: np.ndarray, networks: np.ndarray, gate: float) -> pd.DataFrame:
    """Tell how well anchor, networks and both together predict each group that was left out.

    Parameters
    ----------
    effects
        The effects of the ``P`` training groups.
    anchored, networks : (P, G)
        Mean shifts that anchor and networks predict for each group without having seen it.
    gate
        Weight of the networks.

    Returns
    -------
    Columns ``context``, ``condition``, and the correlation over genes of predicted and observed shifts: ``anchor``,
    ``network`` and ``joined``; NaN where one of them does not vary.
    """
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
