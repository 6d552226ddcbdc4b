"""Odd values, and odd cells: each way changes the AnnData that it is given."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anndata as ad
import mudata
import numpy as np
import pandas as pd
from scipy import sparse

import transpert as tp

KEYS = {"perturbation_key": "perturbation", "context_keys": "context"}
ODD: list[Callable[[], Any]] = [
    lambda: None, lambda: True, lambda: 3, lambda: -1, lambda: 0, lambda: 1.5, lambda: float("nan"),
    lambda: float("inf"), lambda: "x", lambda: "", lambda: [], lambda: ["x"], lambda: [3], lambda: {},
    lambda: {"a": 1}, lambda: (), lambda: b"x", lambda: np.int64(3), lambda: np.float32(0.5), lambda: np.array([1, 2]),
    object, lambda: 10**30, lambda: "a/b", lambda: pd.DataFrame({"a": [1]}), set, lambda: np.array(["context"]),
    lambda: [None], lambda: "perturbation", lambda: "context", lambda: "control", lambda: "counts", lambda: print,
    lambda: -0.5, lambda: 10**6 + 0.5, lambda: np.datetime64("2020-01-01"), lambda: 1j,
    lambda: pd.NA, lambda: [[1, 2], [3]], lambda: [["context"]], lambda: np.bool_(True), lambda: -(10**30),
    lambda: np.float64("nan"), lambda: np.array([]), lambda: np.zeros((2, 0)), lambda: np.ones((2, 3)) * np.nan,
    lambda: pd.Series(["x", None]), lambda: pd.Series([1.0, np.nan], index=["a", "a"]), lambda: Decimal("1.5"),
    lambda: datetime.timedelta(hours=1), lambda: Path("nowhere"), lambda: "\0", lambda: "x" * 5000, lambda: range(3),
    lambda: iter(["x"]), lambda: (1, "x"), lambda: [np.nan], lambda: {"context": ["context_0", 3]}, lambda: cells(),
    lambda: cells()[:0], lambda: ["P0", "P0"], lambda: b"\xff", lambda: np.random.default_rng(0), lambda: [b"x"],
    lambda: sparse.csr_matrix((2, 2)), lambda: pd.DataFrame(), lambda: np.array([None]), lambda: np.array(3),
    lambda: ValueError, lambda: float, lambda: np.array(["a", "b"]), lambda: pd.Timestamp("2020-01-01"), lambda: 0.5,
]  # fmt: skip


def cells() -> ad.AnnData:
    """Return a small screen with counts, logarithms, a split, doses, batches and an embedding."""
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=12, n_cells=12, n_batches=2)
    adata.obs["split"] = np.where(adata.obs["context"] == "context_0", "test", "train")
    adata.obs.loc[adata.obs["perturbation"] == "control", "split"] = "train"
    adata.X = adata.X.toarray()
    adata.obsm["X_odd"] = adata.X[:, :3].copy()
    return adata


# --- odd cells: each changes the AnnData that it is given ---------------------------------------------------------


def _counts(adata: ad.AnnData) -> sparse.csr_matrix:
    return adata.layers["counts"]


def _set(adata: ad.AnnData, matrix: Any) -> None:
    adata.layers["counts"] = matrix


def _duplicate_column(adata: ad.AnnData, rng: np.random.Generator) -> None:
    name = str(rng.choice(["perturbation", "context", "batch", "library_size"]))
    adata.obs = pd.concat([adata.obs, adata.obs[[name]]], axis=1)


def _damage(adata: ad.AnnData, rng: np.random.Generator) -> None:
    matrix = _counts(adata).copy()
    part = getattr(matrix, str(rng.choice(["indices", "indptr"])))
    part[rng.integers(len(part))] = int(rng.choice([-1, 10_000, 2**31 - 1, 5]))
    _set(adata, matrix)


def _odd_value(adata: ad.AnnData, rng: np.random.Generator) -> None:
    values = np.asarray(_counts(adata).toarray(), dtype=np.float64)
    values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, -1.0, 0.5, 2.0**33, 1e300])
    _set(adata, sparse.csr_matrix(values) if rng.random() < 0.5 else values)


def _odd_logs(adata: ad.AnnData, rng: np.random.Generator) -> None:
    stored = adata.X
    values = np.array(stored.toarray() if sparse.issparse(stored) else stored, dtype=np.float64)
    values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, -1.0, 50.0])
    adata.X = values


def _odd_label(adata: ad.AnnData, rng: np.random.Generator) -> None:
    name = str(rng.choice(["perturbation", "context", "batch", "split"]))
    labels = np.array(adata.obs[name].astype(str), dtype=object)
    labels[rng.integers(len(labels))] = [None, np.nan, "", "a+b+", 3, ("x",), "control+P0", "nan"][rng.integers(8)]
    adata.obs[name] = labels


def _constant(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.obs[str(rng.choice(["perturbation", "context", "split"]))] = str(rng.choice(["control", "P0", "x", ""]))


def _odd_library(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.obs["library_size"] = [0, -1.0, np.nan, "x", 1e300, 1, True][rng.integers(7)]


def _odd_uns(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.uns["transpert"] = ["x", 3, {"design": 4}, {"scores": "x"}, [], {"design": {"perturbation_key": 3}}][
        rng.integers(6)
    ]


def _repeat_names(adata: ad.AnnData, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        adata.var_names = ["g"] * adata.n_vars
    else:
        adata.obs_names = ["c"] * adata.n_obs


def _drop_slot(adata: ad.AnnData, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        del adata.layers["counts"]
    else:
        adata.X = None


def _drop_column(adata: ad.AnnData, rng: np.random.Generator) -> None:
    del adata.obs[str(rng.choice(["perturbation", "context", "library_size", "split"]))]


def _other_form(adata: ad.AnnData, rng: np.random.Generator) -> None:
    counts = _counts(adata)
    forms: list[Any] = [
        counts.tocsc(), sparse.csr_array(counts), sparse.csc_array(counts), counts.toarray(), counts.astype(np.int32),
        counts.astype(np.float64), counts.toarray().astype(np.float16), counts.tocoo(), counts.astype(bool),
    ]  # fmt: skip
    form = forms[rng.integers(len(forms))]
    if sparse.issparse(form) and form.format == "coo":
        return
    _set(adata, form)


def _lazy(adata: ad.AnnData, rng: np.random.Generator) -> None:
    import dask.array

    adata.layers["counts"] = dask.array.from_array(_counts(adata).toarray(), chunks=10)


def _numeric_names(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.obs.columns = [*adata.obs.columns[:-1], 3]


DAMAGES = [
    _duplicate_column, _damage, _odd_value, _odd_logs, _odd_label, _constant, _odd_library, _odd_uns, _repeat_names,
    _drop_slot, _drop_column, _other_form, _lazy, _numeric_names,
]  # fmt: skip


def damaged(adata: ad.AnnData, rng: np.random.Generator) -> Any:
    """Return the cells with something odd about them, or something else in their place."""
    way = rng.integers(len(DAMAGES) + 4)
    if way < len(DAMAGES):
        changed = adata.copy()
        try:
            DAMAGES[way](changed, rng)
        except (KeyError, IndexError):  # a prediction has no batch
            return adata
        return changed
    if way == len(DAMAGES):
        return adata[: int(rng.choice([0, 1, 2]))].copy()
    if way == len(DAMAGES) + 1:
        return adata[:, : int(rng.choice([0, 1]))].copy()
    if way == len(DAMAGES) + 2:
        return adata[rng.permutation(adata.n_obs)[:60]]  # a view
    return mudata.MuData({"rna": adata.copy(), "other": adata[:, :3].copy()})
