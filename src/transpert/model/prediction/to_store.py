"""Predict more cells than fit into memory: part after part, each written when it is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.progress import Progress
from scipy import sparse

from transpert import _keys
from transpert._anndata import frame
from transpert.errors import OptionError
from transpert.groups import Design

from ..cells.in_memory import Cells, repeated
from ..cells.open import Data, StoredCells
from .assemble import Population, text_columns
from .controls import Origin, origins_of, population_sizes, shown_controls
from .parts import PredictionParts, digest_of
from .requests import Contexts, Request, check_drawing

if TYPE_CHECKING:
    from ..base import PerturbationModel


# cells that are predicted and held before they are written
_CELLS_PER_PART = 32_768


class StreamedPrediction:
    """The part of a model that predicts straight into a store."""

    def predict_to_store(  # type: ignore[misc]
        self: PerturbationModel,
        path: str | os.PathLike[str],
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        adata: Data | str | os.PathLike[str] | None = None,
        n_cells: int | None = None,
        readout: str | None = None,
        include_controls: bool = True,
        cells_per_part: int = _CELLS_PER_PART,
        rank: int = 0,
        world_size: int = 1,
        progress: bool = True,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> Path | None:
        """Predict populations into a zarr store, without holding them.

        The result is an AnnData with the cells that :meth:`predict` would return, its values as CSR. The populations
        are predicted in parts; a part that is written is not computed again unless it is damaged, so that the same
        call goes on where it was interrupted, and gives what an uninterrupted one would have given.

        Parameters
        ----------
        path
            The store to make, which :func:`anndata.read_zarr` reads. Until it is complete there is a folder
            ``<path>.partial``; while it is put together both together take twice its size.
        contexts, perturbations, doses, times, directions, adata, n_cells, readout, include_controls, seed
            As in :meth:`predict`.
        cells_per_part
            About how many cells are held at a time.
        rank, world_size
            Number of this process and of all processes, if several share the work, on one machine or with one file
            system: all make this call with the same arguments but for ``rank``. The one that finds every part done
            puts them together.
        progress
            Show a progress bar.
        unseen
            As in :meth:`predict`.

        Returns
        -------
        The store, or ``None`` while other processes still have parts to do, or put them together.

        Raises
        ------
        transpert.errors.StoreError
            If ``path`` exists, the disk is full, an unfinished prediction of something else is in the way, or a part
            of another process is damaged.
        transpert.errors.TranspertError
            As :meth:`predict`.

        Examples
        --------
        >>> import tempfile, anndata, transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=30)
        >>> keys = {"perturbation_key": "perturbation", "context_keys": "context"}
        >>> tp.RidgeTransport.setup_anndata(adata, layer="counts", **keys)
        >>> model = tp.RidgeTransport(adata)
        >>> model.train()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = model.predict_to_store(f"{folder}/pred.zarr", n_cells=10, progress=False)
        ...     anndata.read_zarr(path).shape
        (60, 20)
        """
        self._check_trained()
        if cells_per_part < 1 or not 0 <= rank < world_size:
            raise OptionError(
                f"cells_per_part is {cells_per_part}, rank {rank} of {world_size}", where="predict_to_store"
            )
        cells, requests = self._requested(
            adata,
            contexts=contexts,
            perturbations=perturbations,
            doses=doses,
            times=times,
            directions=directions,
            unseen=unseen,
        )
        n_cells = check_drawing(n_cells, readout, seed)
        origins = origins_of(cells, self.design, requests)
        blocks = _blocks(origins, population_sizes(cells, self.design, origins, n_cells), cells_per_part)
        controls = shown_controls(origins) if include_controls else []
        as_text = text_columns(cells.obs, requests, self.design)
        plan = {
            "model": digest_of(*self._state(), _weights(self), self._component_arrays()),
            "requests": digest_of([[r.context, str(r.condition), r.label, str(r.dose)] for r in requests]),
            "cells": _identity(cells, self.design),
            "columns of text": sorted(as_text),
            "n_cells": n_cells,
            "readout": readout or self._default_readout,
            "include_controls": include_controls,
            "cells_per_part": cells_per_part,
            "seed": seed,
        }
        parts = PredictionParts(Path(path), plan, len(blocks) + len(controls), rank=rank)
        with parts.held():
            own = parts.to_do(world_size)
            with Progress(disable=not progress, transient=True) as bar:
                for number in bar.track(own, description="Predicting parts"):
                    if number < len(blocks):
                        block = blocks[number]
                        control = self._controls(cells, origins[block[0]], n_cells, seed)
                        populations = _predicted_part(self, control, requests, block, n_cells, readout, seed)
                        made = self._assembled(populations, first=block[0], as_text=as_text)
                    else:
                        control = self._controls(cells, controls[number - len(blocks)], n_cells, seed)
                        made = self._assembled([self._control_population(control)], as_text=as_text)
                    parts.write(number, _as_stored(made, self.design.columns))
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
    model: PerturbationModel,
    control: Cells,
    requests: Sequence[Request],
    numbers: range,
    n_cells: int | None,
    readout: str | None,
    seed: int,
) -> list[Population]:
    moved = repeated(control, n_cells, seed).anew()
    return [model._population(moved, requests[number], readout, seed=requests[number].seed(seed)) for number in numbers]


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


def _weights(model: Any) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in model.module.state_dict().items()}
