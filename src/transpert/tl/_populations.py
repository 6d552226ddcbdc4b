"""Populations of an AnnData: which cells belong to which context and perturbation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert import _keys, pp
from transpert.conditions import parse_perturbation
from transpert.errors import ControlError, UnknownNameError
from transpert.groups import Design
from transpert.groups.table import context_labels

__all__ = ["Populations", "design_of", "log_values", "populations", "select_modality"]


def select_modality(data: AnnData | MuData, modality: str | None) -> AnnData:
    """Return an AnnData as it is, or one modality of a MuData."""
    if isinstance(data, AnnData):
        return data
    if modality not in data.mod:
        raise UnknownNameError("modality", [str(modality)], data.mod, where="mdata.mod")
    return data[modality]


def design_of(
    adata: AnnData,
    *,
    perturbation_key: str | None,
    control: str | None,
    context_keys: str | Sequence[str] | None,
) -> Design:
    """Read the design from the arguments, and what they leave open from ``uns`` of a prediction of this package."""
    own = dict(adata.uns.get(_keys.UNS, {}).get("design", {}))
    if context_keys is None:
        context_keys = [str(key) for key in own.get("context_keys", ())]
    keys = (context_keys,) if isinstance(context_keys, str) else tuple(context_keys)
    return Design(
        perturbation_key or own.get("perturbation_key", "perturbation"),
        control or own.get("control", "control"),
        keys,
        dose_key=own.get("dose_key"),
        time_key=own.get("time_key"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Populations:
    """Cells by context and condition.

    Parameters
    ----------
    cells
        Positions of the cells of each (context, condition label), controls left out.
    controls
        Positions of the control cells of each context.
    """

    cells: dict[tuple[str, str], np.ndarray]
    controls: dict[str, np.ndarray]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.cells)


def populations(obs: pd.DataFrame, design: Design, *, need_controls: bool = True) -> Populations:
    """Find the populations of a data set.

    Raises
    ------
    transpert.errors.UnknownNameError
        If a column does not exist.
    transpert.errors.ControlError
        If a context has no control cells although they are needed.
    """
    absent = [column for column in (design.perturbation_key, *design.context_keys) if column not in obs]
    if absent:
        raise UnknownNameError("column", absent, map(str, obs.columns), where="obs")
    frame = pd.DataFrame({"context": context_labels(obs, design), "label": _labels(obs, design)})
    groups = {key: np.asarray(rows) for key, rows in frame.groupby(["context", "label"], sort=True).indices.items()}
    controls = {context: rows for (context, label), rows in groups.items() if not label}
    cells = {key: rows for key, rows in groups.items() if key[1]}
    orphans = sorted({context for context, _ in cells} - set(controls))
    if need_controls and orphans:
        raise ControlError(
            f"{len(orphans)} contexts have no cells labelled {design.control!r}: {', '.join(orphans[:8])}",
            where=f"obs[{design.perturbation_key!r}]",
            remedy="Keep the control cells of every context in the object.",
        )
    return Populations(cells, controls)


def _labels(obs: pd.DataFrame, design: Design) -> np.ndarray:
    """One label a condition, the same however a combination is spelled; empty for controls."""
    written = obs[design.perturbation_key].astype(str)
    spelled = {
        label: _keys.COMBINATION.join(parse_perturbation(label, control=design.control)) for label in set(written)
    }
    labels = written.map(spelled).to_numpy(dtype=object)
    for key, name in ((design.dose_key, "dose"), (design.time_key, "time")):
        if key is None or key not in obs:
            continue
        values = obs[key].to_numpy(dtype=object)
        labels = np.array(
            [
                label if not label or pd.isna(v) else f"{label}, {name} {v}"
                for label, v in zip(labels, values, strict=True)
            ],
            dtype=object,
        )
    return labels


def log_values(adata: AnnData, layer: str | None, *, where: str) -> np.ndarray | sparse.csr_matrix:
    """Return log1p counts per 10k, checked, as float32 (dense, or CSR)."""
    if layer is not None and layer not in adata.layers:
        raise UnknownNameError("layer", [layer], [key for key in adata.layers if key], where=where)
    matrix = adata.X if layer is None else adata.layers[layer]
    pp.check_log1p(matrix, where=f"{where}, {'X' if layer is None else layer}")
    return sparse.csr_matrix(matrix, dtype=np.float32) if sparse.issparse(matrix) else np.asarray(matrix, np.float32)
