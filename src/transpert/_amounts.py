"""Doses and times as text: six significant digits, written and taken apart in one place."""

from __future__ import annotations

import re

import numpy as np

from transpert import _keys

__all__ = ["rounded", "split_amounts", "written_amount"]

# other tools write exponents with a sign, which separates nothing
_SEPARATOR = re.compile(r"(?<![0-9.][eE])" + re.escape(_keys.COMBINATION))


def rounded(value: float) -> float:
    """Return a dose or time as its text says it."""
    return float(f"{abs(value):.6g}")  # -0.0 would have a text of its own


def written_amount(value: float) -> str:
    """Write a dose or time in six significant digits, without a ``+``.

    Parameters
    ----------
    value
        The dose or time.

    Returns
    -------
    The shortest such text; only numbers below 0.0001 have an exponent.

    Examples
    --------
    >>> from transpert._amounts import written_amount
    >>> [written_amount(value) for value in (0.1, 10.0, 1e-7, 1234567.0)]
    ['0.1', '10', '1e-07', '1234570']
    """
    text = f"{value:g}"
    # the sign of an exponent would be read as the one between the parts of a combination
    return np.format_float_positional(float(text), trim="-") if "e+" in text else text


def split_amounts(text: str) -> list[str]:
    """Split the doses of the parts of a combination; the sign of an exponent separates nothing.

    Examples
    --------
    >>> from transpert._amounts import split_amounts
    >>> split_amounts("1e+06+10")
    ['1e+06', '10']
    """
    return _SEPARATOR.split(text)
