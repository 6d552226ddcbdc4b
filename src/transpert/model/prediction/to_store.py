"""Predict more cells than fit into memory: part after part, each written when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.progress import Progress
from scipy import sparse

from transpert import _keys
from transpert._anndata import frame
from transpert.groups import Design

from ..cells.in_memory import Cells, repeated
from ..cells.open import StoredCells
from .assemble import Population, text_columns
from .controls import Origin, origins_of, shown_controls
from .parts import PredictionParts, digest_of
from .predictor import Predictor
from .requests import Request
from .sizes import most_cells, population_sizes

# values, zeros and all, of the cells that are predicted and held before they are written
VALUES_PER_PART = 1 << 26


def predict_into_store(
    predictor: Predictor,
    path: Path,
    cells: Cells | StoredCells,
    requests: Sequence[Request],
    *,
    state: tuple[Any, ...],
    n_cells: int | None,
    readout: str | None,
    include_controls: bool,
    cells_per_part: int,
    rank: int,
    world_size: int,
    progress: bool,
    seed: int,
) -> Path | None:
    """Predict populations part after part; ``state`` is what the model remembers, by which its parts are known."""
    design = predictor.design
    origins = origins_of(cells, design, requests)
    n_controls = most_cells(cells, design, origins, n_cells)
    blocks = _blocks(origins, population_sizes(cells, design, origins, n_cells), cells_per_part)
    controls = shown_controls(origins) if include_controls else []
    as_text = text_columns(cells.obs, requests, design)
    said: dict[str, Any] = {"as_text": as_text, "unseen": predictor._unseen(requests)}
    plan = {
        "model": digest_of(*state, _weights(predictor)),
        "requests": digest_of([[r.context, str(r.condition), r.label, str(r.dose)] for r in requests]),
        "cells": _identity(cells, design),
        "columns of text": sorted(as_text),
        "n_cells": n_cells,
        "n_controls": n_controls,
        "readout": readout or predictor._default_readout,
        "include_controls": include_controls,
        "cells_per_part": cells_per_part,
        "seed": seed,
    }
    parts = PredictionParts(path, plan, len(blocks) + len(controls), rank=rank)
    with parts.held():
        own = parts.to_do(world_size)
        with Progress(disable=not progress, transient=True) as bar:
            for number in bar.track(own, description="Predicting parts"):
                if number < len(blocks):
                    block = blocks[number]
                    control = predictor._controls(cells, origins[block[0]], n_controls, seed)
                    populations = _predicted_part(predictor, control, requests, block, n_cells, readout, seed)
                    made = predictor._assembled(populations, first=block[0], **said)
                else:
                    control = predictor._controls(cells, controls[number - len(blocks)], n_controls, seed)
                    made = predictor._assembled([predictor._control_population(control)], **said)
                parts.write(number, _as_stored(made, design.columns))
        return None if parts.missing else parts.finish()


def _identity(cells: Cells | StoredCells, design: Design) -> str:
    """A checksum of the cells that are moved: names, labels, genes and counts of the controls."""
    controls = np.flatnonzero(design.control_cells(cells.obs))
    known: dict[str, Any] = {
        "library_size": np.asarray(cells.library_size)[controls],
        "labels": pd.util.hash_pandas_object(cells.obs.iloc[controls]).to_numpy(),
    }
    if isinstance(cells, StoredCells):  # whose counts are not read for this
        return digest_of(cells.store.fingerprint, list(cells.genes), known)
    counts = cells.counts[controls]
    known |= {"indptr": counts.indptr, "indices": counts.indices, "data": counts.data}
    if cells.embedding is not None:
        known["embedding"] = cells.embedding[controls]
    return digest_of(list(cells.genes), known)


def _blocks(origins: Sequence[Origin], sizes: Sequence[int], cells_per_part: int) -> list[range]:
    """Divide the requests into runs that move the same cells, and of about so many of them."""
    blocks: list[range] = []
    start = 0
    for number, origin in enumerate(origins):
        at_most = max(1, cells_per_part // sizes[start])
        if origin != origins[start] or number - start == at_most:
            blocks.append(range(start, number))
            start = number
    return [*blocks, range(start, len(origins))]


def _predicted_part(
    predictor: Predictor,
    control: Cells,
    requests: Sequence[Request],
    numbers: range,
    n_cells: int | None,
    readout: str | None,
    seed: int,
) -> list[Population]:
    moved = repeated(control, n_cells, seed).anew()
    return [
        predictor._population(moved, requests[number], readout, seed=requests[number].seed(seed)) for number in numbers
    ]


def _as_stored(cells: AnnData, columns: Sequence[str]) -> AnnData:
    """The same cells with sparse values, and with types of columns that do not differ from part to part."""
    obs = frame(cells.obs).copy()
    for column in columns:
        if column in obs and obs[column].dtype.kind not in "fiub":
            obs[column] = obs[column].map(str, na_action="ignore").astype("category")
    obs[_keys.CONTROL_ID] = obs[_keys.CONTROL_ID].astype("category")
    layers = {name: sparse.csr_matrix(values) for name, values in cells.layers.items() if name is not None}
    obsm: dict[str, Any] = dict(cells.obsm)
    varm: dict[str, Any] = dict(cells.varm)
    return AnnData(
        sparse.csr_matrix(cells.X),
        obs=obs,
        var=frame(cells.var),
        layers=layers,
        obsm=obsm,
        varm=varm,
        uns=dict(cells.uns),
    )


def _weights(predictor: Predictor) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in predictor.module.state_dict().items()}
