"""Labels of many cells as numbers, so that each is written once and not for every cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from transpert.conditions.labels import LabelFormat
from transpert.conditions.written import label_texts, means_missing
from transpert.errors import ConditionError

_CELLS_PER_BLOCK = 100_000  # cells whose labels are text at a time
_SMALL_TABLE = 1 << 22  # codes of which a table is made however few the cells are


def label_codes(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the label of every cell, and the labels, each once."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = value_codes(column)
        used = np.flatnonzero(np.bincount(codes, minlength=len(column.cat.categories) + 1))
        written = label_texts(pd.Series(pd.Categorical.from_codes(used - 1, dtype=column.dtype)))
        # two categories may be written alike
        numbers, labels = pd.factorize(written.to_numpy(dtype=object), use_na_sentinel=False)
        of_category = np.zeros(len(column.cat.categories) + 1, dtype=np.int32)
        of_category[used] = numbers
        return of_category[codes], labels
    known: dict[str | None, int] = {}
    codes = np.empty(len(column), dtype=np.int32)
    for start in range(0, len(column), _CELLS_PER_BLOCK):
        written = label_texts(column.iloc[start : start + _CELLS_PER_BLOCK])
        numbers, found = pd.factorize(written.to_numpy(dtype=object), use_na_sentinel=False)
        names = [None if pd.isna(label) else label for label in found]
        here = np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int32)
        codes[start : start + len(numbers)] = here[numbers]
    return codes, np.array([np.nan if name is None else name for name in known], dtype=object)


def check_labelled(
    obs: pd.DataFrame, columns: Sequence[str], *, label_format: LabelFormat | None = None, name: str | None = None
) -> None:
    """Refuse labels that are missing, or text that means so unless it is the label of controls, in any cell."""
    for column in columns:
        codes, labels = label_codes(obs[column])
        for code, label in enumerate(labels):
            if not means_missing(label) or (label_format is not None and label_format.is_control(str(label))):
                continue
            written = "" if pd.isna(label) or obs[column].isna().any() else f"but the text {label!r}"
            raise ConditionError(
                f"{np.count_nonzero(codes == code)} cells have no value{written and f' {written}'}",
                where=f"obs[{column!r}]" + ("" if name is None else f" of {name}"),
                remedy="Name the value or drop the cells"
                + (f", or rename {label!r} if it is a name." if written else "."),
            )


def value_codes(column: pd.Series) -> np.ndarray:
    """Return a number for the value of every cell, ``(n_obs,)``; missing is a value too."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy() + 1  # 0 where there is none
    return pd.factorize(column, use_na_sentinel=False)[0]


def combined_codes(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Number the combinations of codes that occur, in the order of the first column, then of the next."""
    joint = columns[0].astype(np.int64)
    for codes in columns[1:]:
        # numbered again for each column, so that no product of sizes is too large for the type
        joint = _renumbered(joint)
        joint *= int(codes.max(initial=0)) + 1
        joint += codes
    joint = _renumbered(joint)
    first = np.empty(int(joint.max(initial=-1)) + 1, dtype=np.int64)
    for start in reversed(range(0, len(joint), _CELLS_PER_BLOCK)):
        block = joint[start : start + _CELLS_PER_BLOCK]
        first[block[::-1]] = np.arange(start + len(block) - 1, start - 1, -1)  # the last that is written stays
    return joint, first


def _renumbered(codes: np.ndarray) -> np.ndarray:
    """Number the codes that occur from 0 upwards, in place where a table of all of them is small."""
    extent = int(codes.max(initial=-1)) + 1
    if extent > max(_SMALL_TABLE, len(codes)):
        return np.unique(codes, return_inverse=True)[1]
    occurs = np.zeros(extent, dtype=bool)
    occurs[codes] = True
    number = np.cumsum(occurs) - 1
    return np.take(number, codes, out=codes, mode="clip")  # no code is out of range; "raise" would copy
