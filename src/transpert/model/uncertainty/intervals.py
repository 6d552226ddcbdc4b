"""Predicted effects with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert._anndata import writable_name
from transpert.conditions import Embedding
from transpert.errors import NotTrainedError
from transpert.transport import (
    PSEUDO_RATE,
    GroupStatistics,
    log_fold_of_means,
)

from ..cells.in_memory import Cells
from ..cells.open import StoredCells
from ..prediction.predictor import Predictor
from ..prediction.requests import Request
from .estimates import UncertaintyEstimates

_SEEN = "seen"
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """Predicted effects with their intervals.

    Parameters
    ----------
    effects, lower, upper
        Genes x populations: natural-log fold changes, as :meth:`~transpert.model.PerturbationModel.get_effects` gives
        them, and the bounds of the interval.
    conditions
        One row a population: ``context``, ``perturbation``, ``situation`` (what about it is new, see
        :func:`transpert.transport.predict_as_new`; ``"seen"`` if nothing is, several joined by ``" + "``),
        ``n_left_out`` (left-out groups whose errors made the interval), ``context_distance``,
        ``perturbation_distance``, ``dose_distance`` (of doses and times) and ``ood_score``, the largest of them.
    level
        Share of effects that an interval is to contain.
    """

    effects: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    conditions: pd.DataFrame
    level: float


def predict_uncertainty(
    predictor: Predictor,
    cells: Cells | StoredCells,
    requests: Sequence[Request],
    estimates: UncertaintyEstimates | None,
    *,
    level: float,
    n_cells: int | None,
    seed: int,
) -> Uncertainty:
    """Predict effects with intervals; see :meth:`~transpert.model.PerturbationModel.get_uncertainty`."""
    model = predictor.model
    if estimates is None or not estimates.errors:
        raise NotTrainedError(
            f"this {type(model).__name__} has no predictions of left-out groups to learn its errors from",
            remedy="Intervals need KernelTransport, or SCALE with an anchor or several folds, and a few groups.",
        )
    effects, lower, upper, rows = {}, {}, {}, []
    embedding: Embedding | None = getattr(model, "embedding", None)
    asked = {action for request in requests for action in request.condition.action}
    apart = estimates.familiarity.perturbation_distances(asked, embedding)
    for request, statistics, before, after in predictor.means(cells, requests, seed):
        known = estimates.familiarity
        novelties = known.novelties(request)
        errors = estimates.errors_for(novelties)
        assert errors is not None
        variance = 0.0 if n_cells is None else _sampling_variance(statistics, after, n_cells)
        half = errors.half_width(level, variance)
        name = request.text
        effects[name] = log_fold_of_means(after, before)
        # no gene falls below zero counts
        floor = log_fold_of_means(np.zeros_like(before), before)
        lower[name], upper[name] = np.maximum(effects[name] - half, floor), effects[name] + half
        distances = (
            known.context_distance(request.context, before, own=cells is model._cells),
            max((apart[action] for action in request.condition.action), default=0.0),
            known.dose_distance(request.condition),
        )
        situation = " + ".join(novelties) or _SEEN
        rows.append((request.context, str(request.condition), situation, errors.n_groups, *distances, max(distances)))
    columns = ["context", "perturbation", "situation", "n_left_out"]
    columns += ["context_distance", "perturbation_distance", "dose_distance", _keys.OOD_SCORE]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index(list(effects), dtype=object))
    genes = pd.Index(model.genes.astype(str))
    shift, low, high = (pd.DataFrame(values, index=genes, dtype=np.float32) for values in (effects, lower, upper))
    return Uncertainty(shift, low, high, table, level)


def write_uncertainty(adata: AnnData, found: Uncertainty, sizes: Sequence[int]) -> None:
    """Write effects, their intervals and the distances into the slots of a prediction."""
    for key, frame in (
        (_keys.EFFECT, found.effects),
        (_keys.EFFECT_LOWER, found.lower),
        (_keys.EFFECT_UPPER, found.upper),
    ):
        adata.varm[key] = frame.rename(columns=writable_name)
    conditions = found.conditions.rename(index=writable_name)
    adata.uns[_keys.UNS][_keys.UNCERTAINTY] = {"level": found.level, "conditions": conditions}
    scores = np.repeat(found.conditions[_keys.OOD_SCORE].to_numpy(), sizes)
    adata.obs[_keys.OOD_SCORE] = np.concatenate([scores, np.zeros(adata.n_obs - len(scores))])


def _sampling_variance(statistics: GroupStatistics, after: np.ndarray, n_cells: int) -> np.ndarray:
    """Sampling variance of an effect measured in ``n_cells`` treated cells and these controls, ``(G,)``."""
    slopes = [np.exp(mean) / (np.expm1(mean) + PSEUDO_RATE) for mean in (after, statistics.mean_log[0])]
    spread = statistics.var_log[0]
    # log1p values vary about in proportion to their mean where the mean is small
    grown = spread * np.clip(after / np.maximum(statistics.mean_log[0], _TINY), 0.1, 10)
    molecule = (np.log1p(statistics.mean_inverse_library[0]) / n_cells) ** 2
    treated = np.maximum(grown / n_cells, molecule)
    return slopes[0] ** 2 * treated + slopes[1] ** 2 * spread / max(int(statistics.n_cells[0]), 1)
