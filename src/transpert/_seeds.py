"""Seeds of draws, checked in one place."""

from __future__ import annotations

import operator

from transpert.errors import OptionError

__all__ = ["check_seed"]


def check_seed(seed: int) -> int:
    """Return a seed as an int.

    Parameters
    ----------
    seed
        The seed, a whole number of any type.

    Returns
    -------
    The same number.

    Raises
    ------
    transpert.errors.OptionError
        If it is no whole number from 0 upwards.

    Examples
    --------
    >>> from transpert._seeds import check_seed
    >>> check_seed(3)
    3
    """
    try:
        whole = operator.index(seed)
    except TypeError:
        whole = -1
    if whole < 0:
        raise OptionError(f"seed is {seed!r}", remedy="Give a whole number from 0 upwards.")
    return whole
