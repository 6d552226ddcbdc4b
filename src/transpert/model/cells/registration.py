"""The scvi-tools registry of a data set: which fields are registered, and how the registry becomes JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from mudata import MuData
from scvi.data import fields

from transpert import _keys
from transpert._arguments import check_arguments
from transpert.conditions.labels import control_labels
from transpert.conditions.text import AMOUNT_KINDS
from transpert.errors import ConditionError, ControlError, OptionError, list_names
from transpert.groups import Design, make_groups, match_controls
from transpert.groups.table import check_sizes

from .in_memory import Cells, DataSource
from .open import StoredCells

_ARRAY = "__array__"
_DTYPES = {"object", "bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64))}


def registry_fields(
    source: DataSource, cells: Cells | StoredCells, mdata: MuData | None = None
) -> list[fields.BaseAnnDataField]:
    """Return the fields of an AnnData, or of one modality of a MuData, that scvi-tools keeps track of.

    Doses and times are registered where they are numbers. Doses such as ``"0.1+10"`` are read with the condition:
    controls have none, and scvi-tools knows no category that is missing.
    """
    design = source.design
    categorical = {
        _keys.REGISTRY_PERTURBATION: design.perturbation_key,
        _keys.REGISTRY_BATCH: design.batch_key,
        _keys.REGISTRY_SPLIT: design.split_key,
    }
    numerical = {_keys.REGISTRY_LIBRARY: source.library_size_key}
    for kind, column in design.condition_keys.items():
        if kind in AMOUNT_KINDS and pd.api.types.is_numeric_dtype(cells.obs[column]):
            numerical[kind] = column
    modality = source.modality
    if modality is None:
        layer, category, number, joint, obsm = (
            fields.LayerField,
            fields.CategoricalObsField,
            fields.NumericalObsField,
            fields.CategoricalJointObsField,
            fields.ObsmField,
        )
        extra: dict[str, Any] = {}
    else:
        layer, category, number, joint, obsm = (
            fields.MuDataLayerField,
            fields.MuDataCategoricalObsField,
            fields.MuDataNumericalObsField,
            fields.MuDataCategoricalJointObsField,
            fields.MuDataObsmField,
        )
        extra = {"mod_key": modality}
    # counts were checked when the cells were read; scvi-tools would not take every kind of matrix, and change others
    counts = layer(_keys.REGISTRY_COUNTS, source.layer, is_count_data=False, correct_data_format=False, **extra)
    registered = [counts]
    for field, columns in ((category, categorical), (number, numerical)):
        registered += [
            field(key, column, **_place_of([column], modality, mdata))
            for key, column in columns.items()
            if column is not None
        ]
    if design.context_keys:
        place = _place_of(design.context_keys, modality, mdata)
        registered.append(joint(_keys.REGISTRY_CONTEXTS, list(design.context_keys), **place))
    if source.embedding_key is not None:
        registered.append(obsm(_keys.REGISTRY_EMBEDDING, source.embedding_key, **extra))
    return registered


def _place_of(columns: Sequence[str], modality: str | None, mdata: MuData | None) -> dict[str, Any]:
    """Return in which ``obs`` of a MuData scvi-tools finds columns: that of the modality, or that of all cells."""
    if mdata is None or modality is None:
        return {}
    own, shared = ({*annotated.obs} for annotated in (mdata[modality], mdata))
    if own.issuperset(columns):
        return {"mod_key": modality}
    if shared.issuperset(columns):
        return {"mod_key": None}
    raise OptionError(
        f"{list_names(column for column in columns if column in own)} stand in mdata[{modality!r}].obs and "
        f"{list_names(column for column in columns if column not in own)} in mdata.obs",
        where="context_keys",
        remedy="Copy them into one of the two: columns that make a context together stand together.",
    )


def jsonable(value: Any) -> Any:
    """Turn a registry into plain data that JSON can hold and :func:`restore` can read."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return {
            _ARRAY: [jsonable(item) for item in value.tolist()],
            "dtype": "object" if value.dtype.kind in "OUS" else str(value.dtype),
        }
    if isinstance(value, pd.Index | pd.Series):
        return jsonable(np.asarray(value))
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def restore(value: Any) -> Any:
    """Undo :func:`jsonable`."""
    if isinstance(value, dict):
        if _ARRAY in value:
            if value["dtype"] not in _DTYPES:
                raise ValueError(f"an array of the registry has the type {value['dtype']!r}")
            return np.array(value[_ARRAY], dtype=value["dtype"])
        return {key: restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restore(item) for item in value]
    return value


def source_of(arguments: dict[str, Any]) -> DataSource:
    """Read the arguments of ``setup_anndata`` or ``setup_mudata``."""
    check_arguments(arguments)
    named = {spec.name: arguments[spec.name] for spec in dataclasses.fields(Design) if spec.name in arguments}
    controls = [*control_labels(arguments["control"]), *arguments.get("further_controls", ())]
    design = Design(**{**named, "control": controls, "further_controls": ()})
    check_names(design)
    return DataSource(
        design,
        arguments["layer"],
        arguments["library_size_key"],
        arguments.get("modality"),
        arguments["embedding_key"],
        n_top_genes=arguments.get("n_top_genes"),
    )


def check_names(design: Design) -> None:
    """Refuse a design whose columns would be lost in a prediction, which has columns of its own under their names."""
    # the split says what to train on, and is not part of a prediction
    dataclasses.replace(design, split_key=None).check_not_written((*_keys.PREDICTION_COLUMNS, _keys.OOD_SCORE))


def check_groups(cells: Cells | StoredCells, design: Design, *, report: bool = True) -> None:
    """Refuse data that no model could be trained on, before anything is registered; report labels that look odd."""
    _check_no_dates(cells.obs, design)
    if report:
        design.report_labels(cells.obs, cells.genes)
    # batches are parts of a group: one cell in a batch is common, one cell of a condition in a context is a mistake
    groups = make_groups(cells.obs, dataclasses.replace(design, batch_key=None))
    if not len(groups.perturbed_groups):
        raise ControlError(
            f"all {len(cells.obs)} cells are controls, labelled {design.named_controls}",
            where=f"obs[{design.perturbation_key!r}]",
            remedy="Add perturbed cells to learn from, or correct control= or combination_separator=.",
        )
    amounts = list(design.condition_keys.values())
    remedy = f"Drop these cells, merge contexts{f', or correct {list_names(amounts)}' if amounts else ''}."
    check_sizes(groups, 2, remedy=remedy)
    match_controls(groups, warn=False)


def _check_no_dates(obs: pd.DataFrame, design: Design) -> None:
    """Refuse dates as labels."""
    for column in design.columns:
        if pd.api.types.is_datetime64_any_dtype(obs[column]) or pd.api.types.is_timedelta64_dtype(obs[column]):
            raise ConditionError(
                "dates are no labels, and cannot be saved with a model",
                where=f"obs[{column!r}]",
                remedy=f"Turn them into text: adata.obs[{column!r}] = adata.obs[{column!r}].astype(str).",
            )
