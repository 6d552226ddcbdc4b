"""What a user asks to be predicted, spelled out: one request for each context and condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from transpert.conditions import Condition, PerturbationVocabulary, parse_condition
from transpert.errors import ConditionError, ControlError, OptionError, UnknownNameError, list_names
from transpert.groups import Design
from transpert.groups.table import context_labels

from .cells import Cells, DataSource
from .store_input import StoredCells

__all__ = ["Request", "control_positions", "expand_requests", "population_sizes", "request_of"]

Contexts = Mapping[str, str | Sequence[str]] | Iterable[Mapping[str, str]] | pd.DataFrame | None


@dataclass(frozen=True, slots=True)
class Request:
    """One population to predict.

    Parameters
    ----------
    context
        Label of the context, as in :class:`~transpert.groups.Groups`.
    context_values
        The value of each context column.
    condition
        What is done to the cells.
    label
        The perturbation as the data spells it.
    dose
        The dose as it is written into ``obs``.
    direction
        The direction as it is written into ``obs``.
    """

    context: str
    context_values: Mapping[str, str]
    condition: Condition
    label: str
    dose: float | str = float("nan")
    direction: str | float = float("nan")


def expand_requests(
    cells: Cells | StoredCells,
    source: DataSource,
    vocabulary: PerturbationVocabulary,
    *,
    contexts: Contexts,
    perturbations: str | Sequence[str] | None,
    doses: Sequence[float | str] | float | str | None,
    times: Sequence[float] | float | None,
    directions: Sequence[str] | str | None = None,
) -> list[Request]:
    """Cross the wanted contexts with the wanted conditions.

    Parameters
    ----------
    cells
        The cells whose controls are moved.
    source
        The design of the data.
    vocabulary
        How the data spells its perturbations.
    contexts
        Values of the context columns, as for :meth:`~transpert.model.PerturbationModel.predict`.
    perturbations, doses, times, directions
        The conditions. Where no direction is given, it is the one that the perturbation has in the data.

    Returns
    -------
    The requests, contexts outermost.

    Raises
    ------
    transpert.errors.UnknownNameError
        If a context column or a context does not exist.
    transpert.errors.ConditionError
        If doses or times are asked of data without them, or the control label is asked for.
    """
    design = source.design
    asked = (
        (doses, design.dose_key, "dose"),
        (times, design.time_key, "time"),
        (directions, design.direction_key, "direction"),
    )
    for wanted, key, kind in asked:
        if wanted is not None and key is None:
            raise ConditionError(f"a {kind} is asked for, but the data has none", remedy=f"Set it up with {kind}_key=.")
    labels = _as_list(perturbations)
    if labels is None:
        labels = [label for label in vocabulary.labels if label != vocabulary.control]
    requests = []
    for context, values in _contexts(cells, source, contexts).items():
        for label, dose, time in product(labels, _as_list(doses) or [None], _as_list(times) or [None]):
            for direction in _as_list(directions) or [_usual_direction(cells, source, vocabulary, label)]:
                condition = parse_condition(
                    label, control=vocabulary.control, dose=dose, time=time, direction=direction
                )
                spelled = vocabulary.spelling(label)
                written = (np.nan if value is None else value for value in (dose, direction))
                requests.append(Request(context, values, condition, spelled, *written))
    return requests


def _usual_direction(
    cells: Cells | StoredCells, source: DataSource, vocabulary: PerturbationVocabulary, label: str
) -> str | None:
    """The one direction in which a perturbation was given, or else the one of all perturbations."""
    design = source.design
    if design.direction_key is None:
        return None
    names, given = cells.obs[design.perturbation_key].astype(str), cells.obs[design.direction_key]
    perturbed = (names != vocabulary.control) & given.notna()
    for rows in (perturbed & (names == vocabulary.spelling(label)), perturbed):
        found = sorted(set(given[rows].astype(str)))
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            break
    raise ConditionError(
        f"{label!r} may have been given in several directions: {list_names(found) or 'none is recorded'}",
        where=f"obs[{design.direction_key!r}]",
        remedy="Say which in directions=.",
    )


def _as_list(values: object) -> list | None:
    if values is None:
        return None
    if isinstance(values, str) or np.isscalar(values):
        return [values]
    return list(values)  # type: ignore[call-overload]


def _contexts(cells: Cells | StoredCells, source: DataSource, contexts: Contexts) -> dict[str, dict[str, str]]:
    """The wanted contexts that have cells, by label."""
    keys = source.design.context_keys
    known = cells.obs[list(keys)].astype(str).drop_duplicates()
    if isinstance(contexts, pd.DataFrame):
        wanted: Sequence[Mapping[Any, object]] = contexts.to_dict(orient="records")
    elif contexts is None:
        wanted = [{}]
    elif isinstance(contexts, Mapping):
        wanted = [contexts]
    else:
        wanted = list(contexts)
    chosen = np.zeros(len(known), dtype=bool)
    for row in wanted:
        unknown = [column for column in row if column not in keys]
        if unknown:
            raise UnknownNameError("context column", unknown, keys, where="contexts")
        hit = np.ones(len(known), dtype=bool)
        for column, value in row.items():
            names = [str(name) for name in _as_list(value) or []]
            absent = sorted(set(names) - set(known[column]))
            if absent:
                raise UnknownNameError("context", absent, sorted(set(known[column])), where=f"obs[{column!r}]")
            hit &= known[column].isin(names).to_numpy()
        if not hit.any():
            raise UnknownNameError("context", [str(dict(row))], context_labels(known, source.design), where="contexts")
        chosen |= hit
    found = known[chosen]
    return dict(zip(context_labels(found, source.design), found.to_dict(orient="records"), strict=True))


def request_of(
    cells: Cells | StoredCells, source: DataSource, vocabulary: PerturbationVocabulary, context: str, label: str
) -> Request:
    """Read one request from the labels of a population, ``"A+B, dose 1, time 2"``."""
    values = _contexts(cells, source, None)
    if context not in values:
        raise UnknownNameError("context", [context], values)
    name, *tags = label.split(", ")
    given = dict(tag.split(" ", 1) for tag in tags)
    dose: float | str | None = given.get("dose")
    if isinstance(dose, str) and "+" not in dose:
        dose = float(dose)
    time = float(given["time"]) if "time" in given else None
    direction = given.get("direction")
    condition = parse_condition(name, control=vocabulary.control, dose=dose, time=time, direction=direction)
    written = (np.nan if value is None else value for value in (dose, direction))
    return Request(context, values[context], condition, vocabulary.spelling(name), *written)


def population_sizes(
    cells: Cells | StoredCells, design: Design, requests: Sequence[Request], n_cells: int | None
) -> dict[str, int]:
    """Count the cells of a predicted population of each context, without reading any."""
    contexts = dict.fromkeys(request.context for request in requests)
    return {context: n_cells or len(control_positions(cells, design, context, n_cells, 0)) for context in contexts}


def control_positions(
    cells: Cells | StoredCells, design: Design, context: str, n_cells: int | None, seed: int
) -> np.ndarray:
    """Choose the control cells of a context that are moved.

    Parameters
    ----------
    cells
        The cells.
    design
        Their design.
    context
        Label of the context.
    n_cells
        How many, drawn without replacement; all by default, or if there are fewer.
    seed
        Seed of the draw.

    Returns
    -------
    Positions, ascending.

    Raises
    ------
    transpert.errors.ControlError
        If the context has no control cells.
    transpert.errors.OptionError
        If ``n_cells`` is below 1.
    """
    if n_cells is not None and n_cells < 1:
        raise OptionError(f"n_cells is {n_cells}", remedy="Give the number of cells of a population, at least 1.")
    labels = context_labels(cells.obs, design)
    is_control = (cells.obs[design.perturbation_key].astype(str) == design.control).to_numpy()
    positions = np.flatnonzero((labels == context) & is_control)
    if not len(positions):
        raise ControlError(
            f"the context {context!r} has no control cells to move",
            where=f"obs[{design.perturbation_key!r}]",
            remedy=f"Add cells labelled {design.control!r} of this context.",
        )
    if n_cells is not None and n_cells < len(positions):
        positions = np.sort(np.random.default_rng(seed).choice(positions, size=n_cells, replace=False))
    return positions
