"""Names and vectors in an npz file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from transpert._files import read_arrays
from transpert.errors import ConditionError, check_known, list_names


def read_npz(path: str | os.PathLike[str], names: str | None, values: str | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Read the names and the matrix of an npz file."""
    where = Path(path).name
    arrays, unread = read_arrays(Path(path), ConditionError, "Write it with numpy.savez(...).")
    for key in (names, values):
        if key is not None:
            check_known("array", [key], [*arrays, *unread], where=where)
    text = [key for key, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"]
    matrices = [key for key, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"]
    # an array of objects beside those that are needed does no harm
    no_names = not text if names is None else names in unread
    no_values = not matrices if values is None else values in unread
    if unread and (no_names or no_values):
        raise ConditionError(
            f"the arrays {list_names(unread)} hold objects, which are not read because they could run code",
            where=where,
            remedy="Save the names as text and the vectors as numbers: "
            "np.savez(path, names=np.array(names, dtype=str), values=np.asarray(values, dtype=np.float32)).",
        )
    found = arrays[names or _only(text, "names", where)].astype(str)
    return tuple(found.tolist()), arrays[values or _only(matrices, "values", where)]


def _only(keys: list[str], what: str, where: str) -> str:
    if len(keys) != 1:
        raise ConditionError(
            f"{len(keys)} arrays could be the {what}: {', '.join(keys) or 'none'}",
            where=where,
            remedy=f"Name the array in {what}=.",
        )
    return keys[0]
