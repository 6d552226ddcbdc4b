"""The steps of every prediction, which predicting in memory, into a store and with intervals share."""

from __future__ import annotations

import dataclasses
import os
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from anndata import AnnData
from rich.progress import Progress

from transpert import _keys
from transpert.conditions import Condition
from transpert.data import Store
from transpert.errors import NotTrainedError
from transpert.transport import GroupStatistics

from ..cells.in_memory import Cells, read_cells, repeated
from ..cells.open import Data, StoredCells, check_in_memory, open_cells, open_data
from ..setup import RegisteredModel
from .assemble import Population, SetPrediction, assemble, read_out, text_columns
from .controls import control_cells, pool_of, pools_of
from .requests import Asked, Request, expand_requests, request_of
from .sizes import draws_of, population_sizes, shown_draws, wanted_sizes, warn_of_memory
from .unseen import Unseen, check_seen, unseen_parts


class PredictableModel(RegisteredModel):
    """A model that moves control cells: the second of the five classes that make a model."""

    # what turns a predicted mean into cells; a user's choice overrides it
    _default_readout: str = "counts"
    _ignores_perturbation = False  # whether what it predicts is the same for all, and so defined for any

    @abstractmethod
    def _predict_set(self, control: Cells, request: Request, *, seed: int, each_cell: bool = True) -> SetPrediction:
        """Predict where one population of control cells goes; the shift of each cell may be left out."""

    def _predict_means(self, control: Cells, requests: Sequence[Request], *, seed: int) -> Iterator[np.ndarray]:
        """Predict the mean log1p of the same control cells, ``(G,)``, for one request after the other."""
        for request in requests:
            yield self._predict_set(control, request, seed=seed, each_cell=False).mean_log

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

    def _population(self, control: Cells, request: Request, readout: str | None, *, seed: int) -> Population:
        """Predict the cells of one population from its control cells."""
        kind: Any = readout or self._default_readout
        prediction = self._predict_set(control, request, seed=seed, each_cell=kind != "added")
        values, counts = read_out(
            control, prediction, kind=kind, options=self.readout_options, dispersion=self._dispersion, seed=seed
        )
        return Population(values, counts, control.uncached(), _keys.PREDICTED, request, prediction.latent)

    def _latent_of(self, cells: Cells) -> np.ndarray | None:
        """Latent states of cells as they are, for models that have a latent space."""
        return None


@dataclass(frozen=True, slots=True)
class Predictor:
    """The steps of a prediction by a model."""

    model: PredictableModel

    def requested(
        self,
        adata: Data | str | os.PathLike[str] | None,
        asked: Asked,
        *,
        max_missing_genes: float | None = None,
        unseen: Unseen = "error",
    ) -> tuple[Cells | StoredCells, list[Request]]:
        """Return the cells to move and the requests, once it is known that the model can predict them."""
        model = self.model
        model._check_trained()
        cells = model.cells if adata is None else model._other_cells(open_data(adata), max_missing_genes)
        requests = expand_requests(cells, model.source, model.vocabulary, asked, model._check_requests)
        check_seen(self.unseen(requests), unseen)
        return cells, requests

    def unseen(self, requests: Sequence[Request]) -> list[str]:
        """Return the perturbations that would be predicted as the mean of the others."""
        trained = None if self.model._ignores_perturbation else self.model._trained_parts
        anchor = getattr(self.model, "anchor", None)
        if trained is not None and anchor is not None:
            trained |= anchor.known_from_evidence()
        return unseen_parts(requests, trained, getattr(self.model, "embedding", None))

    def predict(
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
        """Predict all that is requested, in memory."""
        design = self.model.design
        pools = pools_of(cells, design, requests)
        wanted = wanted_sizes(requests, n_cells)
        draws = draws_of(cells, design, pools, wanted)
        sizes = population_sizes(cells, design, pools, wanted)
        warn_of_memory(cells, sizes, dense=(readout or self.model._default_readout) == "added")
        shown = shown_draws(draws) if include_controls else []
        controls = {draw: control_cells(cells, design, *draw, seed) for draw in dict.fromkeys([*draws, *shown])}
        populations: list[Population] = []
        last, moved = None, None
        with Progress(disable=not progress, transient=True) as bar:
            for request, draw, size in bar.track(
                [*zip(requests, draws, wanted, strict=True)], description="Predicting populations"
            ):
                if moved is None or (draw, size) != last:
                    last, moved = (draw, size), repeated(controls[draw], size, seed).uncached()
                populations.append(self.model._population(moved, request, readout, seed=request.seed(seed)))
        populations += [self.controls_as_they_are(controls[draw]) for draw in shown]
        as_text = text_columns(cells.obs, requests, design)
        return self.assembled(populations, as_text=as_text, unseen=self.unseen(requests))

    def population(
        self,
        context: str,
        condition: str | Condition,
        *,
        n_cells: int,
        unseen: Unseen,
        seed: int,
        drawn: dict[Hashable, Cells],
    ) -> Population:
        """Predict one population of the model's own cells.

        What it moves is left in ``drawn``, where another model of the same cells finds it, and what was made of it.
        """
        model = self.model
        request = request_of(model.cells, model.source, model.vocabulary, context, condition)
        model._check_requests([request])
        check_seen(self.unseen([request]), unseen)
        draw = pool_of(model.cells, model.design, request), n_cells
        if (*draw, seed) not in drawn:
            drawn.clear()
            drawn[*draw, seed] = repeated(control_cells(model.cells, model.design, *draw, seed), n_cells, seed)
        return model._population(drawn[*draw, seed], request, None, seed=request.seed(seed))

    def means(
        self, cells: Cells | StoredCells, requests: Sequence[Request], seed: int
    ) -> Iterator[tuple[Request, GroupStatistics, np.ndarray, np.ndarray]]:
        """Yield every request with the statistics of its controls, and their mean log1p before and after, ``(G,)``."""
        design = self.model.design
        for pool, asked in groupby(requests, key=lambda request: pool_of(cells, design, request)):
            control = control_cells(cells, design, pool, None, seed)  # read once for requests that follow each other
            statistics = control.as_one_group()
            of_pool = [*asked]
            means = self.model._predict_means(control, of_pool, seed=seed)
            for request, after in zip(of_pool, means, strict=True):
                yield request, statistics, statistics.mean_log[0], after

    def controls_as_they_are(self, control: Cells) -> Population:
        """Return control cells as a population beside the predicted ones."""
        latent = self.model._latent_of(control)
        return Population(None, control.counts, control.uncached(), _keys.CONTROL, latent=latent)

    def assembled(self, populations: Sequence[Population], **shared: Any) -> AnnData:
        """Put populations together into one AnnData."""
        model = self.model
        shared["library_size_key"] = model.source.library_column
        name, components = type(model).__name__, model._principal_components
        return assemble(populations, model.design, model=name, components=components, **shared)
