"""Names and vectors in tables that other programs made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert._anndata import read_h5ad
from transpert._arguments import check_whole
from transpert._matrices import canonical
from transpert.errors import BackedDataError, ConditionError, OptionError, UnknownNameError, check_known

from .names import checked_names


def read_frame(frame: pd.DataFrame, name_column: str | None, source: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Read the names and numbers of a DataFrame."""
    if name_column is not None:
        check_known("column", [name_column], frame, where=source)
        frame = frame.set_index(name_column)
    if isinstance(frame.index, pd.MultiIndex):
        raise ConditionError(
            f"the index has {frame.index.nlevels} levels",
            where=source,
            remedy="Keep one with the names: frame.droplevel(...), or name a column in name_column.",
        )
    text = [str(column) for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
    if text:
        raise ConditionError(
            f"the columns {', '.join(map(repr, text[:5]))} are not numbers",
            where=source,
            remedy="Drop them, or name the one with the names in name_column.",
        )
    return tuple(frame.index), frame.to_numpy(dtype=np.float32)


def read_rows(
    source: AnnData | str | os.PathLike[str], key: str | None, axis: str
) -> tuple[tuple[str, ...], np.ndarray, str]:
    """Read names and vectors of an AnnData or an h5ad file, and say what it is called."""
    if axis not in ("obs", "var"):
        raise OptionError(f"axis is {axis!r}", remedy="Choose 'obs' or 'var'.")
    adata = source if isinstance(source, AnnData) else read_h5ad(source, ConditionError)
    where = "an AnnData" if isinstance(source, AnnData) else Path(source).name
    if adata.isbacked:
        raise BackedDataError("a backed AnnData is not read here", where=str(adata.filename), remedy="Give its path.")
    names, slot = (adata.obs_names, adata.obsm) if axis == "obs" else (adata.var_names, adata.varm)
    if key is None:
        values: Any = canonical(adata.X, where=f"X of {where}")
        matrix = values if axis == "obs" else values.T
    elif key in slot:
        matrix = slot[key]
    else:
        raise UnknownNameError("key", [key], map(str, slot), where=f"{axis}m of {where}")
    return tuple(map(str, names)), as_numbers(matrix, where), where


def read_tokens(
    matrix: Any, vocabulary: Mapping[str, int] | Sequence[str], source: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Read the names and vectors of gene tokens."""
    if hasattr(matrix, "detach"):
        matrix = matrix.detach().float().cpu().numpy()
    matrix = as_numbers(matrix, source)
    if matrix.ndim != 2:
        raise ConditionError(
            f"the matrix has shape {matrix.shape}", where=source, remedy="Give an array with a row for each token."
        )
    if isinstance(vocabulary, Mapping):
        pairs = list(vocabulary.items())
    else:
        pairs = [(name, row) for row, name in enumerate(checked_names(vocabulary, source))]
    # pairs and not a dict: a name that occurs twice must be seen
    kept = [(name, row) for name, row in pairs if not str(name).startswith("<")]
    pairs = [(str(name), check_whole(row, name=f"the row of {name!r}")) for name, row in kept]
    outside = [name for name, row in pairs if not 0 <= row < len(matrix)]
    if outside:
        raise ConditionError(
            f"the vocabulary points {len(outside)} names (first {outside[0]!r}) to rows beyond {len(matrix)}",
            where=source,
            remedy="Matrix and vocabulary must be of the same model.",
        )
    return tuple(name for name, _ in pairs), matrix[[row for _, row in pairs]]


def as_numbers(matrix: Any, source: str) -> np.ndarray:
    """Return a matrix of vectors, dense or sparse, as an array of its own."""
    try:
        if hasattr(matrix, "obs"):  # numpy would take an AnnData to pieces
            raise TypeError
        return np.array(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise ConditionError(
            f"the vectors are of type {type(matrix).__name__}, and no matrix of numbers",
            where=source,
            remedy="Give an array with a row for each name.",
        ) from None
