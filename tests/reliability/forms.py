"""The same cells in every form that scverse allows, and what a call says, in numbers that can be compared."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array
import mudata
import numpy as np
import pandas as pd
from anndata.experimental import read_lazy
from matplotlib.axes import Axes
from scipy import sparse

import transpert as tp
from transpert._anndata import in_memory, layer_names
from transpert.errors import TranspertError


def _counts(make: Callable[[Any], Any]) -> Callable[[ad.AnnData, Path], ad.AnnData]:
    """Return what makes the counts, and the logarithms where they stay what they are, anew."""

    def change(adata: ad.AnnData, folder: Path) -> ad.AnnData:
        changed = adata.copy()
        for name in layer_names(changed):
            changed.layers[name] = make(sparse.csr_matrix(changed.layers[name]))
        kept = make(sparse.csr_matrix(changed.X))
        if kept.dtype.kind == "f":
            changed.X = kept
        return changed

    return change


def _of_file(read: Callable[[Path], Any], suffix: str = "h5ad") -> Callable[[ad.AnnData, Path], Any]:
    """Return what writes the cells, and opens the file in some way."""

    def change(adata: ad.AnnData, folder: Path) -> Any:
        path = folder / f"{len(os.listdir(folder))}.{suffix}"
        written = adata.copy()
        if "transpert" in written.uns and not isinstance(written.uns["transpert"], dict):
            del written.uns["transpert"]
        written.write_zarr(path) if suffix == "zarr" else written.write_h5ad(path)
        return read(path)

    return change


def _view(adata: ad.AnnData, folder: Path) -> ad.AnnData:
    more = ad.concat([adata, adata[:1].copy()], merge="same", uns_merge="same")
    return more[: adata.n_obs]


FORMS: dict[str, Callable[[ad.AnnData, Path], Any]] = {
    "CSC": _counts(lambda matrix: matrix.tocsc()),
    "csr_array": _counts(sparse.csr_array),
    "dense": _counts(lambda matrix: matrix.toarray()),
    "Fortran": _counts(lambda matrix: np.asfortranarray(matrix.toarray())),
    "float64": _counts(lambda matrix: matrix.astype(np.float64)),
    "int32": _counts(lambda matrix: matrix.astype(np.int32)),
    "uint16": _counts(lambda matrix: matrix.astype(np.uint16)),
    "dask": _counts(lambda matrix: dask.array.from_array(matrix.toarray(), chunks=50)),
    "a view": _view,
    "backed": _of_file(lambda path: ad.read_h5ad(path, backed="r")),
    "lazy": _of_file(read_lazy),
    "zarr": _of_file(ad.read_zarr, "zarr"),
    "MuData": lambda adata, folder: mudata.MuData({"rna": adata.copy()}),
}


# what holds a date, or takes seconds
NOT_COMPARED = ("register_prediction", "pl.report")


def compare(shop: Any, folder: Path, *, every: int = 1, offset: int = 0) -> tuple[Counter[str], list[str]]:
    """Give each entry point its cells in every form, or in some, and compare what it says with what it said before."""
    import matplotlib.pyplot as plt

    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    number = offset
    for entry in shop.entries():
        names = [name for name, value in entry.given().items() if isinstance(value, ad.AnnData)]
        tried = []
        for name in names if entry.name not in NOT_COMPARED and (every == 1 or not entry.is_slow) else []:
            for form in FORMS:
                number += 1
                tried += [(name, form)] if number % every == 0 else []
        if not tried:
            continue
        given = entry.given()
        right = said(entry.call(**given), given)
        for name, form in tried:
            given = entry.given()
            given[name] = FORMS[form](given[name], folder)
            outcome, detail = _outcome(entry, given, right)
            outcomes[outcome] += 1
            plt.close("all")
            if outcome not in ("same", "refused"):
                faults.append(f"{entry.name}, {name}, {form}: {outcome} {detail}")
    return outcomes, faults


def _outcome(entry: Any, given: dict[str, Any], right: Any) -> tuple[str, str]:
    """Call an entry point, and say what came of it."""
    try:
        result = said(entry.call(**given), given)
    except TranspertError as error:
        return ("refused", "") if error.remedy else ("refused without a remedy", str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, it is noted
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "src/transpert" in frame.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return "raw error", f"{type(error).__name__}: {str(error)[:150]} ({place})"
    return ("another result", "") if differ(right, result) else ("same", "")


def said(result: Any, given: dict[str, Any]) -> Any:
    """Return what a call says in plain arrays; of a call that returns nothing, what it wrote."""
    if result is None:
        return [_written(value) for value in given.values() if isinstance(value, ad.AnnData)]
    if isinstance(result, ad.AnnData):
        layers = [_dense(result.layers[name]) for name in sorted(layer_names(result))]
        return [_dense(result.X), *layers, len(result.obs)]
    if isinstance(result, pd.DataFrame | pd.Series):
        return [result.select_dtypes("number").to_numpy(float) if isinstance(result, pd.DataFrame) else list(result)]
    if isinstance(result, np.ndarray) or sparse.issparse(result):
        return [_dense(result)]
    if isinstance(result, tp.data.Store):
        return said(result.to_anndata(), {})
    if isinstance(result, Axes):
        return [result.get_title(), *(np.asarray(line.get_ydata(), dtype=float) for line in result.lines)]
    if isinstance(result, tp.conditions.Embedding):
        return [np.asarray(result.values) @ np.asarray(result.values).T]
    if isinstance(result, tuple | list):
        return [said(each, {}) for each in result if each is not None]
    if hasattr(result, "get_effects") and getattr(result, "is_trained_", False):
        return said(result.get_effects(), {})
    if isinstance(result, str | int | float | bool):
        return [result]
    return [type(result).__name__]


def _written(adata: ad.AnnData) -> Any:
    obs = adata.obs if isinstance(adata.obs, pd.DataFrame) else adata.obs.to_memory()
    columns = [column for column in obs if not str(column).startswith("_scvi")]
    tables = [np.asarray(in_memory(adata).varm[name], dtype=float) for name in sorted(adata.varm)]
    return [obs[columns].astype(str).to_csv(index=False), *tables]


def _dense(matrix: Any) -> np.ndarray:
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=float)


def differ(one: Any, other: Any) -> bool:
    """Whether two answers are not the same, up to the rounding of sums in another order."""
    if isinstance(one, list):
        return len(one) != len(other) or any(map(differ, one, other))
    if isinstance(one, np.ndarray):
        return one.shape != other.shape or not np.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)
    if isinstance(one, float):
        return not np.isclose(one, other, rtol=1e-3, equal_nan=True)
    return bool(one != other)
