"""Labels as text: numbers without a useless ``.0``, and the texts that mean that a label is missing."""

from __future__ import annotations

from typing import Any

import pandas as pd

# what other programs write where they have no value; "none" and "na" in small letters are names of somebody
_MISSING = frozenset(
    {"", "nan", "NaN", "NAN", "None", "NONE", "<NA>", "NA", "N/A", "n/a", "#N/A", "NaT", "null", "Null", "NULL"}
)


def label_text(value: Any) -> str:
    """Return a label as text; a whole number is written alike whether it is held as ``1`` or as ``1.0``."""
    if pd.api.types.is_float(value) and float(value).is_integer():
        return str(int(value))
    return str(value)


def label_texts(column: pd.Series) -> pd.Series:
    """Return a column of labels as text, as :func:`label_text` writes each; what is missing may stay missing."""
    categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    if not pd.api.types.is_float_dtype(column.dtype if categories is None else categories.dtype):
        return column.astype(str)
    codes, distinct = pd.factorize(column, use_na_sentinel=False)
    values = pd.Series(distinct)
    written = values.astype(str).where(values.isna(), [label_text(value) for value in values])
    return pd.Series(written.to_numpy()[codes], index=column.index, dtype=written.dtype, name=column.name)


def means_missing(label: Any) -> bool:
    """Whether a label is missing, or is text that means so, such as ``"nan"``."""
    if label is None or (pd.api.types.is_scalar(label) and bool(pd.isna(label))):
        return True
    return isinstance(label, str) and label.strip() in _MISSING
