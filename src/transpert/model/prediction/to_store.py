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
from .controls import control_cells, pools_of
from .options import StoreOptions
from .parts import PredictionParts, digest_of
from .predictor import Predictor
from .requests import Request
from .sizes import draws_of, population_sizes, shown_draws, wanted_sizes

# values, zeros and all, of the cells that are predicted and held before they are written
_VALUES_PER_PART = 1 << 26


def predict_into_store(
    predictor: Predictor,
    path: Path,
    cells: Cells | StoredCells,
    requests: Sequence[Request],
    *,
    state: tuple[Any, ...],
    n_cells: int | None,
    options: StoreOptions,
    progress: bool,
    seed: int,
) -> Path | None:
    """Predict populations part after part; ``state`` is what the model remembers, by which its parts are known."""
    design = predictor.model.design
    cells_per_part = options.cells_per_part or max(_VALUES_PER_PART // len(cells.genes), 1)
    pools = pools_of(cells, design, requests)
    wanted = wanted_sizes(requests, n_cells)
    draws = draws_of(cells, design, pools, wanted)
    sizes = population_sizes(cells, design, pools, wanted)
    blocks = _blocks([*zip(draws, wanted, strict=True)], sizes, cells_per_part)
    controls = shown_draws(draws) if options.include_controls else []
    as_text = text_columns(cells.obs, requests, design)
    said: dict[str, Any] = {"as_text": as_text, "unseen": predictor.unseen(requests)}
    plan = {
        "model": digest_of(*state, _weights(predictor)),
        "requests": digest_of(
            [[r.context, str(r.condition), r.label, str(r.written["dose"]), r.n_cells] for r in requests]
        ),
        "cells": _identity(cells, design),
        "columns of text": sorted(as_text),
        "n_cells": n_cells,
        "readout": options.readout or predictor.model._default_readout,
        "include_controls": options.include_controls,
        "cells_per_part": cells_per_part,
        "seed": seed,
    }
    parts = PredictionParts(path, plan, len(blocks) + len(controls), rank=options.rank)
    with parts.held():
        own = parts.to_do(options.world_size)
        with Progress(disable=not progress, transient=True) as bar:
            for number in bar.track(own, description="Predicting parts"):
                if number < len(blocks):
                    block = blocks[number]
                    control = repeated(control_cells(cells, design, *draws[block[0]], seed), wanted[block[0]], seed)
                    asked = [requests[row] for row in block]
                    populations = _predicted_part(predictor, control, asked, options.readout, seed)
                    made = predictor.assembled(populations, first=block[0], **said)
                else:
                    control = control_cells(cells, design, *controls[number - len(blocks)], seed)
                    made = predictor.assembled([predictor.controls_as_they_are(control)], **said)
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


def _blocks(moved: Sequence[object], sizes: Sequence[int], cells_per_part: int) -> list[range]:
    """Divide the requests into blocks that move the same cells, of about ``cells_per_part`` each."""
    blocks: list[range] = []
    start = 0
    for number, what in enumerate(moved):
        at_most = max(1, cells_per_part // sizes[start])
        if what != moved[start] or number - start == at_most:
            blocks.append(range(start, number))
            start = number
    return [*blocks, range(start, len(moved))]


def _predicted_part(
    predictor: Predictor, control: Cells, requests: Sequence[Request], readout: str | None, seed: int
) -> list[Population]:
    moved = control.uncached()
    return [predictor.model._population(moved, request, readout, seed=request.seed(seed)) for request in requests]


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
    return {name: value.detach().cpu().numpy() for name, value in predictor.model.module.state_dict().items()}
