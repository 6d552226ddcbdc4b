"""Names as they are given to a table: one or several, and none of them missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from transpert._arguments import is_several, refused
from transpert.errors import ConditionError


def checked_names(names: Any, source: str) -> tuple[str, ...]:
    """Return the names of a table; refuse none, one string in place of several, and missing ones."""
    if isinstance(names, str | bytes):
        raise ConditionError(
            f"the names are one string, {names!r}", where=source, remedy="Give a tuple or list, with one name a row."
        )
    if not is_several(names):
        raise refused("names", names, "Give a tuple or list, with one name a row.")
    names = list(names)
    if not names:
        raise ConditionError("there are no names", where=source, remedy="Give at least one name and its vector.")
    missing = np.flatnonzero(pd.Series(names, dtype=object).isna())
    if len(missing):
        raise ConditionError(
            f"{len(missing)} names are missing (NaN or None), the first in row {missing[0]}",
            where=source,
            remedy="Drop these rows, or name them.",
        )
    return tuple(str(name) for name in names)
