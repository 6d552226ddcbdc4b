"""Predictions that are written down before the experiment, and scored when the cells arrive."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.experimental.backed import Dataset2D
from scipy.stats import norm

from transpert import _keys
from transpert._anndata import frame, metadata_of, own_entry
from transpert._arguments import check_path
from transpert._docstrings import fill_docstring
from transpert._files import Inside, reading, versions
from transpert._folders import folder_written
from transpert._matrices import as_dense
from transpert._schema import checked
from transpert._signatures import as_annotated
from transpert._statistics import mean_and_error, pearson
from transpert.conditions import Condition
from transpert.conditions.text import population_text, split_population
from transpert.errors import ModelFileError, NotTrainedError, UnknownNameError, list_names
from transpert.groups import Design

from ._populations import log_values, populations

_MANIFEST = "registration.json"
_TABLES = (_keys.EFFECT, _keys.EFFECT_LOWER, _keys.EFFECT_UPPER)
_PACKAGES = ("transpert", "anndata", "numpy", "scvi-tools", "torch")
_PSEUDO_RATE = 0.05
_REMEDY = "Take the folder from a copy; what was changed after it was registered is no prediction any more."


class _Manifest(msgspec.Struct):
    """What a registration says of itself."""

    files: dict[Inside, str]
    level: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    design: dict[str, Any]


@as_annotated()
@fill_docstring
def register_prediction(
    pred: AnnData, folder: str | os.PathLike[str], *, ranking: pd.DataFrame | None = None, note: str = ""
) -> str:
    """Write a prediction down before the experiment, with a checksum and a date.

    Parameters
    ----------
    pred
        What ``predict(..., interval=0.9)`` of a model returned, with effects and their intervals.
    folder
        Folder that does not exist yet; it appears whole or not at all.
    ranking
        A table of :func:`rank_targets` to register with it.
    note
        What is to be measured, in words.

    Returns
    -------
    The checksum, to be published or put into a lab book. It covers every file and the date.

    Raises
    ------
    transpert.errors.NotTrainedError
        If the prediction has no intervals.
    transpert.errors.ModelFileError
        If the folder exists.

    Examples
    --------
    >>> import tempfile, transpert as tp
    %(trained_kernel)s
    %(registered_prediction)s
    >>> len(checksum)
    64
    """
    found = intervals_of(pred)
    if found is None or any(name not in pred.varm for name in _TABLES):
        raise NotTrainedError("the prediction has no intervals", remedy="Predict with interval=0.9.")
    target = check_path(folder, name="folder")

    def check() -> None:
        if target.exists():
            raise ModelFileError("the folder exists", where=str(target), remedy="Choose another: none is overwritten.")

    check()
    with folder_written(target, "registration", ModelFileError, "register it again", check=check) as new:
        text = _write(new, pred, found, ranking, note)
    return _digest(text.encode())


def intervals_of(pred: AnnData) -> dict[str, Any] | None:
    """Return what a prediction says of its intervals: their ``level``, and ``conditions``, a row a population."""
    return own_entry(
        pred,
        _keys.UNCERTAINTY,
        tables={"conditions": (_keys.OOD_SCORE,)},
        numbers=("level",),
        remedy="Predict again with interval=0.9.",
    )


def _table_of(values: Any, genes: pd.Index) -> pd.DataFrame:
    """Return a slot of ``varm`` as a table of genes x populations; that of a lazy AnnData is read."""
    return frame(values) if isinstance(values, Dataset2D) else pd.DataFrame(values, index=genes)


def _write(new: Path, pred: AnnData, found: Mapping[str, Any], ranking: pd.DataFrame | None, note: str) -> str:
    """Write the tables and their manifest, and return the text of the manifest."""
    for name in _TABLES:
        _table_of(pred.varm[name], pred.var_names).to_csv(new / f"{name}.csv", index_label="gene")
    found["conditions"].to_csv(new / "conditions.csv", index_label="population")
    if ranking is not None:
        ranking.to_csv(new / "ranking.csv", index=False)
    own = metadata_of(pred)
    files = {file.name: _digest(file.read_bytes()) for file in sorted(new.iterdir())}
    manifest = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": note,
        "level": float(found["level"]),
        "model": str(own.get(_keys.MODEL, "")),
        "design": json.loads(json.dumps(dict(own.get("design", {})), default=_plain)),
        "versions": versions(*_PACKAGES),
        "files": files,
    }
    text = json.dumps(manifest, indent=2, sort_keys=True)
    (new / _MANIFEST).write_text(text, encoding="utf-8")
    return text


@as_annotated()
@fill_docstring
def score_registered(
    folder: str | os.PathLike[str], adata: AnnData, *, design: Design | None = None, checksum: str | None = None
) -> pd.DataFrame:
    """Score a registered prediction by the cells that were measured since.

    Parameters
    ----------
    folder
        What :func:`register_prediction` wrote.
    adata
        The new cells with their controls; log1p counts per 10k in ``X``.
    design
        Their columns; those of the prediction by default.
    checksum
        What :func:`register_prediction` returned; the files are refused if they give another one.

    Returns
    -------
    One row a registered population that was measured: ``n_cells``, ``pearson`` and ``sign_agreement`` (over genes whose
    interval excludes 0) of the log fold changes, ``coverage`` (share of genes whose measured effect lies in its
    interval, widened by the sampling error of the measurement), ``coverage_raw`` (not widened), and ``level``, what
    coverage should be. What was not measured is in ``attrs["not_measured"]``.

    Raises
    ------
    transpert.errors.ModelFileError
        If the folder is no registration, or was changed since.
    transpert.errors.UnknownNameError
        If no registered population, or gene, was measured.
    transpert.errors.ControlError
        If a context has no controls.

    Examples
    --------
    >>> import tempfile, transpert as tp
    %(trained_kernel)s
    %(registered_prediction)s
    ...     scores = tp.tl.score_registered(f"{place}/registered", adata, checksum=checksum)
    >>> scores.index.tolist()
    ['context_0: P0', 'context_0: P1']
    """
    path = check_path(folder, name="folder")
    manifest = _checked(path, checksum)
    with reading(ModelFileError, path, "registration", _REMEDY):
        effect, lower, upper = (_read_table(path / f"{name}.csv") for name in _TABLES)
    if design is None:
        design = Design.from_dict({"split_key": None, **manifest.design})
    genes = effect.index.intersection(adata.var_names)
    if not len(genes):
        raise UnknownNameError("gene", list(effect.index[:3]), adata.var_names[:1000], where="the new cells")
    values = log_values(adata, None, where="the new cells")[:, adata.var_names.get_indexer(genes)]
    found = populations(frame(adata.obs), design)
    measured = {population_text(*key): key for key in found}
    names = [str(name) for name in effect if name in measured]
    if not names:
        raise UnknownNameError("population", list(map(str, effect)), measured, where="the new cells")
    z = norm.ppf((1 + manifest.level) / 2)
    controls = {context: _moments(values[rows]) for context, rows in found.controls.items()}
    rows = {}
    for name in names:
        key = measured[name]
        (log_rate, error), (before, error_before) = _moments(values[found.cells[key]]), controls[key[0]]
        observed, spread = log_rate - before, z * np.sqrt(error + error_before)
        said, low, high = (table.loc[genes, name].to_numpy(float) for table in (effect, lower, upper))
        sure = (low > 0) | (high < 0)
        rows[name] = {
            "n_cells": len(found.cells[key]),
            "pearson": pearson(said, observed),
            "sign_agreement": float((np.sign(said) == np.sign(observed))[sure].mean()) if sure.any() else np.nan,
            "coverage": _share(observed, said, np.hypot(said - low, spread), np.hypot(high - said, spread)),
            "coverage_raw": _share(observed, said, said - low, high - said),
            "level": manifest.level,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("population")
    table.attrs["not_measured"] = [name for name in effect if name not in measured]
    return table


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table of genes x populations, whose names may stand there without slashes."""
    table = pd.read_csv(path, index_col="gene")
    populations = [split_population(str(name)) for name in table]
    table.columns = pd.Index([population_text(context, Condition.read(label)) for context, label in populations])
    return table


