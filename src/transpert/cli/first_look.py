"""A look at a file with cells: which column is the perturbation, which label the control, what could be held out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from transpert._counts import check_counts, check_library_sizes, library_sizes
from transpert.cli._console import read_h5ad
from transpert.conditions.labels import LabelFormat
from transpert.errors import CountsError, OptionError, TranspertError, list_names

# names of columns and labels that public screens use, the most usual first
_COLUMNS = {
    "perturbation_key": "perturbation perturbations target_gene target gene condition treatment drug compound cytokine",
    "context_keys": "cell_type celltype cell_line cell_lines context tissue cell_type_fine",
    "batch_key": "batch plate gemgroup donor replicate bio_rep bio_replicate dataset",
    "dose_key": "dose dose_value dose_val concentration",
    "time_key": "time timepoint time_point hours",
    "library_size_key": "n_counts_total total_counts ncounts n_counts ncount_rna n_umi umi_count total_umis",
}
_CONTROL = re.compile(r"control|ctrl|non[-_ ]?targeting|ntc?|dmso|vehicle|pbs|unstimulated|unstim|untreated|mock", re.I)
_MOST_CONTEXTS = 100


def look(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return values of the settings, and notes on those that were guessed."""
    adata = read_h5ad(path)
    obs = adata.obs
    values: dict[str, Any] = {"data.file": str(path)}
    notes: dict[str, str] = {}
    for role in _COLUMNS:
        column = _column(role, obs, set(map(str, values.values())))
        if column is not None:
            values[f"data.{role}"] = [column] if role == "context_keys" else column
            notes[f"data.{role}"] = "a guess from its name"
    if "data.perturbation_key" not in values:
        raise OptionError(
            f"no column looks like the perturbation; there are {list_names(map(str, obs.columns))}",
            where=f"obs of {path}",
            remedy="Rename the column with the perturbation to 'perturbation'.",
        )
    perturbation = values["data.perturbation_key"]
    values["data.control"] = _control(obs[perturbation].astype(str), path)
    notes["data.control"] = "a guess from its name"
    if "data.context_keys" not in values and "data.batch_key" in values:
        # without cell types, replicates are what an effect can be carried to
        values["data.context_keys"] = [values.pop("data.batch_key")]
        notes["data.context_keys"] = "a guess: no column looks like a cell type"
        notes.pop("data.batch_key")
    _find_counts(adata, path, values, notes)
    _choose_split(obs, values, notes)
    return values, notes


def _column(role: str, obs: pd.DataFrame, taken: set[str]) -> str | None:
    """Find the column of a role by its name."""
    names = {str(column).lower(): str(column) for column in reversed(obs.columns)}
    for name in _COLUMNS[role].split():
        column = names.get(name)
        if column is None or column in taken or obs[column].isna().all():
            continue
        few = obs[column].astype(str).nunique() <= _MOST_CONTEXTS
        if role not in ("context_keys", "batch_key") or few:
            return column
    return None


def _control(labels: pd.Series, path: Path) -> str:
    """Find the label of control cells, the most frequent of those that look like one."""
    counts = labels.value_counts()
    found = [str(label) for label in counts.index if _CONTROL.fullmatch(str(label))]
    found = found or [str(label) for label in counts.index if _CONTROL.match(str(label))]
    if not found:
        raise OptionError(
            f"no label looks like control cells; the most frequent are {list_names(counts.index)}",
            where=f"obs[{labels.name!r}] of {path}",
            remedy="Rename the label of the control cells to 'control'.",
        )
    return found[0]


def _find_counts(adata: ad.AnnData, path: Path, values: dict[str, Any], notes: dict[str, str]) -> None:
    """Find raw counts, and check that the library sizes can be theirs."""
    slots: dict[str | None, Any] = {"counts": adata.layers.get("counts"), None: adata.X}
    slots |= {str(name): matrix for name, matrix in adata.layers.items()}
    for layer, matrix in slots.items():
        try:
            if matrix is not None:
                check_counts(matrix, where=str(layer))
                break
        except CountsError:
            continue
    else:
        raise CountsError(
            "neither X nor a layer holds raw counts", where=str(path), remedy="Write the raw counts into X."
        )
    if layer is not None:
        values["data.layer"] = layer
    key = values.get("data.library_size_key")
    if key is None:
        return
    try:
        total = pd.to_numeric(adata.obs[key], errors="coerce").to_numpy(dtype=np.float64)
        check_library_sizes(total, matrix)
    except TranspertError:
        values.pop("data.library_size_key")
        notes["data.library_size_key"] = f"{key} is no total of the counts"
        return
    if np.allclose(total, library_sizes(matrix)):
        notes["data.library_size_key"] = "the sum over the genes at hand"


def _choose_split(obs: pd.DataFrame, values: dict[str, Any], notes: dict[str, str]) -> None:
    """Hold out the context that others say most about, or perturbations where no other context has them."""
    control = values["data.control"]
    labels = obs[values["data.perturbation_key"]].astype(str)
    is_control = LabelFormat.of(control).control_cells(labels)
    contexts = values.get("data.context_keys")
    if contexts:
        table = pd.crosstab(obs[contexts[0]].astype(str), labels.where(~is_control, control)) > 0
        treated = table.drop(columns=control)
        shared = treated & (treated.sum(axis=0) > 1)
        covered = (shared.sum(axis=1) / treated.sum(axis=1).clip(lower=1)).where(table[control], 0.0)
        if len(table) > 1 and covered.max() > 0.5:
            best = covered[covered == covered.max()].index
            name = str(obs[contexts[0]].astype(str).value_counts().loc[best].idxmax())
            values["split.holdout"] = {contexts[0]: name}
            notes["split.holdout"] = "a guess: the largest context whose perturbations others have too"
            return
    values["split.by"] = "perturbation" if labels[~is_control].nunique() > 1 else "context"
    notes["split.by"] = "a guess: no perturbation was measured in several contexts"
