"""Doses and times as text: six significant digits, written and taken apart in one place."""

from __future__ import annotations

import re

import numpy as np

from transpert import _keys

# other tools write exponents with a sign, which separates nothing
_SEPARATOR = re.compile(r"(?<![0-9.][eE])" + re.escape(_keys.COMBINATION))


def rounded(value: float) -> float:
    """Return a dose or time as its text says it."""
    return float(f"{abs(value):.6g}")  # -0.0 would have a text of its own


def written_amount(value: float) -> str:
    """Write a dose or time in six significant digits, without a ``+``."""
    text = f"{value:g}"
    # the sign of an exponent would be read as the one between the parts of a combination
    return np.format_float_positional(float(text), trim="-") if "e+" in text else text


def split_amounts(text: str) -> list[str]:
    """Split the doses of the parts of a combination; the sign of an exponent separates nothing."""
    return _SEPARATOR.split(text)
