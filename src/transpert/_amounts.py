"""Doses and times as text: six significant digits, written and taken apart in one place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from transpert import _keys
from transpert.errors import ConditionError

# other tools write exponents with a sign, which separates nothing
_NO_EXPONENT = r"(?<![0-9.][eE])"


def rounded(value: float) -> float:
    """Round a dose or time to the digits that its text has."""
    return float(f"{abs(value):.6g}")  # -0.0 would have a text of its own


def written_amount(value: float) -> str:
    """Write a dose or time in six significant digits, without a ``+``."""
    text = f"{value:g}"
    # the sign of an exponent would be read as the one between the parts of a combination
    return np.format_float_positional(float(text), trim="-") if "e+" in text else text


def split_amounts(text: str, separator: str = _keys.COMBINATION) -> list[str]:
    """Split the doses of the parts of a combination at ``+`` or its separator; the sign of an exponent is neither."""
    signs = {re.escape(_keys.COMBINATION), re.escape(separator)} - {re.escape(".")}
    return re.split(f"{_NO_EXPONENT}(?:{'|'.join(sorted(signs))})", text.strip("[]()") if separator == "," else text)


@dataclass(frozen=True, slots=True)
class AmountScale:
    """Doses, or times, on a logarithmic scale between those of the data, whatever their unit."""

    smallest: float = 1.0
    largest: float = 1.0

    @classmethod
    def of(cls, amounts: Iterable[float | None]) -> Self:
        """Return the scale of the amounts above 0."""
        positive = [amount for amount in amounts if amount]
        return cls(min(positive), max(positive)) if positive else cls()

    def place(self, amount: float | None) -> float:
        """Return 1 for the largest amount of the data, and 0 for none and for a tenth of the smallest."""
        if not amount:
            return 0.0
        decades = math.log10(self.largest) - math.log10(self.smallest) + 1
        return max(0.0, (math.log10(amount) - math.log10(self.smallest) + 1) / decades)


def amount_gap(amount: float, other: float) -> float:
    """Return how far two amounts are apart, from 0 for the same to 1 where one is none, by their ratio alone."""
    larger = max(amount, other)
    return 1 - min(amount, other) / larger if larger else 0.0


def is_number(text: str) -> bool:
    """Whether a text is one number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_amounts(column: pd.Series, *, where: str, separator: str = _keys.COMBINATION) -> None:
    """Refuse a column of doses or times that are not numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return
    strange = next((value for value in column.dropna().unique() if not _is_amount(value, separator)), None)
    if strange is None:
        return
    key = where.removeprefix("obs[").removesuffix("]")
    is_time = not isinstance(strange, str)
    what = "time differences or dates have no unit" if is_time else f"{strange!r} is not a number"
    raise ConditionError(
        what,
        where=where,
        remedy="Write numbers in one unit; for amounts with units, adata.obs[{0}] = tp.pp.amounts(adata.obs[{0}], "
        "unit='{1}').".format(key, "h" if is_time or _MAY_BE_TIME.search(strange) else "uM"),
    )


_MAY_BE_TIME = re.compile(r"(?i)\d\s*(h|hr|hour|min|sec|s|d|day|w|week)s?\b|^(d|day|h|w|week)\s*\d")


def _is_amount(value: Any, separator: str) -> bool:
    """Whether a value of a column is a number, one for each part, or text for none."""
    if not isinstance(value, str):
        return isinstance(value, int | float | np.integer | np.floating)
    return all(not part.strip() or is_number(part) for part in split_amounts(value, separator))
