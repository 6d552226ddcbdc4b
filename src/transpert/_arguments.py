"""Arguments that come from a user: of the right kind and within their range, or refused by name."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from transpert.errors import OptionError, list_names


def refused(name: str, value: object, remedy: str) -> OptionError:
    """Return the error that says which argument has which value, and what to give."""
    shown = repr(value)
    return OptionError(f"{name} is {shown if len(shown) <= 80 else shown[:77] + '...'}", remedy=remedy)


def check_whole(value: Any, *, name: str, least: int = 0, most: int | None = None, optional: bool = False) -> Any:
    """Return a whole number of any type as an int; ``None`` too where it is optional."""
    if value is None and optional:
        return None
    wanted = f"Give a whole number {f'from {least} to {most}' if most is not None else f'from {least} upwards'}"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        whole = int(value) if isinstance(value, numbers.Real) and float(value).is_integer() else operator.index(value)
    except (TypeError, ValueError, OverflowError):
        raise refused(name, value, wanted + (", or None." if optional else ".")) from None
    if whole < least or (most is not None and whole > most):
        raise refused(name, value, wanted + (", or None." if optional else "."))
    return whole


def check_number(
    value: Any,
    *,
    name: str,
    least: float = -math.inf,
    most: float = math.inf,
    open_ends: bool = False,
    optional: bool = False,
) -> Any:
    """Return a finite number of any type as a float; ``None`` too where it is optional."""
    if value is None and optional:
        return None
    is_number = isinstance(value, numbers.Real | np.number) and not isinstance(value, bool | np.bool_)
    number = float(value) if is_number and not isinstance(value, np.complexfloating) else math.nan
    inside = least < number < most if open_ends else least <= number <= most
    if math.isfinite(number) and inside:
        return number
    between = "between" if open_ends else "from"
    limits = {
        (True, True): "",
        (False, True): f" {'above' if open_ends else 'of at least'} {least:g}",
        (True, False): f" {'below' if open_ends else 'of at most'} {most:g}",
        (False, False): f" {between} {least:g} {'and' if open_ends else 'to'} {most:g}",
    }[math.isinf(least), math.isinf(most)]
    raise refused(name, value, f"Give a number{limits}{', or None' if optional else ''}.")


def check_share(value: Any, *, name: str) -> float:
    """Return a share, from 0 to 1, as a float."""
    return float(check_number(value, name=name, least=0.0, most=1.0))


def check_flag(value: Any, *, name: str) -> bool:
    """Return True or False."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise refused(name, value, "Give True or False.")


def check_text(value: Any, *, name: str, optional: bool = False) -> Any:
    """Return a name, such as that of a column; ``None`` too where it is optional."""
    if isinstance(value, str) or (value is None and optional):
        return value
    raise refused(name, value, f"Give a name as text{', or None' if optional else ''}.")


def check_names(values: Any, *, name: str) -> list[str]:
    """Return names as a list; a single one is not taken apart."""
    if isinstance(values, str):
        return [values]
    found = None
    if isinstance(values, Iterable) and not isinstance(values, bytes | dict):
        found = list(values)
    if found is None or not all(isinstance(value, str) for value in found):
        raise refused(name, values, "Give names as text: one, or a list of them.")
    return found


def check_choice(value: Any, choices: Any, *, name: str, optional: bool = False) -> Any:
    """Return one of a few words, given as a collection or as a Literal type."""
    known: Collection[Any] = choices if isinstance(choices, Collection) else get_args(choices)
    if (value is None and optional) or (isinstance(value, str) and value in known):
        return value
    raise refused(name, value, f"Choose {list_names(known)}{' or None' if optional else ''}.")


def check_path(value: Any, *, name: str) -> Path:
    """Return the path of a file or folder."""
    if isinstance(value, str | os.PathLike) and str(value):
        return Path(value)
    raise refused(name, value, "Give the path of a file or folder as text.")
