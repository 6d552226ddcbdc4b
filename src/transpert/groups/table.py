"""The table of groups: cells that share context, batch and condition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._amounts import written_amount
from transpert._arguments import check_arguments, refused
from transpert.conditions import Condition, parse_condition
from transpert.conditions.labels import LabelFormat
from transpert.conditions.text import AMOUNT_KINDS, context_text
from transpert.conditions.written import label_texts
from transpert.errors import ConditionError, GroupSizeError, OptionError, list_names

from .design import Design
from .labels import combined_codes, label_codes, value_codes

_ALL = "all"  # the one context, or batch, of a design that names none


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Cells grouped by context, batch and condition.

    Parameters
    ----------
    design
        The columns the groups were made from.
    table
        One row a group: ``context`` (the values of the context columns joined by ``" | "``), ``perturbation`` (the
        data's own spelling), ``dose`` (as in the data), ``time``, ``batch``, ``is_control``, ``n_cells``, and each
        context column, as ``"context:NAME"``. The index is the number of the group.
    conditions
        The condition of each group.
    codes : (n_obs,)
        The group of every cell; -1 for cells that were left out.
    """

    design: Design
    table: pd.DataFrame
    conditions: tuple[Condition, ...]
    codes: np.ndarray
    _order: np.ndarray
    _offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def cells(self, group: int) -> np.ndarray:
        """Return the positions of the cells of one group, ascending.

        Parameters
        ----------
        group
            Number of the group, its row in ``table``.

        Returns
        -------
        Positions ``(n_cells,)`` in the annotation that the groups were made of.
        """
        return self._order[self._offsets[group] : self._offsets[group + 1]]

    @property
    def control_groups(self) -> np.ndarray:
        """Numbers of the groups of control cells."""
        return np.flatnonzero(self.table["is_control"].to_numpy())

    @property
    def perturbed_groups(self) -> np.ndarray:
        """Numbers of the groups of perturbed cells."""
        return np.flatnonzero(~self.table["is_control"].to_numpy())

    def context_values(self, group: int) -> dict[str, str]:
        """Return the value of each context column of a group.

        Parameters
        ----------
        group
            Number of the group, its row in ``table``.

        Returns
        -------
        Values by column, as text.
        """
        return {key: str(self.table.at[group, context_column(key)]) for key in self.design.context_keys}

    @property
    def contexts(self) -> tuple[str, ...]:
        """The contexts, in order of their first group."""
        return tuple(dict.fromkeys(self.table["context"]))


def context_column(key: str) -> str:
    """Return the name under which a context column of ``obs`` stands in the table of groups."""
    # a column of obs may be called "context" or "batch" and mean something else
    return f"context:{key}"


def context_labels(obs: pd.DataFrame, design: Design) -> np.ndarray:
    """Return the context of every cell: the values of the context columns joined by ``" | "``."""
    codes, labels = _context_codes(obs, design)
    return labels[codes]


