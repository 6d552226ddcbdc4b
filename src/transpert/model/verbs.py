"""What a trained model answers: populations, effects, intervals, in memory or into a store."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert._anndata import writable_name
from transpert._arguments import check_arguments, check_pairs, named_options
from transpert.conditions import Condition
from transpert.errors import OptionError
from transpert.groups.table import context_labels
from transpert.transport import log_fold_of_means

from .cells.in_memory import Cells
from .cells.open import Data
from .prediction.assemble import Population
from .prediction.controls import origin_of, origins_of
from .prediction.predictor import Predictor
from .prediction.requests import Contexts, check_drawing, request_of, require_one_condition
from .prediction.sizes import population_sizes
from .prediction.to_store import VALUES_PER_PART, predict_into_store
from .prediction.unseen import Unseen, check_seen
from .uncertainty.estimates import UncertaintyEstimates
from .uncertainty.intervals import Uncertainty, predict_uncertainty, write_uncertainty


class PredictingModel(Predictor):
    """A model that answers: the third of the four classes that make a model."""

    uncertainty: UncertaintyEstimates | None = None

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what a trained model must remember: plain data and arrays."""

    @named_options()
    def predict(
        self,
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
        max_missing_genes: float = 0.0,
        interval: float | None = None,
        progress: bool = True,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> AnnData:
        """Predict the populations that perturbations would make of control cells.

        Parameters
        ----------
        contexts
            Values of the context columns, for example ``{"cell_type": "B"}`` or ``{"cell_type": ["B", "NK"]}``, a
            list of such, or a DataFrame with a row for each context. Every context by default. A context without
            perturbed training cells is what the model is for; it needs control cells. Those of the time asked for are
            moved where there are any, else those of all times.
        perturbations
            Labels; all labels of the data by default.
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
        readout
            ``"counts"``, ``"expected"`` or ``"added"``; the model's own by default.
        include_controls
            Add the control cells, which the tools of scanpy and pertpy need as a reference.
        max_missing_genes
            Share of the model's genes that ``adata`` may lack.
        interval
            Also write effects with intervals of this level, as :meth:`get_uncertainty` gives them: ``varm["effect"]``,
            ``varm["effect_lower"]``, ``varm["effect_upper"]``, ``uns["transpert"]["uncertainty"]`` and
            ``obs["ood_score"]``.
        unseen
            ``"mean"`` predicts a perturbation that was not trained on, and has no embedding, as the mean of the others,
            and names it in ``uns["transpert"]["unseen"]``. It is an error by default.
        progress
            Show a progress bar.
        seed
            Seed of every draw.

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
            If an argument has a value it cannot have.

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
        cells, requests = self._requested(
            adata,
            contexts=contexts,
            perturbations=perturbations,
            doses=doses,
            times=times,
            directions=directions,
            max_missing_genes=max_missing_genes,
            unseen=unseen,
        )
        n_cells = check_drawing(n_cells, readout, seed)
        found = None
        if interval is not None:
            found = predict_uncertainty(
                self, cells, requests, self.uncertainty, level=interval, n_cells=None, seed=seed
            )
        pred = self._predict_requests(
            cells, requests, n_cells, readout, include_controls=include_controls, progress=progress, seed=seed
        )
        if found is not None:
            sizes = population_sizes(cells, self.design, origins_of(cells, self.design, requests), n_cells)
            write_uncertainty(pred, found, sizes)
        return pred

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

        Raises
        ------
        transpert.errors.TranspertError
            As :meth:`predict`.
        """
        check_arguments(locals())
        self._check_trained()
        n_cells = check_drawing(n_cells, None, seed)
        requests = [
            request_of(self.cells, self.source, self.vocabulary, *population)
            for population in check_pairs(wanted, Condition)
        ]
        self._check_requests(requests)
        check_seen(self._unseen(requests), unseen)
        return self._predict_requests(
            self.cells, requests, n_cells, None, include_controls=True, progress=False, seed=seed
        )

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

        Raises
        ------
        transpert.errors.TranspertError
            As :meth:`predict`.
        """
        check_arguments({"n_cells": n_cells, "seed": seed})
        check_pairs([(context, condition)], Condition)
        request = request_of(self.cells, self.source, self.vocabulary, context, condition)
        control = self._controls(self.cells, origin_of(self.cells, self.design, request), n_cells, seed)
        return self._assembled([self._control_population(control)])

    def predict_to_store(
        self,
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
        cells_per_part: int | None = None,
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
        contexts, perturbations, doses, times, directions, adata, n_cells, readout, include_controls, unseen, seed
            As in :meth:`predict`.
        cells_per_part
            About how many cells are held at a time; fewer by default where there are more genes, 33,000 of 2,000 genes.
        rank, world_size
            Number of this process and of all processes, if several share the work, on one machine or with one file
            system: all make this call with the same arguments but for ``rank``. The one that finds every part done
            puts them together.
        progress
            Show a progress bar.

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
        if cells_per_part is None:
            cells_per_part = max(VALUES_PER_PART // len(self.genes), 1)
        if rank >= world_size:
            raise OptionError(
                f"rank is {rank} of {world_size}",
                where="predict_to_store",
                remedy="Count processes from 0 to one less than world_size.",
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
        return predict_into_store(
            self,
            Path(path),
            cells,
            requests,
            state=(*self._state(), self._component_arrays()),
            n_cells=check_drawing(n_cells, readout, seed),
            readout=readout,
            include_controls=include_controls,
            cells_per_part=cells_per_part,
            rank=rank,
            world_size=world_size,
            progress=progress,
            seed=seed,
        )

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

        Raises
        ------
        transpert.errors.TranspertError
            As :meth:`predict`.
        """
        check_drawing(None, None, seed)
        cells, requests = self._requested(
            adata,
            contexts=None,
            perturbations=perturbation,
            doses=dose,
            times=time,
            directions=direction,
            unseen=unseen,
        )
        require_one_condition(requests)
        labels = context_labels(cells.obs, self.design)
        order: list[np.ndarray] = []
        moved: list[Population] = []
        for request in requests:
            positions = np.flatnonzero(labels == request.context)
            order.append(positions)
            moved.append(self._population(cells[positions], request, "counts", seed=request.seed(seed)))
        back = np.argsort(np.concatenate(order))
        counts = sparse.csr_matrix(sparse.vstack([population.counts for population in moved]))[back]
        latents = [population.latent for population in moved if population.latent is not None]
        latent = np.concatenate(latents)[back] if len(latents) == len(moved) else None
        return counts, latent

    def get_effects(
        self,
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        adata: Data | None = None,
        key_added: str | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> pd.DataFrame:
        """Predict log fold changes, without drawing cells.

        Parameters
        ----------
        contexts, perturbations, doses, times, directions, adata, unseen, seed
            As in :meth:`predict`.
        key_added
            Also write the table to ``varm[key_added]`` of the data of the model, an AnnData; ``/``, which no file can
            hold in a name, becomes another slash there.

        Returns
        -------
        Genes x populations: natural-log fold changes of the mean counts per 10k implied by the predicted mean log1p,
        ``log(expm1(predicted) + 0.05) - log(expm1(control) + 0.05)``.

        Raises
        ------
        transpert.errors.TranspertError
            As :meth:`predict`.

        Examples
        --------
        >>> import transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
        >>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
        >>> tp.KernelTransport.setup_anndata(adata, **keys)
        >>> model = tp.KernelTransport(adata)
        >>> model.train()
        >>> model.get_effects({"context": "context_0"}, "P0").shape
        (20, 1)
        """
        check_arguments(locals())
        if key_added is not None and not (isinstance(self._cells, Cells) and isinstance(self.adata, AnnData)):
            raise OptionError(
                "the model has no AnnData to write into",
                where="key_added",
                remedy="Leave it out, and put the table that is returned where you want it.",
            )
        check_drawing(None, None, seed)
        cells, requests = self._requested(
            adata,
            contexts=contexts,
            perturbations=perturbations,
            doses=doses,
            times=times,
            directions=directions,
            unseen=unseen,
        )
        columns = {}
        for request, control, statistics in self._with_controls(cells, requests, seed):
            before = statistics.mean_log[0]
            after = self._predict_set(control, request, seed=seed, each_cell=False).mean_log
            columns[request.text] = log_fold_of_means(after, before)
        table = pd.DataFrame(columns, index=pd.Index(self.genes.astype(str)), dtype=np.float32)
        if key_added is not None:
            self.adata.varm[key_added] = table.reindex(self.adata.var_names.astype(str)).rename(columns=writable_name)
        return table

    def get_uncertainty(
        self,
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        level: float = 0.9,
        n_cells: int | None = None,
        adata: Data | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> Uncertainty:
        """Predict effects with intervals, and say how far each condition is from what was trained on.

        While training, the model predicts groups that it has not seen: with their context, their perturbation, their
        combination, their dose or just their pair left out. How far it is off, gene by gene and less the sampling
        error of what it is compared with, gives the interval in each of these situations.

        Parameters
        ----------
        contexts, perturbations, doses, times, directions, adata, unseen, seed
            As in :meth:`predict`.
        level
            Share of effects that an interval is to contain.
        n_cells
            Cells in which the effect is measured, whose sampling error then belongs to the interval; by default the
            interval is for the effect in the whole population.

        Returns
        -------
        Effects and bounds as genes x populations, natural-log fold changes; and for every population what is new
        about it and its distances from the training data. A distance of 1 is that between neighbours in the
        training data; it is infinite for a perturbation without a vector.

        Warns
        -----
        transpert.errors.AssumptionWarning
            If the training data could not imitate what is new: too few contexts, doses or combinations.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained, or has no left-out predictions to learn from.
        transpert.errors.TranspertError
            As :meth:`predict`.

        Examples
        --------
        >>> import transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
        >>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
        >>> tp.KernelTransport.setup_anndata(adata, **keys)
        >>> model = tp.KernelTransport(adata)
        >>> model.train()
        >>> found = model.get_uncertainty({"context": "context_0"}, ["P0", "P1"], level=0.8)
        >>> bool((found.lower <= found.upper).all(axis=None)), found.conditions["situation"].tolist()
        (True, ['seen', 'seen'])
        """
        check_arguments(locals())
        check_drawing(None, None, seed)
        cells, requests = self._requested(
            adata,
            contexts=contexts,
            perturbations=perturbations,
            doses=doses,
            times=times,
            directions=directions,
            unseen=unseen,
        )
        return predict_uncertainty(self, cells, requests, self.uncertainty, level=level, n_cells=n_cells, seed=seed)