def _digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def _plain(value: object) -> object:
    """Return arrays, which AnnData makes of lists, as lists."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _checked(path: Path, checksum: str | None) -> _Manifest:
    """Read the manifest and refuse files that were changed."""
    if not (path / _MANIFEST).is_file():
        raise ModelFileError("this is no registration", where=str(path), remedy="Name a folder of register_prediction.")
    with reading(ModelFileError, path / _MANIFEST, "registration", _REMEDY):
        text = (path / _MANIFEST).read_text(encoding="utf-8")
        manifest = checked(json.loads(text), _Manifest, ModelFileError, str(path / _MANIFEST), _REMEDY)
    if checksum is not None and _digest(text.encode()) != checksum:
        raise ModelFileError("the registration has another checksum", where=str(path / _MANIFEST), remedy=_REMEDY)
    absent = [f"{name}.csv" for name in _TABLES if f"{name}.csv" not in manifest.files]
    if absent:
        raise ModelFileError(f"the registration does not list {list_names(absent)}", where=str(path), remedy=_REMEDY)
    with reading(ModelFileError, path, "registration", _REMEDY):
        changed = [name for name, digest in manifest.files.items() if _digest((path / name).read_bytes()) != digest]
    if changed:
        what = f"files were changed since they were registered: {list_names(sorted(changed), quote=False)}"
        raise ModelFileError(what, where=str(path), remedy=_REMEDY)
    return manifest


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the mean counts per 10k of each gene, and its sampling variance."""
    mean, error = mean_and_error(np.expm1(as_dense(values)))
    error += _PSEUDO_RATE / max(values.shape[0], 1)  # a gene seen in no cell still has the error of one molecule
    return np.log(mean + _PSEUDO_RATE), error / (mean + _PSEUDO_RATE) ** 2


def _share(observed: np.ndarray, said: np.ndarray, below: np.ndarray, above: np.ndarray) -> float:
    """Return the share of measured effects inside the predicted intervals."""
    return float(((observed >= said - below) & (observed <= said + above)).mean())
