"""What a user asks to be predicted, spelled out: one request for each context and condition."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._arguments import check_whole, is_several, refused
from transpert._seeds import check_seed
from transpert.conditions import Condition, PerturbationVocabulary, parse_condition
from transpert.conditions.text import CONDITION_KINDS, population_text
from transpert.conditions.written import label_text, label_texts, means_missing
from transpert.errors import ConditionError, OptionError, UnknownNameError, check_known, list_names
from transpert.groups import Design
from transpert.groups.table import context_labels, written_values

from ..cells.in_memory import Cells, DataSource
from ..cells.open import StoredCells

_SIZE = "n_cells"
Contexts = str | Mapping[str, str | Sequence[str]] | Iterable[str | Mapping[str, str]] | pd.DataFrame | None


@dataclass(frozen=True, slots=True)
class Request:
    """One population to predict."""

    context: str
    context_values: Mapping[str, str]
    condition: Condition
    label: str
    written: Mapping[str, float | str] = field(default_factory=dict)
    n_cells: int | None = None

    @property
    def text(self) -> str:
        """The population as text."""
        return population_text(self.context, self.condition)

    def seed(self, seed: int) -> int:
        """Make the seed of this population, whichever others are predicted and in whatever order."""
        return int(np.random.SeedSequence([check_seed(seed), self.draw]).generate_state(1)[0])

    @property
    def draw(self) -> int:
        """What makes the draws of this population its own."""
        return zlib.crc32(f"{self.context}|{self.condition}".encode())


def check_drawing(n_cells: int | None, readout: str | None, seed: int) -> int | None:
    """Check how cells are to be drawn, before anything is computed or written."""
    check_readout(readout)
    check_seed(seed)
    if n_cells is None:
        return None
    try:
        whole = int(n_cells)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if whole < 1 or whole != n_cells:
        raise OptionError(f"n_cells is {n_cells!r}", remedy="Give the number of cells of a population, at least 1.")
    return whole


def check_readout(readout: str | None) -> None:
    """Refuse a read-out that does not exist; ``None`` is that of the model."""
    if readout is not None and not (isinstance(readout, str) and readout in ("counts", "expected", "added")):
        raise OptionError(f"readout is {readout!r}", remedy="Choose 'counts', 'expected' or 'added'.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user requests: contexts x perturbations with their doses, or a table of conditions, a row each."""

    contexts: Contexts = None
    perturbations: str | Sequence[str] | None = None
    conditions: pd.DataFrame | None = None
    doses: Sequence[float | str] | float | str | None = None
    times: Sequence[float] | float | None = None
    directions: Sequence[str] | str | None = None

    def __post_init__(self) -> None:
        if self.conditions is None:
            return
        if not isinstance(self.conditions, pd.DataFrame):
            raise OptionError(
                f"conditions is of type {type(self.conditions).__name__}",
                remedy="Give a DataFrame with a row for each population.",
            )
        both = [
            spec.name for spec in fields(self) if spec.name != "conditions" and getattr(self, spec.name) is not None
        ]
        if both:
            raise OptionError(
                f"{list_names(both)} and conditions are given",
                remedy="Give all of it in the columns of conditions=.",
            )

    def rows(self, design: Design) -> Iterator[tuple[Asked, int | None]]:
        """Yield the request of each row of the table, and its number of cells."""
        assert self.conditions is not None
        known = ("perturbation", *CONDITION_KINDS, _SIZE, *design.context_keys)
        unknown = [str(column) for column in self.conditions if column not in known]
        if unknown:
            raise UnknownNameError("column", unknown, known, where="conditions")
        if "perturbation" not in self.conditions:
            raise ConditionError(
                "there is no column 'perturbation'", where="conditions", remedy="Name one in each row."
            )
        for row in self.conditions.to_dict(orient="records"):
            said = {str(name): value for name, value in row.items() if not means_missing(value)}
            if "perturbation" not in said:
                raise ConditionError("a row names no perturbation", where="conditions", remedy="Name one in every row.")
            size = said.get(_SIZE)
            asked = Asked(
                {key: label_text(said[key]) for key in design.context_keys if key in said},
                said.get("perturbation"),
                **{f"{kind}s": said.get(kind) for kind in CONDITION_KINDS},
            )
            yield asked, None if size is None else check_whole(size, name="n_cells", least=1)


def expand_requests(
    cells: Cells | StoredCells,
    source: DataSource,
    vocabulary: PerturbationVocabulary,
    asked: Asked,
    check: Callable[[Sequence[Request]], None],
) -> list[Request]:
    """List the requested populations: each row of a table, or wanted contexts crossed with wanted conditions."""
    if asked.conditions is None:
        return _crossed(cells, source, vocabulary, asked, check)
    found: dict[tuple[str, Condition], Request] = {}
    for row, size in asked.rows(source.design):
        for request in _crossed(cells, source, vocabulary, row, check):
            found.setdefault((request.context, request.condition), replace(request, n_cells=size))
    if not found:
        raise ConditionError("no population is requested", where="conditions", remedy="Give at least one row.")
    return list(found.values())


