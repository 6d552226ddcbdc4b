"""Populations of an AnnData: which cells belong to which context and condition."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert import _keys
from transpert._anndata import are_of_prediction, matrix_of, metadata_of
from transpert._counts import read_log1p
from transpert.conditions import Condition
from transpert.conditions.labels import LabelFormat
from transpert.conditions.written import label_texts
from transpert.errors import (
    ControlError,
    OptionError,
    check_known,
    list_names,
    warn_user,
)
from transpert.groups import Design
from transpert.groups.labels import check_labelled
from transpert.groups.table import condition_codes, context_labels


def design_of(
    adata: AnnData,
    *,
    design: Design | None = None,
    perturbation_key: str | None = None,
    control: Any = None,
    context_keys: str | Sequence[str] | None = None,
) -> Design:
    """Return the design that was given, or that of a prediction of this package, with the columns that were named."""
    return design_of_metadata(
        metadata_of(adata),
        adata.obs.columns,
        design=design,
        perturbation_key=perturbation_key,
        control=control,
        context_keys=context_keys,
    )


def design_of_metadata(
    metadata: Mapping[str, Any],
    columns: Collection[str],
    *,
    design: Design | None = None,
    perturbation_key: str | None = None,
    control: Any = None,
    context_keys: str | Sequence[str] | None = None,
) -> Design:
    """Return the design that was given, or what ``uns["transpert"]`` says, with the columns that were named."""
    check_design(design)
    own = dict(metadata.get("design", {}))
    if design is None:
        if context_keys is None and not own and are_of_prediction(columns):
            _warn_of_lost_design()
        known = {field.name for field in fields(Design)}
        design = Design(**{name: _plain(value) for name, value in own.items() if name in known})
    named: dict[str, Any] = {"perturbation_key": perturbation_key, "context_keys": context_keys}
    if control is not None:  # a label may be 0
        named |= {"control": control, "further_controls": ()}
    named = {name: value for name, value in named.items() if value is not None}
    # neither batches nor splits make a population
    return replace(design, batch_key=None, split_key=None, **named)


def check_design(design: object) -> None:
    """Refuse what is no design, such as the name of a column."""
    if not (design is None or isinstance(design, Design)):
        raise OptionError(
            f"design is of type {type(design).__name__}",
            remedy="Give tp.Design(perturbation_key, control, context_keys), or leave it out.",
        )


def _plain(value: Any) -> Any:
    """Bring what ``uns`` holds back from a file: arrays of names are names."""
    return [str(item) for item in value] if isinstance(value, np.ndarray | list | tuple) else value


def _warn_of_lost_design() -> None:
    """Say what is assumed of cells that were predicted here, once ``uns`` no longer says it."""
    warn_user(
        f"The cells are a prediction of transpert whose uns[{_keys.UNS!r}] no longer says its design, as after "
        "ad.concat: they are taken for cells of one context. Give context_keys=, or "
        "design=tp.Design(...) where cells differ in doses, times or directions, or keep what it said with "
        "ad.concat(..., uns_merge='same')."
    )


def check_labels(
    obs: pd.DataFrame, columns: Sequence[str], *, name: str | None = None, label_format: LabelFormat | None = None
) -> None:
    """Check that columns exist and have a value for every cell; errors say that they are of ``name``."""
    _check_columns(obs, columns, name)
    check_labelled(obs, columns, label_format=label_format, name=name)


def _check_columns(obs: pd.DataFrame, columns: Sequence[str], name: str | None) -> None:
    check_known("column", columns, obs, where=_slot_text("obs", name))


def _slot_text(what: str, name: str | None) -> str:
    return what if name is None else f"{what} of {name}"


@dataclass(frozen=True, slots=True, eq=False)
class Populations:
    """Cells by context and condition."""

    cells: dict[tuple[str, str], np.ndarray]
    controls: dict[str, np.ndarray]
    conditions: dict[str, Condition] = field(default_factory=dict)
    spelling: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.cells)


def populations(
    obs: pd.DataFrame, design: Design, *, need_controls: bool = True, name: str | None = None
) -> Populations:
    """Find the populations of a data set; errors call it ``name``."""
    # without its column a dose would be pooled with the others
    _check_columns(obs, design.columns, name)
    check_labels(obs, (design.perturbation_key,), name=name, label_format=design.label_format)
    check_labels(obs, design.context_keys, name=name)
    labels, conditions, spelling = _labels(obs, design)
    frame = pd.DataFrame({"context": context_labels(obs, design), "label": labels})
    indices: dict[Any, Any] = frame.groupby(["context", "label"], sort=True).indices
    groups = {key: np.asarray(rows) for key, rows in indices.items()}
    controls = {context: rows for (context, label), rows in groups.items() if not label}
    cells = {key: rows for key, rows in groups.items() if key[1]}
    orphans = sorted({context for context, _ in cells} - set(controls))
    if need_controls and orphans:
        raise ControlError(
            f"{len(orphans)} contexts have no cells labelled {design.named_controls}: {list_names(orphans)}",
            where=_slot_text(f"obs[{design.perturbation_key!r}]", name),
            remedy="Keep the control cells of every context in the object.",
        )
    return Populations(cells, controls, conditions, spelling)


def _labels(obs: pd.DataFrame, design: Design) -> tuple[np.ndarray, dict[str, Condition], dict[str, str]]:
    """One label a condition, the same however a combination or a dose is written; empty for controls."""
    conditions, codes = condition_codes(obs, design)
    names = ["" if condition.is_control else str(condition) for condition in conditions]
    first = np.unique(codes, return_index=True)[1]
    spelled = label_texts(obs[design.perturbation_key].iloc[first]).tolist()
    named = [code for code in np.argsort(first) if names[code]]  # in the order of the cells
    by_name = {names[code]: conditions[code] for code in named}
    return np.array(names, dtype=object)[codes], by_name, {names[code]: spelled[code] for code in named}


def log_values(adata: AnnData, layer: str | None, *, where: str) -> np.ndarray | sparse.csr_matrix:
    """Return log1p counts per 10k, checked, as float32 (dense, or CSR)."""
    matrix, _ = matrix_of(adata, layer, where=where)
    values = read_log1p(matrix, where=f"{where}, {'X' if layer is None else layer}")
    return values.astype(np.float32, copy=False)
