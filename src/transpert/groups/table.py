"""The table of groups: cells that share context, batch and condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from transpert import _keys
from transpert.conditions import Condition, parse_condition, parse_perturbation
from transpert.errors import GroupSizeError, list_names

from .design import Design

__all__ = [
    "CONTEXT_SEPARATOR",
    "Groups",
    "condition_codes",
    "context_column",
    "context_labels",
    "distinct_conditions",
    "make_groups",
    "written_direction",
    "written_dose",
]

CONTEXT_SEPARATOR = " | "
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
        """Return the positions of the cells of one group, ascending."""
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
        """Return the value of each context column of a group."""
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
    """Return the context of every cell: the values of the context columns joined by ``" | "``.

    Parameters
    ----------
    obs
        The annotation of the cells.
    design
        The columns that make a context; without any, every cell is in the context ``"all"``.

    Returns
    -------
    Object array of shape ``(n_obs,)``.
    """
    if not design.context_keys:
        return np.full(len(obs), _ALL, dtype=object)
    columns = [obs[key].astype(str).to_numpy(dtype=object) for key in design.context_keys]
    if len(columns) == 1:
        return columns[0]
    return np.array([CONTEXT_SEPARATOR.join(values) for values in zip(*columns, strict=True)], dtype=object)


def make_groups(obs: pd.DataFrame, design: Design, *, mask: np.ndarray | None = None, min_cells: int = 1) -> Groups:
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
    design.check(obs)
    conditions, numbers = condition_codes(obs, design)
    rows = pd.DataFrame(
        {
            "context": context_labels(obs, design),
            "condition": numbers,
            "batch": obs[design.batch_key].astype(str).to_numpy(dtype=object) if design.batch_key else _ALL,
        }
    )
    included = np.ones(len(obs), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    grouped = rows.loc[included].groupby(["context", "condition", "batch"], sort=True, observed=True)
    codes = np.full(len(obs), -1, dtype=np.int64)
    codes[included] = grouped.ngroup().to_numpy()
    order = np.argsort(codes, kind="stable")[np.count_nonzero(~included) :]
    sizes = np.bincount(codes[included], minlength=grouped.ngroups)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    first = order[offsets[:-1]]
    table = rows.iloc[first].reset_index(drop=True)
    found = [conditions[code] for code in table.pop("condition")]
    spelled = _spellings(obs[design.perturbation_key].astype(str), design.control)
    table.insert(1, "perturbation", np.array([spelled[c.parts] for c in found], dtype=object))
    table.insert(2, "dose", np.array([written_dose(c, spelled[c.parts]) for c in found], dtype=object))
    table.insert(3, "time", np.array([np.nan if c.time is None else c.time for c in found], dtype=float))
    table["is_control"] = np.array([c.is_control for c in found], dtype=bool)
    table["n_cells"] = sizes
    for key in design.context_keys:
        table[context_column(key)] = obs[key].astype(str).to_numpy(dtype=object)[first]
    small = table.index[(table["n_cells"] < min_cells) & ~table["is_control"]]
    if len(small):
        names = (f"{table.context[i]} / {table.perturbation[i]} ({table.n_cells[i]})" for i in small)
        raise GroupSizeError(
            f"{len(small)} groups have fewer than {min_cells} cells: {list_names(names, quote=False)}",
            remedy="Drop these cells, merge contexts or batches, or lower min_cells.",
        )
    return Groups(design, table, tuple(found), codes, order, offsets)


def condition_codes(obs: pd.DataFrame, design: Design) -> tuple[list[Condition], np.ndarray]:
    """Return the distinct conditions, controls first, and for every cell the number of its own, ``(n_obs,)``."""
    missing = pd.Series(np.nan, index=obs.index)
    written = pd.DataFrame(
        {
            "label": obs[design.perturbation_key].astype(str).to_numpy(dtype=object),
            "dose": (obs[design.dose_key] if design.dose_key else missing).astype(object).to_numpy(),
            "time": (obs[design.time_key] if design.time_key else missing).astype(object).to_numpy(),
            "direction": (obs[design.direction_key] if design.direction_key else missing).astype(object).to_numpy(),
        }
    )
    # parse every distinct spelling once; there are few of them and many cells
    grouped = written.groupby(["label", "dose", "time", "direction"], sort=False, dropna=False)
    number = grouped.ngroup().to_numpy()
    _, first = np.unique(number, return_index=True)
    parsed = [
        parse_condition(
            label,
            control=design.control,
            dose=_plain(dose),
            time=_plain(time),
            direction=None if pd.isna(direction) else str(direction),
        )
        for label, dose, time, direction in written.iloc[first].itertuples(index=False, name=None)
    ]
    distinct = sorted(set(parsed), key=_order)
    rank = {condition: i for i, condition in enumerate(distinct)}
    return distinct, np.array([rank[condition] for condition in parsed])[number]


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


def _order(condition: Condition) -> tuple:
    doses = tuple(-1.0 if dose is None else dose for dose in condition.doses)
    directions = tuple(direction or "" for direction in condition.directions)
    time = -1.0 if condition.time is None else condition.time
    return (len(condition.parts) > 0, condition.parts, doses, time, directions)


def distinct_conditions(obs: pd.DataFrame, design: Design) -> tuple[Condition, ...]:
    """Return the conditions of the cells, controls first.

    Parameters
    ----------
    obs
        The annotation of the cells.
    design
        Which column says what.

    Returns
    -------
    Each condition once, with its doses, its time and its directions.
    """
    columns = (design.perturbation_key, design.dose_key, design.time_key, design.direction_key)
    distinct = obs[[column for column in columns if column is not None]].drop_duplicates()
    return tuple(condition_codes(distinct, design)[0])


def written_dose(condition: Condition, spelling: str) -> float | str:
    """Return the dose as a data set would write it.

    Parameters
    ----------
    condition
        The condition.
    spelling
        How the data spells its perturbation.

    Returns
    -------
    One number, NaN for none, or one for each part in the order of the label, ``"0.1+10"``.
    """
    doses = set(condition.doses)
    if len(doses) <= 1:
        dose = next(iter(doses), None)
        return np.nan if dose is None else dose
    return _by_part(condition, ["nan" if dose is None else f"{dose:g}" for dose in condition.doses], spelling)


def written_direction(condition: Condition, spelling: str) -> float | str:
    """Return the direction as a data set would write it; as :func:`written_dose`."""
    directions = set(condition.directions)
    if len(directions) <= 1:
        return next(iter(directions), None) or np.nan
    return _by_part(condition, [direction or "nan" for direction in condition.directions], spelling)


def _by_part(condition: Condition, values: Sequence[str], spelling: str) -> str:
    by_part = dict(zip(condition.parts, values, strict=True))
    parts = [part.strip() for part in spelling.split(_keys.COMBINATION)]
    # "A+ctrl" names what is no part
    return _keys.COMBINATION.join(by_part[part] for part in parts if part in by_part)


def _spellings(labels: pd.Series, control: str) -> dict[tuple[str, ...], str]:
    """Map the parts of every combination to the one spelling that the table uses."""
    first: dict[tuple[str, ...], str] = {}
    for label in sorted(pd.unique(labels)):
        parts = parse_perturbation(label, control=control)
        # "A" is kept where the data also has "A+ctrl"
        if parts not in first or len(label) < len(first[parts]):
            first[parts] = label if parts else control
    return first