def _crossed(
    cells: Cells | StoredCells,
    source: DataSource,
    vocabulary: PerturbationVocabulary,
    asked: Asked,
    check: Callable[[Sequence[Request]], None],
) -> list[Request]:
    """Cross the wanted contexts with the wanted conditions."""
    design = source.design
    for kind in CONDITION_KINDS:
        wanted = getattr(asked, f"{kind}s")
        if wanted is not None and kind not in design.condition_keys:
            raise ConditionError(f"a {kind} is given, but the data have none", remedy=f"Set it up with {kind}_key=.")
        if _as_list(wanted) == []:
            raise ConditionError(f"{kind}s= is empty", remedy=f"Name at least one {kind}, or leave it out.")
    labels = _as_list(asked.perturbations)
    if labels is None:
        labels = [label for label in vocabulary.labels if not vocabulary.label_format.is_control(label)]
    # a name that is not known has no doses to look up
    check(list(_by_name(labels, vocabulary)))
    # a combination may be spelled in two ways, and is one condition nonetheless
    conditions = dict.fromkeys(
        condition for label in labels for condition in _wanted_conditions(label_text(label), design, vocabulary, asked)
    )
    places = _contexts(cells, source, asked.contexts)
    if not conditions or not places:
        raise ConditionError("no population is requested", remedy="Name at least one context and one perturbation.")
    return [
        _request(context, values, condition, vocabulary)
        for context, values in places.items()
        for condition in conditions
    ]


def _by_name(labels: Iterable[object], vocabulary: PerturbationVocabulary) -> Iterator[Request]:
    """Yield requests for perturbations at whatever dose and time, in no context."""
    for label in map(label_text, labels):
        condition = vocabulary.read(label)
        if not condition.is_control:
            yield Request("", {}, Condition(condition.parts), vocabulary.spelling_of(condition.parts))


def _request(
    context: str, values: Mapping[str, str], condition: Condition, vocabulary: PerturbationVocabulary
) -> Request:
    unknown = sorted({direction for direction in condition.directions if direction} - set(vocabulary.directions))
    if unknown:
        raise UnknownNameError("direction", unknown, vocabulary.directions, where=condition.label)
    label = vocabulary.spelling_of(condition.parts)
    spelled = vocabulary.label_format.split(label)
    return Request(context, values, condition, label, written_values(condition, spelled))


def _wanted_conditions(label: str, design: Design, vocabulary: PerturbationVocabulary, asked: Asked) -> list[Condition]:
    """Return the requested conditions of one label; amounts that are not given are those measured."""
    doses: Any
    directions: Any
    doses, times, directions = asked.doses, asked.times, asked.directions
    condition = vocabulary.read(label)
    parts = condition.parts
    if not parts:
        raise _are_controls(label)
    if condition != Condition(parts):  # the label says more than a name
        label = vocabulary.label_format.join(parts)
        doses = [condition.doses] if any(dose is not None for dose in condition.doses) else doses
        times = times if condition.time is None else condition.time
        directions = [condition.directions] if any(condition.directions) else directions
    amounts: list[tuple[Any, Any]] = list(product(_one_or_more(doses), _one_or_more(times)))
    if (doses is None and design.dose_key) or (times is None and design.time_key):
        amounts = _usual_amounts(label, parts, vocabulary, doses, times, design)
    wanted_directions = _as_list(directions)
    if wanted_directions is None:
        wanted_directions = [_usual_directions(label, parts, vocabulary) if design.direction_key else None]
    return [
        parse_condition(label, control=vocabulary.label_format, dose=dose, time=time, direction=direction)
        for (dose, time), direction in product(amounts, wanted_directions)
    ]


def _usual_amounts(
    label: str,
    parts: tuple[str, ...],
    vocabulary: PerturbationVocabulary,
    doses: object,
    times: object,
    design: Design,
) -> list[tuple[Any, Any]]:
    """Doses and times at which a perturbation was measured, or else the one at which all were."""
    found = vocabulary.measured(parts)
    if not found:
        others = [condition for condition in vocabulary.conditions if condition.parts]
        for given, key, kind, values in (
            (doses, design.dose_key, "dose", {dose for condition in others for dose in condition.doses}),
            (times, design.time_key, "time", {condition.time for condition in others}),
        ):
            if given is None and key is not None and len(values) > 1:
                raise ConditionError(
                    f"no {kind} of {label!r} was measured", where=f"obs[{key!r}]", remedy=f"Say which in {kind}s=."
                )
        found = tuple(others[:1])
        usual: list[tuple[Any, Any]] = [(next(iter(other.doses), None), other.time) for other in found]
        usual = usual or [(None, None)]
    else:
        spelled = vocabulary.label_format.split(label)
        usual = [(_in_order(spelled, condition.parts, condition.doses), condition.time) for condition in found]
    amounts = [
        (usual_dose if dose is None else dose, usual_time if time is None else time)
        for (usual_dose, usual_time), dose, time in product(usual, _one_or_more(doses), _one_or_more(times))
    ]
    return list(dict.fromkeys(amounts))


