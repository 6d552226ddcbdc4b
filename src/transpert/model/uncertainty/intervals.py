"""How sure a model is: intervals of its effects, and how far what is asked for is from what it was trained on."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial.distance import cdist

from transpert import _keys
from transpert._anndata import writable_name
from transpert.conditions import Condition, Embedding
from transpert.conditions.condition import opposed
from transpert.errors import AssumptionWarning, NotTrainedError, OptionError
from transpert.transport import (
    NOVELTIES,
    PSEUDO_RATE,
    ErrorModel,
    GroupEffects,
    GroupStatistics,
    Novelty,
    amount_distance,
    log_fold_of_means,
    observed_log_folds,
)

from ..cells.in_memory import Cells
from ..cells.open import Data, StoredCells
from ..prediction.controls import origin_of
from ..prediction.requests import Contexts, Request, check_drawing

if TYPE_CHECKING:
    from ..base import PerturbationModel


# left out groups, at most, from which the errors of a situation are learned
_MOST_LEFT_OUT = 60
_SEEN = "seen"

# a perturbation and its direction
type Action = tuple[str, str | None]
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
        ``n_left_out`` (groups its errors were learned from), ``context_distance``, ``perturbation_distance``,
        ``dose_distance`` (of doses and times) and ``ood_score``, the largest of them.
    level
        Share of effects that an interval is to contain.
    """

    effects: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    conditions: pd.DataFrame
    level: float


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
        pairs = frozenset((context, label) for context, label in plain["pairs"])
        names, contexts = tuple(plain["perturbations"]), tuple(plain["contexts"])
        conditions = frozenset(Condition(**condition) for condition in plain["conditions"])
        return cls(contexts, arrays["profiles"], float(plain["unit"]), names, conditions, pairs)


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
        observed, variance = observed_log_folds(effects)
        among = np.arange(len(effects)) if among is None else among
        among = np.random.default_rng(seed).permutation(among)
        errors: dict[str, ErrorModel] = {}
        for novelty in NOVELTIES:
            rows = among[_may_be(novelty, effects.conditions)[among]][:_MOST_LEFT_OUT]
            shifts = left_out(novelty, rows)
            if shifts is None:
                continue
            usable = np.isfinite(shifts).all(axis=1)
            if usable.sum() < 2:
                continue
            used = rows[usable]
            before = effects.control.mean_log[used]
            predicted = log_fold_of_means(np.maximum(before + shifts[usable], 0), before)
            errors[novelty] = ErrorModel.fit(predicted, observed[used], variance[used])
        return cls(Familiarity.of(effects), errors)

    def errors_for(self, novelties: Sequence[Novelty]) -> ErrorModel | None:
        """Errors where all of this is new, the largest; if something could not be imitated, of anything that could.

        What could not be imitated is reported. What was measured, where nothing is new, is known at least as well as
        the same pair would be if it had been left out.
        """
        if not self.errors:
            return None
        imitated = [self.errors[novelty] for novelty in novelties or ("pair",) if novelty in self.errors]
        missing = [novelty for novelty in novelties if novelty not in self.errors]
        if imitated and not missing:
            return max(imitated, key=_size)
        name, found = max(self.errors.items(), key=lambda item: _size(item[1]))
        if missing:
            warnings.warn(
                f"The training data could not imitate that {_WORDS[missing[0]]}; intervals are those of where "
                f"{_WORDS[name]}, and may be too narrow.",
                AssumptionWarning,
                stacklevel=4,
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


def _may_be(novelty: Novelty, conditions: Sequence[Condition]) -> np.ndarray:
    """The groups ``(P,)`` in which something can be new at all, so that few of them are not lost among many."""
    if novelty == "combination":
        return np.array([condition.is_combination for condition in conditions], dtype=bool)
    if novelty in ("dose", "extrapolation"):
        amounts: dict[Any, set[Condition]] = {}
        for condition in conditions:
            amounts.setdefault(condition.action, set()).add(condition)
        return np.array([len(amounts[condition.action]) > 1 for condition in conditions], dtype=bool)
    return np.ones(len(conditions), dtype=bool)


def predict_uncertainty(
    model: PerturbationModel,
    cells: Cells | StoredCells,
    requests: Sequence[Request],
    *,
    level: float,
    n_cells: int | None,
    seed: int,
) -> Uncertainty:
    """Predict effects with intervals; see :meth:`~transpert.model.PerturbationModel.get_uncertainty`."""
    estimates = model.uncertainty
    if estimates is None or not estimates.errors:
        raise NotTrainedError(
            f"this {type(model).__name__} has no predictions of left-out groups to learn its errors from",
            remedy="Intervals need KernelTransport, or SCALE with an anchor or several folds, and a few groups.",
        )
    effects, lower, upper, rows = {}, {}, {}, []
    embedding: Embedding | None = getattr(model, "embedding", None)
    asked = {action for request in requests for action in request.condition.action}
    apart = estimates.familiarity.perturbation_distances(asked, embedding)
    for request, control, statistics in _with_controls(model, cells, requests, seed):
        before = statistics.mean_log[0]
        after = model._predict_set(control, request, seed=seed, each_cell=False).mean_log
        known = estimates.familiarity
        novelties = known.novelties(request)
        errors = estimates.errors_for(novelties)
        assert errors is not None
        variance = 0.0 if n_cells is None else _sampling_variance(statistics, after, n_cells)
        half = errors.half_width(level, variance)
        name = f"{request.context}: {request.condition}"
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


def _with_controls(
    model: PerturbationModel, cells: Cells | StoredCells, requests: Sequence[Request], seed: int
) -> Iterator[tuple[Request, Cells, GroupStatistics]]:
    """Yield every request with the controls it moves, which are read once for requests that follow each other."""
    for origin, asked in groupby(requests, key=lambda request: origin_of(cells, model.design, request)):
        control = model._controls(cells, origin, None, seed)
        statistics = control.as_one_group()
        for request in asked:
            yield request, control, statistics


def _sampling_variance(statistics: GroupStatistics, after: np.ndarray, n_cells: int) -> np.ndarray:
    """Sampling variance of an effect measured in ``n_cells`` treated cells and these controls, ``(G,)``."""
    slopes = [np.exp(mean) / (np.expm1(mean) + PSEUDO_RATE) for mean in (after, statistics.mean_log[0])]
    spread = statistics.var_log[0]
    # log1p values vary about in proportion to their mean where the mean is small
    grown = spread * np.clip(after / np.maximum(statistics.mean_log[0], _TINY), 0.1, 10)
    molecule = (np.log1p(statistics.mean_inverse_library[0]) / n_cells) ** 2
    treated = np.maximum(grown / n_cells, molecule)
    return slopes[0] ** 2 * treated + slopes[1] ** 2 * spread / max(int(statistics.n_cells[0]), 1)


class UncertaintyMethods:
    """What models say about effects, and how sure they are."""

    uncertainty: UncertaintyEstimates | None = None

    def get_effects(  # type: ignore[misc]
        self: PerturbationModel,
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        adata: Data | None = None,
        key_added: str | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> pd.DataFrame:
        """Predict log fold changes, without drawing cells.

        Parameters
        ----------
        contexts, perturbations, doses, times, directions, adata, seed
            As in :meth:`predict`.
        key_added
            Also write the table to ``varm[key_added]`` of the data of the model, an AnnData; ``/``, which no file can
            hold in a name, becomes another slash there.
        unseen
            As in :meth:`predict`.

        Returns
        -------
        Genes x populations: natural-log fold changes of the mean counts per 10k implied by the predicted mean log1p,
        ``log(expm1(predicted) + 0.05) - log(expm1(control) + 0.05)``.

        Raises
        ------
        transpert.errors.TranspertError
            As :meth:`predict`.

        Examples
        --------
        >>> import transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
        >>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
        >>> tp.KernelTransport.setup_anndata(adata, **keys)
        >>> model = tp.KernelTransport(adata)
        >>> model.train()
        >>> model.get_effects({"context": "context_0"}, "P0").shape
        (20, 1)
        """
        if key_added is not None and not (isinstance(self._cells, Cells) and isinstance(self.adata, AnnData)):
            raise OptionError(
                "the model has no AnnData to write into",
                where="key_added",
                remedy="Leave it out, and put the table that is returned where you want it.",
            )
        check_drawing(None, None, seed)
        cells, requests = self._requested(
            adata,
            contexts=contexts,
            perturbations=perturbations,
            doses=doses,
            times=times,
            directions=directions,
            unseen=unseen,
        )
        columns = {}
        for request, control, statistics in _with_controls(self, cells, requests, seed):
            before = statistics.mean_log[0]
            after = self._predict_set(control, request, seed=seed, each_cell=False).mean_log
            columns[f"{request.context}: {request.condition}"] = log_fold_of_means(after, before)
        table = pd.DataFrame(columns, index=pd.Index(self.genes.astype(str)), dtype=np.float32)
        if key_added is not None:
            self.adata.varm[key_added] = table.reindex(self.adata.var_names.astype(str)).rename(columns=writable_name)
        return table

    def get_uncertainty(  # type: ignore[misc]
        self: PerturbationModel,
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        level: float = 0.9,
        n_cells: int | None = None,
        adata: Data | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> Uncertainty:
        """Predict effects with intervals, and say how far each condition is from what was trained on.

        While training, the model predicts groups that it has not seen: with their context, their perturbation, their
        combination, their dose or just their pair left out. How far it is off, gene by gene and less the sampling
        error of what it is compared with, gives the interval in each of these situations.

        Parameters
        ----------
        contexts, perturbations, doses, times, directions, adata, seed
            As in :meth:`predict`.
        level
            Share of effects that an interval is to contain.
        n_cells
            Cells in which the effect is measured, whose sampling error then belongs to the interval; by default the
            interval is for the effect in the whole population.
        unseen
            As in :meth:`predict`.

        Returns
        -------
        Effects and bounds as genes x populations, natural-log fold changes; and for every population what is new
        about it and its distances from the training data. A distance of 1 is that between neighbours in the
        training data; it is infinite for a perturbation without a vector.

        Warns
        -----
        transpert.errors.AssumptionWarning
            If the training data could not imitate what is new: too few contexts, doses or combinations.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained, or has no left-out predictions to learn from.
        transpert.errors.TranspertError
            As :meth:`predict`.

        Examples
        --------
        >>> import transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
        >>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
        >>> tp.KernelTransport.setup_anndata(adata, **keys)
        >>> model = tp.KernelTransport(adata)
        >>> model.train()
        >>> found = model.get_uncertainty({"context": "context_0"}, ["P0", "P1"], level=0.8)
        >>> bool((found.lower <= found.upper).all(axis=None)), found.conditions["situation"].tolist()
        (True, ['seen', 'seen'])
        """
        check_drawing(None, None, seed)
        cells, requests = self._requested(
            adata,
            contexts=contexts,
            perturbations=perturbations,
            doses=doses,
            times=times,
            directions=directions,
            unseen=unseen,
        )
        return predict_uncertainty(self, cells, requests, level=level, n_cells=n_cells, seed=seed)