def _context_codes(obs: pd.DataFrame, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the context of every cell, ``(n_obs,)``, and the labels of the contexts, each once."""
    if not design.context_keys:
        return np.zeros(len(obs), dtype=np.int32), np.array([_ALL], dtype=object)
    columns = [label_codes(obs[key]) for key in design.context_keys]
    if len(columns) == 1:
        return columns[0]
    for key, (codes, labels) in zip(design.context_keys, columns, strict=True):
        missing = int(pd.isna(labels)[codes].sum())
        if missing:
            raise ConditionError(
                f"{missing} cells have no value", where=f"obs[{key!r}]", remedy="Name the value or drop the cells."
            )
    number, first = combined_codes([codes for codes, _ in columns])
    values = zip(*(labels[codes[first]] for codes, labels in columns), strict=True)
    joined = np.array([context_text(parts) for parts in values], dtype=object)
    return number, joined


def make_groups(
    obs: pd.DataFrame,
    design: Design,
    *,
    mask: np.ndarray | None = None,
    min_cells: int = 1,
    need_controls: bool = True,
) -> Groups:
    """Group cells by context, batch and condition.

    Parameters
    ----------
    obs
        The annotation of the cells, with the columns that ``design`` names.
    design
        Which column says what.
    mask : (n_obs,)
        Cells to include; all by default. Left-out cells get the code -1.
    min_cells
        Groups of fewer perturbed cells raise.
    need_controls
        Cells without any control raise.

    Returns
    -------
    The groups, sorted by context, then controls first, then condition, then batch.

    Raises
    ------
    transpert.errors.UnknownNameError, transpert.errors.ConditionError, transpert.errors.ControlError
        If ``obs`` does not fit the design.
    transpert.errors.GroupSizeError
        If a perturbed group has fewer than ``min_cells`` cells.

    Examples
    --------
    >>> import pandas as pd
    >>> from transpert.groups import Design, make_groups
    >>> obs = pd.DataFrame({"perturbation": ["control", "A", "A"], "line": ["x", "x", "x"]})
    >>> make_groups(obs, Design("perturbation", "control", ("line",))).table["n_cells"].tolist()
    [1, 2]
    """
    check_arguments(locals())
    if design is None:
        raise refused("design", design, "Give a transpert.groups.Design.")
    if mask is not None and len(mask) != len(obs):
        raise OptionError(f"the mask has {len(mask)} entries for {len(obs)} cells", remedy="Give one for each cell.")
    design.check(obs, need_controls=need_controls)
    conditions, numbers = condition_codes(obs, design)
    contexts, context_names = _sorted(*_context_codes(obs, design))
    if design.batch_key:
        batches, batch_names = _sorted(*label_codes(obs[design.batch_key]))
    else:
        batches, batch_names = np.zeros(len(obs), dtype=np.int32), np.array([_ALL], dtype=object)
    included = np.ones(len(obs), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    number, first = combined_codes([column[included] for column in (contexts, numbers, batches)])
    codes = np.full(len(obs), -1, dtype=np.int64)
    codes[included] = number
    order = np.argsort(codes, kind="stable")[np.count_nonzero(~included) :]
    sizes = np.bincount(number, minlength=len(first))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    first = np.flatnonzero(included)[first]
    table = pd.DataFrame({"context": context_names[contexts[first]], "batch": batch_names[batches[first]]})
    # written once a condition, of which there may be many groups
    labels, chosen = design.label_format, numbers[first]
    spelled = _spellings(label_codes(obs[design.perturbation_key])[1], labels)
    names = [spelled[c.parts] for c in conditions]
    values = [written_values(c, labels.split(name)) for c, name in zip(conditions, names, strict=True)]
    table.insert(1, "perturbation", np.array(names, dtype=object)[chosen])
    table.insert(2, "dose", np.array([value["dose"] for value in values], dtype=object)[chosen])
    table.insert(3, "time", np.array([value["time"] for value in values], dtype=float)[chosen])
    table["is_control"] = np.array([c.is_control for c in conditions], dtype=bool)[chosen]
    table["n_cells"] = sizes
    for key in design.context_keys:
        table[context_column(key)] = label_texts(obs[key].iloc[first]).to_numpy(dtype=object)
    groups = Groups(design, table, tuple(conditions[code] for code in chosen.tolist()), codes, order, offsets)
    check_sizes(groups, min_cells, remedy="Drop these cells, merge contexts or batches, or lower min_cells.")
    return groups


def check_sizes(groups: Groups, min_cells: int, *, remedy: str) -> None:
    """Refuse groups of too few perturbed cells."""
    table = groups.table
    small = table.index[(table["n_cells"] < min_cells) & ~table["is_control"]]
    if len(small):
        names = (f"{table.context[i]} / {_name_of(groups, i)} ({table.n_cells[i]})" for i in small)
        raise GroupSizeError(
            f"groups of fewer than {min_cells} cells ({len(small)}): {list_names(names, quote=False)}", remedy=remedy
        )


def _name_of(groups: Groups, number: int) -> str:
    """Write the condition of a group, with what its columns leave open, for that may be the mistake."""
    label, condition = str(groups.table.perturbation[number]), groups.conditions[number]
    design = groups.design
    spelled = design.label_format.split(label)
    values = written_values(condition, spelled)
    said = [
        f"no {kind}" if pd.isna(value) else f"{kind} {value if isinstance(value, str) else written_amount(value)}"
        for kind, value in ((kind, values[kind]) for kind in design.condition_keys)
    ]
    return ", ".join([label, *said])


def _sorted(codes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same codes and labels with the labels in alphabetical order."""
    order = np.argsort(labels)
    rank = np.empty(len(labels), dtype=np.int32)
    rank[order] = np.arange(len(labels))
    return rank[codes], labels[order]


def condition_codes(obs: pd.DataFrame, design: Design) -> tuple[list[Condition], np.ndarray]:
    """Return the distinct conditions, controls first, and for every cell the number of its own, ``(n_obs,)``."""
    # parse every distinct spelling once; there are few of them and many cells
    keys = design.condition_keys
    codes = [value_codes(obs[key]) for key in keys.values()]
    number, first = combined_codes([label_codes(obs[design.perturbation_key])[0], *codes])
    labels = label_texts(obs[design.perturbation_key].iloc[first]).to_numpy(dtype=object)
    columns = {kind: obs[key].iloc[first].astype(object).to_numpy() for kind, key in keys.items()}
    form = design.label_format
    parsed = [
        parse_condition(label, control=form, **{kind: _as_said(kind, column[i]) for kind, column in columns.items()})
        for i, label in enumerate(labels)
    ]
    distinct = sorted(set(parsed), key=_order)
    rank = {condition: i for i, condition in enumerate(distinct)}
    return distinct, np.array([rank[condition] for condition in parsed], dtype=np.int64)[number]


def _as_said(kind: str, value: Any) -> Any:
    """Return a value of a column as :func:`parse_condition` takes it: nothing where it is missing, words as text."""
    if pd.isna(value):
        return None
    return value if kind in AMOUNT_KINDS else str(value)


def _order(condition: Condition) -> tuple:
    doses = tuple(-1.0 if dose is None else dose for dose in condition.doses)
    directions = tuple(direction or "" for direction in condition.directions)
    time = -1.0 if condition.time is None else condition.time
    return (len(condition.parts) > 0, condition.parts, doses, time, directions)


def distinct_conditions(obs: pd.DataFrame, design: Design) -> tuple[Condition, ...]:
    """Return the conditions of the cells, controls first."""
    distinct = obs[[design.perturbation_key, *design.condition_keys.values()]].drop_duplicates()
    return tuple(condition_codes(distinct, design)[0])


def written_values(condition: Condition, spelled: Sequence[str]) -> dict[str, float | str]:
    """Return dose, time and direction as a data set would write them, by kind; NaN where there is none."""
    return {kind: _written(condition, value, spelled) for kind, value in condition.values.items()}


def _written(condition: Condition, value: Any, spelled: Sequence[str]) -> float | str:
    distinct = set(value) if isinstance(value, tuple) else {value}
    if len(distinct) > 1:
        texts = [
            "nan" if each in (None, "") else each if isinstance(each, str) else written_amount(each) for each in value
        ]
        return _by_part(condition, texts, spelled)
    one = next(iter(distinct), None)
    return np.nan if one in (None, "") else one


def _by_part(condition: Condition, values: Sequence[str], spelled: Sequence[str]) -> str:
    by_part = dict(zip(condition.parts, values, strict=True))
    # "A+ctrl" names what is no part
    return _keys.COMBINATION.join(by_part[part] for part in spelled if part in by_part)


def _spellings(labels: Iterable[str], label_format: LabelFormat) -> dict[tuple[str, ...], str]:
    """Map the parts of every combination to the one spelling that the table uses."""
    first: dict[tuple[str, ...], str] = {}
    for label in sorted(labels):
        parts = label_format.parts(label)
        # "A" is kept where the data also has "A+ctrl"
        if parts not in first or len(label) < len(first[parts]):
            first[parts] = label if parts else label_format.control
    return first
