"""Doses and times with their unit, ``"10 uM"``, ``"24h"``, ``"D7"``, as numbers in one unit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._amounts import is_number, rounded, split_amounts, written_amount
from transpert._signatures import as_annotated
from transpert.conditions.written import means_missing
from transpert.errors import ConditionError, OptionError, list_names

# how large a unit is, by what it measures
_UNITS: dict[str, dict[str, float]] = {
    "concentration": {"fM": 1e-15, "pM": 1e-12, "nM": 1e-9, "uM": 1e-6, "mM": 1e-3, "M": 1.0},
    "mass concentration": {"pg/ml": 1e-12, "ng/ml": 1e-9, "ug/ml": 1e-6, "mg/ml": 1e-3, "g/l": 1e-3},
    "time": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0},
}
_OTHER_WORDS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("wk", "week", "weeks"), "w"),
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_BEHIND = re.compile(rf"({_NUMBER})\s*([^\d\s.].*)?")
_BEFORE = re.compile(rf"([A-Za-z]+)\s*({_NUMBER})")  # "D7", "day 7"


@as_annotated()
def amounts(column: pd.Series, *, unit: str) -> pd.Series:
    """Read doses or times that are written with their unit as numbers in one unit.

    Parameters
    ----------
    column
        A column of ``obs``: text such as ``"10uM"``, ``"1 µM"``, ``"24h"``, ``"D7"``, or ``"0.1uM+10uM"`` for the parts
        of a combination; or time differences. What is missing stays missing; a bare 0 needs no unit.
    unit
        The unit of the result: ``"fM"`` to ``"M"``, ``"pg/ml"`` to ``"mg/ml"``, ``"s"``, ``"min"``, ``"h"``, ``"d"`` or
        ``"w"``.

    Returns
    -------
    Numbers, NaN where there are none; for columns with combinations of different doses, text such as ``"0.1+10"`` too.

    Raises
    ------
    transpert.errors.OptionError
        If the unit is not known.
    transpert.errors.ConditionError
        If an amount has no unit, or one that measures something else, or cannot be read; the column is named.

    Examples
    --------
    >>> import pandas as pd
    >>> import transpert as tp
    >>> tp.pp.amounts(pd.Series(["100nM", "1 µM", None]), unit="uM").tolist()
    [0.1, 1.0, nan]
    >>> tp.pp.amounts(pd.Series(["D0", "D7"]), unit="h").tolist()
    [0.0, 168.0]
    """
    measured, size = _unit(unit)
    where = f"column {column.name!r}"
    if pd.api.types.is_timedelta64_dtype(column):
        if measured != "time":
            raise ConditionError(f"time differences are no {measured}", where=where, remedy="Give a unit of time.")
        return (column.dt.total_seconds() / size).map(rounded, na_action="ignore")
    codes, distinct = pd.factorize(column, use_na_sentinel=False)
    found = [_read(value, measured, size, unit, where) for value in distinct]
    values = np.array([*found, None], dtype=object)[:-1]
    if all(isinstance(value, float) for value in found):
        values = values.astype(float)
    return pd.Series(values[codes], index=column.index, name=column.name)


def _unit(unit: str) -> tuple[str, float]:
    """Return what a unit measures, and its size."""
    name = _unit_name(unit)
    for measured, sizes in _UNITS.items():
        if name in sizes:
            return measured, sizes[name]
    known = list_names(name for sizes in _UNITS.values() for name in sizes)
    raise OptionError(f"unit is {unit!r}", where="pp.amounts", remedy=f"Known: {known}.")


def _unit_name(unit: str) -> str:
    """Write a unit as the table of units does."""
    plain = str(unit).strip().rstrip(".").replace("\u00b5", "u").replace("\u03bc", "u").replace("mol/l", "M")
    if plain.lower().endswith(("/ml", "/l")):
        return plain.lower()
    if len(plain) == 2 and plain[1] in "mM":  # "um" and "UM" are written too; "m" alone says nothing
        return plain[0].lower() + "M"
    return _OTHER_WORDS.get(plain.lower(), plain.lower() if plain.lower() in _UNITS["time"] else plain)


def _read(value: Any, measured: str, size: float, unit: str, where: str) -> float | str:
    """Read the amounts of one cell: a number, or one for each part as text."""
    if means_missing(value):
        return float("nan")
    parts = split_amounts(str(value).strip())
    numbers = [_amount(part.strip(), measured, size, unit, where) for part in parts]
    return numbers[0] if len(set(numbers)) == 1 else _keys.COMBINATION.join(map(written_amount, numbers))


def _amount(text: str, measured: str, size: float, unit: str, where: str) -> float:
    """Read one amount with its unit."""
    if is_number(text) and float(text) == 0:
        return 0.0
    behind, before = _BEHIND.fullmatch(text), _BEFORE.fullmatch(text)
    number, name = behind.groups() if behind else before.groups()[::-1] if before else (None, None)
    if number is None or name is None:
        raise ConditionError(
            f"{text!r} has no unit" if number is not None else f"{text!r} is no number with a unit",
            where=where,
            remedy=f"Write it as '10 {unit}', or turn the column into numbers in one unit.",
        )
    sizes = _UNITS[measured]
    if _unit_name(name) not in sizes:
        raise ConditionError(
            f"the unit {name!r} of {text!r} is not a {measured}",
            where=where,
            remedy=f"{unit!r} is one of {list_names(sizes)}: correct the column or unit=.",
        )
    return rounded(float(number) * (sizes[_unit_name(name)] / size)) if float(number) >= 0 else float(number)
