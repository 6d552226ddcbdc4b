"""The steps of every prediction, which predicting in memory, into a store and with intervals share."""

from __future__ import annotations

import dataclasses
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from anndata import AnnData
from rich.progress import Progress

from transpert import _keys
from transpert.data import Store
from transpert.errors import NotTrainedError
from transpert.transport import GroupStatistics

from ..cells.in_memory import Cells, read_cells, repeated
from ..cells.open import Data, StoredCells, check_in_memory, open_cells, open_data
from ..setup import RegisteredModel
from .assemble import Population, SetPrediction, assemble, read_out, text_columns
from .controls import ControlPool, control_positions, pool_of, pools_of
from .requests import Asked, Request, expand_requests
from .sizes import draws_of, population_sizes, shown_draws, wanted_sizes, warn_of_memory
from .unseen import Unseen, check_seen, unseen_parts


class Predictor(RegisteredModel):
    """A model that moves control cells: the second of the five classes that make a model."""

    # what turns a predicted mean into cells; a user's choice overrides it
    _default_readout: str = "counts"
    _ignores_perturbation = False  # whether what it predicts is the same for all, and so defined for any

    @abstractmethod
    def _predict_set(self, control: Cells, request: Request, *, seed: int, each_cell: bool = True) -> SetPrediction:
        """Predict where one population of control cells goes; what is said of each cell may be left out."""

    def _predict_requests(
        self,
        cells: Cells | StoredCells,
        requests: Sequence[Request],
        n_cells: int | None,
        readout: str | None,
        *,
        include_controls: bool,
        progress: bool,
        seed: int,
    ) -> AnnData:
        pools = pools_of(cells, self.design, requests)
        wanted = wanted_sizes(requests, n_cells)
        draws = draws_of(cells, self.design, pools, wanted)
        sizes = population_sizes(cells, self.design, pools, wanted)
        warn_of_memory(cells, sizes, dense=(readout or self._default_readout) == "added")
        shown = shown_draws(draws) if include_controls else []
        controls = {draw: self._controls(cells, *draw, seed) for draw in dict.fromkeys([*draws, *shown])}
        populations: list[Population] = []
        last, moved = None, None
        with Progress(disable=not progress, transient=True) as bar:
            for request, draw, size in bar.track(
                [*zip(requests, draws, wanted, strict=True)], description="Predicting populations"
            ):
                if moved is None or (draw, size) != last:
                    last, moved = (draw, size), repeated(controls[draw], size, seed).uncached()
                populations.append(self._population(moved, request, readout, seed=request.seed(seed)))
        populations += [self._control_population(controls[draw]) for draw in shown]
        as_text = text_columns(cells.obs, requests, self.design)
        return self._assembled(populations, as_text=as_text, unseen=self._unseen(requests))

    def _assembled(self, populations: Sequence[Population], **shared: Any) -> AnnData:
        components, name = self._principal_components, type(self).__name__
        shared["library_size_key"] = self.source.library_column
        return assemble(populations, self.design, model=name, components=components, **shared)

    def _requested(
        self,
        adata: Data | str | os.PathLike[str] | None,
        asked: Asked,
        *,
        max_missing_genes: float | None = None,
        unseen: Unseen = "error",
    ) -> tuple[Cells | StoredCells, list[Request]]:
        """Return the cells to move and what is asked of them, once it is known that the model can answer."""
        self._check_trained()
        cells = self.cells if adata is None else self._other_cells(open_data(adata), max_missing_genes)
        requests = expand_requests(cells, self.source, self.vocabulary, asked, self._check_requests)
        check_seen(self._unseen(requests), unseen)
        return cells, requests

    def _other_cells(self, adata: Data, max_missing: float | None = None) -> Cells | StoredCells:
        # a split says what to train on; other data is only predicted for
        source = dataclasses.replace(self.source, design=dataclasses.replace(self.design, split_key=None))
        if isinstance(adata, Store):
            return open_cells(adata, source, genes=self.genes, need_controls=False)
        check_in_memory(adata, "adata=")
        return read_cells(adata, source, genes=self.genes, max_missing=max_missing, need_controls=False)

    def _check_trained(self) -> None:
        if not self.is_trained_:
            raise NotTrainedError(f"this {type(self).__name__} is not trained", remedy="Call train() first.")

    def _check_requests(self, requests: Sequence[Request]) -> None:
        """Raise for conditions the model cannot predict; perturbations must be known by default."""
        self.vocabulary.require(request.label for request in requests)

    def _unseen(self, requests: Sequence[Request]) -> list[str]:
        """Return the perturbations that would be predicted as the mean of the others."""
        trained = None if self._ignores_perturbation else self._trained_parts
        anchor = getattr(self, "anchor", None)
        if trained is not None and anchor is not None:
            trained |= anchor.known_from_evidence()
        return unseen_parts(requests, trained, getattr(self, "embedding", None))

    def _controls(self, cells: Cells | StoredCells, pool: ControlPool, n_cells: int | None, seed: int) -> Cells:
        """Read the control cells of a context at a time, or at all, at most so many of them."""
        return cells[control_positions(cells, self.design, pool, n_cells, seed)]

    def _with_controls(
        self, cells: Cells | StoredCells, requests: Sequence[Request], seed: int
    ) -> Iterator[tuple[Request, Cells, GroupStatistics]]:
        """Yield every request with the controls it moves, which are read once for requests that follow each other."""
        for pool, asked in groupby(requests, key=lambda request: pool_of(cells, self.design, request)):
            control = self._controls(cells, pool, None, seed)
            statistics = control.as_one_group()
            for request in asked:
                yield request, control, statistics

    def _population(self, control: Cells, request: Request, readout: str | None, *, seed: int) -> Population:
        kind: Any = readout or self._default_readout
        prediction = self._predict_set(control, request, seed=seed, each_cell=kind != "added")
        values, counts = read_out(
            control,
            prediction,
            kind=kind,
            options=self.readout_options,
            dispersion=self._dispersion,
            seed=seed,
        )
        return Population(values, counts, control.uncached(), _keys.PREDICTED, request, prediction.latent)

    def _control_population(self, control: Cells) -> Population:
        return Population(None, control.counts, control.uncached(), _keys.CONTROL, latent=self._latent_of(control))

    def _latent_of(self, cells: Cells) -> np.ndarray | None:
        """Latent states of cells as they are, for models that have a latent space."""
        return None

    def _component_arrays(self) -> dict[str, np.ndarray]:
        return {} if self._principal_components is None else dataclasses.asdict(self._principal_components)