def _in_order[V](spelled: Sequence[str], parts: tuple[str, ...], values: tuple[V, ...]) -> tuple[V, ...]:
    """Values of the sorted parts, in the order in which a label names them."""
    by_part = dict(zip(parts, values, strict=True))
    return tuple(by_part[part] for part in spelled if part in by_part)


def _usual_directions(label: str, parts: tuple[str, ...], vocabulary: PerturbationVocabulary) -> object:
    """Return the direction in which a perturbation was measured, or else the one of all perturbations."""
    ways = sorted({condition.directions for condition in vocabulary.measured(parts)}, key=str)
    if len(ways) == 1:
        return _in_order(vocabulary.label_format.split(label), parts, ways[0])
    if not ways and len(vocabulary.directions) == 1:
        return vocabulary.directions[0]
    found = [_keys.COMBINATION.join(map(str, way)) for way in ways] or vocabulary.directions
    raise ConditionError(
        f"{label!r} may have been given in several directions: {list_names(found) or 'none is recorded'}",
        remedy="Say which in directions=.",
    )


def _as_list(values: object) -> list | None:
    if values is None:
        return None
    if isinstance(values, str) or np.isscalar(values):
        return [values]
    if not is_several(values):
        raise refused("an argument", values, "Give one value, or a list of them.")
    return list(values)  # type: ignore[call-overload]


def _one_or_more(values: object) -> list:
    listed = _as_list(values)
    return [None] if listed is None else listed


def _contexts(cells: Cells | StoredCells, source: DataSource, contexts: Contexts) -> dict[str, dict[str, str]]:
    """The wanted contexts that have cells, by label."""
    keys = source.design.context_keys
    known = cells.cached(("contexts", keys), lambda: _as_texts(cells.obs, keys))
    labels = context_labels(known, source.design)
    chosen = np.zeros(len(known), dtype=bool)
    for row in _context_rows(contexts, keys):
        hit = _of_values(known, row) if isinstance(row, Mapping) else labels == label_text(row)
        if not hit.any():
            raise UnknownNameError("context", [str(row)], labels, where="contexts")
        chosen |= hit
    return dict(zip(labels[chosen], known[chosen].to_dict(orient="records"), strict=True))


def _of_values(known: pd.DataFrame, row: Mapping[Any, object]) -> np.ndarray:
    """Return which contexts have these values in their columns."""
    check_known("context column", row, known, where="contexts")
    hit = np.ones(len(known), dtype=bool)
    for column, value in row.items():
        names = [label_text(name) for name in _as_list(value) or []]
        absent = sorted(set(names) - set(known[column]))
        if absent:
            raise UnknownNameError("context", absent, sorted(set(known[column])), where=f"obs[{column!r}]")
        hit &= known[column].isin(names).to_numpy()
    return hit


def _as_texts(obs: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the distinct rows of columns as text."""
    distinct = obs[list(columns)].drop_duplicates()
    return distinct.assign(**{column: label_texts(distinct[column]) for column in columns}).drop_duplicates()


def _context_rows(contexts: Contexts, keys: Sequence[str]) -> Sequence[Any]:
    """Return the requested contexts: labels, or values of the context columns by name."""
    if contexts is None:
        return [{}]
    if isinstance(contexts, pd.DataFrame):
        return contexts.to_dict(orient="records")
    one = isinstance(contexts, Mapping) or not is_several(contexts)
    rows: list[Any] = [contexts] if one else list(contexts)
    wrong = [row for row in rows if not isinstance(row, Mapping | str | int | np.integer)]
    if wrong:
        example = f"{{{keys[0]!r}: ...}}" if keys else "{}"
        raise OptionError(
            f"{wrong[0]!r} is neither the label of a context nor its values by column",
            where="contexts",
            remedy=f"Give a label, {example}, a list of them, or a DataFrame with a row for each context.",
        )
    return rows


def request_of(
    cells: Cells | StoredCells,
    source: DataSource,
    vocabulary: PerturbationVocabulary,
    context: str,
    condition: str | Condition,
) -> Request:
    """Make the request of one population, whose condition may be given as text."""
    values = _contexts(cells, source, None)
    check_known("context", [context], values)
    condition = Condition.read(condition, vocabulary.label_format) if isinstance(condition, str) else condition
    if condition.is_control:
        raise _are_controls(str(condition))
    return _request(context, values[context], condition, vocabulary)


def _are_controls(label: str) -> ConditionError:
    """Return the error that says that controls are not predicted."""
    return ConditionError(
        f"{label!r} are the control cells", remedy="They come with a prediction (include_controls=True)."
    )


def require_one_condition(requests: Sequence[Request]) -> None:
    """Raise :class:`~transpert.errors.ConditionError` if several conditions are requested, such as several doses."""
    conditions = sorted({str(request.condition) for request in requests})
    if len(conditions) > 1:
        raise ConditionError(
            f"this was measured in several ways: {list_names(conditions)}",
            where=requests[0].label,
            remedy="Say which dose, time or direction.",
        )
