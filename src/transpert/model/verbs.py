"""The populations that a trained model predicts, in memory or into a store."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert._arguments import check_arguments, check_pairs, named_options
from transpert._docstrings import fill_docstring
from transpert.conditions import Condition
from transpert.groups.table import context_labels

from .cells.open import Data
from .cells.principal_components import component_arrays
from .prediction.assemble import Population
from .prediction.controls import control_cells, pool_of, pools_of
from .prediction.options import PredictionOptions, StoreOptions
from .prediction.predictor import PredictableModel, Predictor
from .prediction.requests import Asked, Contexts, check_drawing, request_of, require_one_condition
from .prediction.sizes import population_sizes, wanted_sizes
from .prediction.to_store import predict_into_store
from .prediction.unseen import Unseen, check_seen
from .uncertainty.estimates import UncertaintyEstimates
from .uncertainty.intervals import predict_uncertainty, write_uncertainty


def _names_of(options: type) -> list[str]:
    """Return the names of some options."""
    return [spec.name for spec in fields(options)]


class PredictingModel(PredictableModel):
    """A model that predicts populations: the third of the five classes that make a model."""

    uncertainty: UncertaintyEstimates | None = None

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what a trained model must remember: plain data and arrays."""

    @named_options(*_names_of(PredictionOptions))
    def predict(
        self,
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        conditions: pd.DataFrame | None = None,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        adata: Data | str | os.PathLike[str] | None = None,
        n_cells: int | None = None,
        interval: float | None = None,
        progress: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> AnnData:
        """Predict the populations that perturbations would make of control cells.

        Parameters
        ----------
        contexts
            Labels of contexts, ``"B"`` or ``["B", "NK"]`` (of several columns ``"B | donor 1"``); or values by column,
            ``{"cell_type": ["B", "NK"]}``, a list of such, or a DataFrame with a row for each context. Every context by
            default. A context without perturbed training cells is what the model is for; it needs control cells. Those
            of the requested time are moved where there are any, else those of all times.
        perturbations
            Labels; all labels of the data by default.
        conditions
            In their place a table with a row for each population: ``perturbation``, the context columns, and where they
            are wanted ``dose``, ``time``, ``direction`` and ``n_cells``. What a row leaves out has its default.
        doses, times, directions
            Crossed with the perturbations; by default those that each perturbation has in the data.
        adata
            Other data with control cells to move, or a store or its path, with the same columns; genes are aligned by
            name.
        n_cells
            Number of cells of each predicted population; one for each control cell of the context by default, but at
            most 1,000. With fewer, so many control cells are drawn without replacement; with more, every control cell
            is moved equally often, up to one. A test of differential expression has the power of one on so many real
            cells.
        interval
            Also write effects with intervals of this level, as :meth:`get_uncertainty` gives them: ``varm["effect"]``,
            ``varm["effect_lower"]``, ``varm["effect_upper"]``, ``uns["transpert"]["uncertainty"]`` and
            ``obs["ood_score"]``.
        progress
            Show a progress bar.
        seed
            Seed of every draw.
        **options
            Rarely needed.

            readout
                ``"counts"``, ``"expected"`` or ``"added"``; the model's own by default.
            include_controls
                Add the control cells, which the tools of scanpy and pertpy need as a reference; True by default.
            max_missing_genes
                Share of the model's genes that ``adata`` may lack; 0 by default.
            unseen
                ``"mean"`` predicts a perturbation that was not trained on, and has no embedding, as the mean of the
                others, and names it in ``uns["transpert"]["unseen"]``. It is an error by default, ``"error"``.

        Returns
        -------
        AnnData with log1p counts per 10k in ``X``, integer counts in ``layers["counts"]`` (count read-out), both CSR
        (``X`` is dense with the read-out ``"added"``, which leaves no zeros), and in ``obs`` the perturbation, the
        context, ``source`` (predicted or control), ``model`` and ``control_id``. If the training data has the principal
        components of :func:`scanpy.pp.pca` (of log1p counts per 10k), the cells are projected onto them:
        ``obsm["X_pca"]``, with the loadings in ``varm["PCs"]``.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained.
        transpert.errors.UnknownNameError
            If a perturbation, a context or a column is not known; the nearest one is named.
        transpert.errors.ControlError
            If a context has no control cells.
        transpert.errors.OptionError
            If an argument is out of range.

        Examples
        --------
        >>> import transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=30)
        >>> columns = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
        >>> tp.MeanShift.setup_anndata(adata, **columns)
        >>> model = tp.MeanShift(adata)
        >>> model.train()
        >>> pred = model.predict({"context": "context_1"}, "P0", n_cells=10, progress=False)
        >>> pred.obs["source"].value_counts().to_dict()
        {'control': 10, 'predicted': 10}
        """
        check_arguments(locals())
        chosen = PredictionOptions(**options)
        cells, requests = Predictor(self).requested(
            adata,
            Asked(contexts, perturbations, conditions, doses, times, directions),
            max_missing_genes=chosen.max_missing_genes,
            unseen=chosen.unseen,
        )
        n_cells = check_drawing(n_cells, chosen.readout, seed)
        found = None
        if interval is not None:
            found = predict_uncertainty(
                Predictor(self), cells, requests, self.uncertainty, level=interval, n_cells=None, seed=seed
            )
        pred = Predictor(self).predict(
            cells,
            requests,
            n_cells,
            chosen.readout,
            include_controls=chosen.include_controls,
            progress=progress,
            seed=seed,
        )
        if found is not None:
            pools = pools_of(cells, self.design, requests)
            sizes = population_sizes(cells, self.design, pools, wanted_sizes(requests, n_cells))
            write_uncertainty(pred, found, sizes)
        return pred

    @fill_docstring
    def predict_populations(
        self,
        wanted: Sequence[tuple[str, str | Condition]],
        *,
        n_cells: int | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> AnnData:
        """Predict populations by their labels.

        Parameters
        ----------
        wanted
            Context (values of the context columns joined by ``" | "``) and condition of each population, as
            :func:`transpert.tl.evaluate` names them, ``("B", "KLF1+MAP2K6, dose 1")``.
        n_cells
            Number of cells of each, as in :meth:`predict`.
        unseen
            As in :meth:`predict`.
        seed
            Seed of every draw.

        Returns
        -------
        AnnData as from :meth:`predict`.

        %(raises_as_predict)s
        """
        check_arguments(locals())
        self._check_trained()
        n_cells = check_drawing(n_cells, None, seed)
        requests = [
            request_of(self.cells, self.source, self.vocabulary, *population)
            for population in check_pairs(wanted, Condition)
        ]
        self._check_requests(requests)
        check_seen(Predictor(self).unseen(requests), unseen)
        return Predictor(self).predict(
            self.cells, requests, n_cells, None, include_controls=True, progress=False, seed=seed
        )

    @fill_docstring
    def controls_of(
        self, context: str, condition: str | Condition, *, n_cells: int | None = None, seed: int = 0
    ) -> AnnData:
        """Return the control cells that would be moved to predict a population.

        Parameters
        ----------
        context, condition
            Context and condition of the population, as in :meth:`predict_populations`.
        n_cells
            How many are drawn; all by default.
        seed
            Seed of the draw.

        Returns
        -------
        AnnData as from :meth:`predict`, of control cells alone.

        %(raises_as_predict)s
        """
        check_arguments({"n_cells": n_cells, "seed": seed})
        check_pairs([(context, condition)], Condition)
        request = request_of(self.cells, self.source, self.vocabulary, context, condition)
        pool = pool_of(self.cells, self.design, request)
        control = control_cells(self.cells, self.design, pool, n_cells, seed)
        predictor = Predictor(self)
        return predictor.assembled([predictor.controls_as_they_are(control)])

    def predict_to_store(
        self,
        path: str | os.PathLike[str],
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        conditions: pd.DataFrame | None = None,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        adata: Data | str | os.PathLike[str] | None = None,
        n_cells: int | None = None,
        progress: bool = True,
        seed: int = 0,
        **options: Any,
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
        contexts, perturbations, conditions, doses, times, directions, adata, n_cells, progress, seed
            As in :meth:`predict`.
        **options
            Rarely needed: those of :meth:`predict`, and more.

            cells_per_part
                About how many cells are held at a time; fewer by default where there are more genes, 33,000 of 2,000
                genes.
            rank, world_size
                Number of this process and of all processes, if several share the work, on one machine or with one file
                system: all make this call with the same arguments but for ``rank``. The one that finds every part done
                puts them together.

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
        check_arguments(locals())
        self._check_trained()
        chosen = StoreOptions(**options)
        cells, requests = Predictor(self).requested(
            adata,
            Asked(contexts, perturbations, conditions, doses, times, directions),
            max_missing_genes=chosen.max_missing_genes,
            unseen=chosen.unseen,
        )
        return predict_into_store(
            Predictor(self),
            Path(path),
            cells,
            requests,
            state=(*self._state(), component_arrays(self._principal_components)),
            n_cells=check_drawing(n_cells, chosen.readout, seed),
            options=chosen,
            progress=progress,
            seed=seed,
        )

    @fill_docstring
    def counterfactual(
        self,
        adata: AnnData | MuData,
        perturbation: str,
        *,
        dose: float | str | None = None,
        time: float | None = None,
        direction: str | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> tuple[Any, np.ndarray | None]:
        """Move existing cells as if they had been given a perturbation.

        Parameters
        ----------
        adata
            Cells with the columns of the design, of one or several contexts; each is moved as a control cell
            would be. None of them has to be a control.
        perturbation
            The label of the perturbation.
        dose, time, direction
            Its dose, time and direction, where the data has several for it.
        unseen
            As in :meth:`predict`.
        seed
            Seed of the draw.

        Returns
        -------
        Integer counts ``(N, G)`` (CSR), and latent states ``(N, d)`` or ``None``: the cells in the order of ``adata``,
        the genes in that of the model, :attr:`genes`.

        %(raises_as_predict)s
        """
        check_drawing(None, None, seed)
        predictor = Predictor(self)
        cells, requests = predictor.requested(
            adata,
            Asked(None, perturbation, None, dose, time, direction),
            unseen=unseen,
        )
        require_one_condition(requests)
        labels = context_labels(cells.obs, self.design)
        order: list[np.ndarray] = []
        moved: list[Population] = []
        for request in requests:
            positions = np.flatnonzero(labels == request.context)
            order.append(positions)
            moved.append(predictor.model._population(cells[positions], request, "counts", seed=request.seed(seed)))
        back = np.argsort(np.concatenate(order))
        counts = sparse.csr_matrix(sparse.vstack([population.counts for population in moved]))[back]
        latents = [population.latent for population in moved if population.latent is not None]
        latent = np.concatenate(latents)[back] if len(latents) == len(moved) else None
        return counts, latent
