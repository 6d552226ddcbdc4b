"""The one interface of all models: ``setup_anndata``, ``train``, ``predict``, ``save``, ``load``."""

from __future__ import annotations

import dataclasses
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, Self, override

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from rich.progress import Progress
from scvi.model.base import BaseModelClass

from transpert import _keys
from transpert._anndata import modality_of
from transpert._compat import SETUP_ARGS_KEY, SETUP_METHOD_NAME
from transpert.conditions import Condition, PerturbationVocabulary
from transpert.conditions.labels import Controls, control_labels
from transpert.conditions.written import label_texts
from transpert.data import Store
from transpert.errors import ControlError, ModelFileError, NotTrainedError, OptionError, TranspertError
from transpert.groups import ControlMatching, Design, Groups, make_groups, match_controls
from transpert.groups.table import distinct_conditions
from transpert.transport import (
    GroupEffects,
    ReadoutOptions,
    effects_from_statistics,
    estimate_dispersion,
    rows_of_groups,
)

from .cells.in_memory import LIBRARY_FROM, Cells, read_cells, repeated
from .cells.open import Data, StoredCells, StoreInput, check_in_memory, check_loaded, open_cells, open_data
from .cells.registration import jsonable, registered, restore, source_of
from .counterfactual import Counterfactuals
from .prediction.assemble import Population, SetPrediction, assemble, read_out, text_columns
from .prediction.controls import Origin, control_positions, origins_of, population_sizes, shown_controls
from .prediction.principal_components import PrincipalComponents, read_principal_components
from .prediction.requests import (
    Contexts,
    Request,
    Unseen,
    check_drawing,
    check_seen,
    expand_requests,
    request_of,
)
from .prediction.to_store import StreamedPrediction
from .processes import is_first_process
from .saving import read_data, read_device, read_model, write_model
from .uncertainty.intervals import UncertaintyEstimates, UncertaintyMethods, predict_uncertainty, write_uncertainty


class PerturbationModel(StoreInput, StreamedPrediction, Counterfactuals, UncertaintyMethods, BaseModelClass):
    """Base class of every model: it owns the data, the requests, the read-out and the files.

    A model says how it is fitted (:meth:`_fit`), what it predicts for one population (:meth:`_predict_set`), and
    what it must remember (:meth:`_state`, :meth:`_restore`).

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata`, :meth:`setup_mudata` or :meth:`setup_store`.
    registry
        Registry of a saved model, in place of ``adata``.
    """

    # what turns a predicted mean into cells; a user's choice overrides it
    _default_readout: str = "counts"
    _ignores_perturbation = False  # whether what it predicts is the same for all of them, and so defined for any

    def __init__(self, adata: Data | None = None, registry: dict[str, Any] | None = None) -> None:
        # scvi-tools registers the annotation of a store in its place; the counts stay on disk
        super().__init__(adata.annotation if isinstance(adata, Store) else adata, registry)
        arguments = dict(self.registry_[SETUP_ARGS_KEY])
        if isinstance(adata, Store) and adata.manifest.library_size_key is not None:
            self.registry_.setdefault(LIBRARY_FROM, "column")  # as that of the same cells in memory
        self.source = dataclasses.replace(source_of(arguments), library_from=self.registry_.get(LIBRARY_FROM))
        self.readout_options = ReadoutOptions()
        self.module: torch.nn.Module = torch.nn.Module()
        self._cells: Cells | StoredCells | None = None
        self._fingerprint: str | None = None  # of the store it is trained on
        self._genes: np.ndarray | None = None
        self._labels: tuple[str, ...] = ()
        self._conditions: tuple[Condition, ...] | None = None
        self._vocabulary: PerturbationVocabulary | None = None
        self._dispersion: np.ndarray | None = None
        self._trained_parts: frozenset[str] | None = None
        self._principal_components: PrincipalComponents | None = None
        if adata is not None:
            self._cells = open_cells(adata, self.source)
            self._fingerprint = adata.fingerprint if isinstance(adata, Store) else None
            self._genes = self._cells.genes
            column = label_texts(self._cells.obs[self.design.perturbation_key].drop_duplicates())
            self._labels = tuple(sorted(pd.unique(column)))

    # --- what a model must say ------------------------------------------------------------------------------

    @abstractmethod
    def _fit(self, effects: GroupEffects) -> None:
        """Fit the model to the effects of the training groups."""

    @abstractmethod
    def _predict_set(self, control: Cells, request: Request, *, seed: int, each_cell: bool = True) -> SetPrediction:
        """Predict where one population of control cells goes; what is said of each cell may be left out."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what a trained model must remember: plain data and arrays."""

    @abstractmethod
    def _restore(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take back what :meth:`_state` returned."""

    def _options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``__init__`` that make an equal, untrained model, as plain data."""
        return {}

    # --- setting up -----------------------------------------------------------------------------------------

    @classmethod
    @override
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        perturbation_key: str,
        control: Controls = "control",
        context_keys: Sequence[str] | None = (),
        batch_key: str | None = None,
        dose_key: str | None = None,
        time_key: str | None = None,
        split_key: str | None = None,
        direction_key: str | None = None,
        layer: str | None = None,
        library_size_key: str | None = None,
        embedding_key: str | None = None,
        combination_separator: str = _keys.COMBINATION,
        **kwargs: Any,
    ) -> None:
        """Register the columns that describe the experiment.

        Parameters
        ----------
        adata
            Cells; raw counts in ``layer``.
        perturbation_key
            Column with the perturbation; combinations as ``"A+B"``, in any order.
        control
            The label of control cells; several, ``["AAVS1", "NT"]``, or patterns, ``"non-targeting*"`` or a compiled
            regular expression, are pooled. Predictions write the first label, or ``"control"`` for patterns alone.
        context_keys
            Columns that make a context, for example ``["cell_type"]``; none by default.
        batch_key
            Column with the batch (donor, plate); controls are matched inside it where it has enough.
        dose_key
            Column with the dose.
        time_key
            Column with the time since the perturbation.
        split_key
            Column with ``"train"``, ``"validation"`` and ``"test"``. Perturbed cells outside the first two are
            never looked at. All cells are used by default.
        direction_key
            Column with the direction of a genetic perturbation: ``"CRISPRi"``, ``"CRISPRa"``, ``"knock-out"``, or
            ``"CRISPRa+CRISPRi"`` for the parts of a combination. The same gene in another direction is another
            condition.
        layer
            Layer with raw counts; ``X`` by default.
        library_size_key
            Column with the total counts of a cell over all measured genes. By default ``obs["library_size"]``,
            and where that is missing the sum over the genes at hand.
        embedding_key
            Key of ``obsm`` with an embedding that a network uses as its state space; the genes by default.
        combination_separator
            What joins the parts of a combination, ``"_"`` in ``"A_B"``. With ``","``, lists as text are read too.
        **kwargs
            Passed on by ``load``; not for users.

        Raises
        ------
        transpert.errors.TranspertError
            If anything about the data is wrong; nothing is registered then.

        Examples
        --------
        >>> import transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=30)
        >>> columns = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
        >>> tp.MeanShift.setup_anndata(adata, **columns)
        >>> tp.MeanShift(adata).vocabulary.labels
        ('P0', 'P1', 'control')
        """
        control = control_labels(control)
        arguments = cls._get_setup_method_args(**locals())
        check_in_memory(adata, "setup_anndata")
        cls.register_manager(registered(adata, arguments, **kwargs))

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        modality: str,
        perturbation_key: str,
        control: Controls = "control",
        context_keys: Sequence[str] | None = (),
        batch_key: str | None = None,
        dose_key: str | None = None,
        time_key: str | None = None,
        split_key: str | None = None,
        direction_key: str | None = None,
        layer: str | None = None,
        library_size_key: str | None = None,
        embedding_key: str | None = None,
        combination_separator: str = _keys.COMBINATION,
        **kwargs: Any,
    ) -> None:
        """Register one modality of a MuData; its columns may stand in the modality or in ``mdata.obs``.

        A column that stands in both is taken from the modality. Context columns stand together in one of the two.

        Parameters
        ----------
        mdata
            Cells.
        modality
            The modality with the counts.
        perturbation_key, control, context_keys, batch_key, dose_key, time_key, split_key, direction_key
            As in :meth:`setup_anndata`.
        layer, library_size_key, embedding_key, combination_separator
            As in :meth:`setup_anndata`; the embedding is a key of ``obsm`` of the modality.
        **kwargs
            Passed on by ``load``; not for users.

        Raises
        ------
        transpert.errors.TranspertError
            If anything about the data is wrong; nothing is registered then.
        """
        control = control_labels(control)
        arguments = cls._get_setup_method_args(**locals())
        check_in_memory(mdata, "setup_mudata")
        cls.register_manager(registered(mdata, arguments, **kwargs))

    # --- what is known about the data -----------------------------------------------------------------------

    @property
    def design(self) -> Design:
        """The columns that describe the experiment."""
        return self.source.design

    @property
    def genes(self) -> np.ndarray:
        """Names of the genes, in the order of the model."""
        return np.asarray(self._genes)

    @property
    def vocabulary(self) -> PerturbationVocabulary:
        """The perturbations of the data."""
        if self._conditions is None:
            self._conditions = () if self._cells is None else distinct_conditions(self._cells.obs, self.design)
        kept = self._vocabulary  # it is asked for with every population
        if kept is None or kept.labels is not self._labels or kept.conditions is not self._conditions:
            self._vocabulary = PerturbationVocabulary(self._labels, self.design.label_format, self._conditions)
        assert self._vocabulary is not None
        return self._vocabulary

    @property
    def cells(self) -> Cells | StoredCells:
        """The cells the model was set up with.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model was loaded without data.
        """
        if self._cells is None:
            raise NotTrainedError("the model was loaded without data", remedy="Pass adata= to this call, or to load().")
        return self._cells

    def _training_mask(self, *names: str) -> np.ndarray:
        """Cells in the named parts of the split; all cells where there is no split."""
        key = self.design.split_key
        if key is None:
            return np.full(len(self.cells), _keys.TRAIN in names)
        return self.cells.obs[key].astype(str).isin(names).to_numpy()

    def _training_groups(self) -> tuple[Groups, ControlMatching]:
        groups = make_groups(self.cells.obs, self.design, mask=self._training_mask(_keys.TRAIN, _keys.VALIDATION))
        self._trained_parts = frozenset(part for condition in groups.conditions for part in condition.parts)
        if not len(groups.perturbed_groups):
            raise ControlError(
                "no perturbed cell is left to train on",
                where=f"obs[{self.design.split_key!r}]",
                remedy=f"Cells to train on are labelled {_keys.TRAIN!r} or {_keys.VALIDATION!r}.",
            )
        return groups, match_controls(groups)

    # --- training and prediction ----------------------------------------------------------------------------

    @override
    def train(self) -> None:
        """Fit the model to the perturbed training groups and their controls."""
        self._fit(self._training_effects(*self._training_groups()))
        self._set_trained()

    def _set_trained(self) -> None:
        """Note what else of the training data a trained model keeps, besides its state."""
        if isinstance(self._cells, Cells):  # a store has no principal components
            data = modality_of(self.adata, self.source.modality)
            self._principal_components = read_principal_components(data, self._cells)
        self.is_trained_ = True

    def _training_effects(self, groups: Groups, matching: ControlMatching) -> GroupEffects:
        statistics = self.cells.statistics(groups.codes, rows_of_groups(groups))
        effects = effects_from_statistics(statistics, groups, matching)
        self._dispersion = estimate_dispersion(effects.statistics)
        return effects

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
        unseen: Unseen = "error",
        progress: bool = True,
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
            Number of cells of each predicted population; one for each control cell of the context by default. With
            fewer, so many control cells are drawn without replacement; with more, every control cell is moved equally
            often, up to one. A test of differential expression has the power of one on so many real cells.
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
            ``"mean"`` predicts a perturbation that was not trained on, and has no embedding, as the mean of the others;
            it is an error by default. ``uns["transpert"]["unseen"]`` names them.
        progress
            Show a progress bar.
        seed
            Seed of every draw.

        Returns
        -------
        AnnData with log1p counts per 10k in ``X``, integer counts in ``layers["counts"]`` (count read-out), and in
        ``obs`` the perturbation, the context, ``source`` (predicted or control), ``model`` and ``control_id``. If the
        training data has the principal components of :func:`scanpy.pp.pca` (of log1p counts per 10k), the cells are
        projected onto them: ``obsm["X_pca"]``, with the loadings in ``varm["PCs"]``.

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
            found = predict_uncertainty(self, cells, requests, level=interval, n_cells=None, seed=seed)
        pred = self._predict_requests(
            cells, requests, n_cells, readout, include_controls=include_controls, progress=progress, seed=seed
        )
        if found is not None:
            sizes = population_sizes(cells, self.design, origins_of(cells, self.design, requests), n_cells)
            write_uncertainty(pred, found, sizes)
        return pred

    def predict_populations(
        self, wanted: Sequence[tuple[str, str]], *, n_cells: int | None = None, unseen: Unseen = "error", seed: int = 0
    ) -> AnnData:
        """Predict populations by their labels.

        Parameters
        ----------
        wanted
            Context (values of the context columns joined by ``" | "``) and condition label of each population, as
            :func:`transpert.tl.evaluate` names them.
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
        self._check_trained()
        n_cells = check_drawing(n_cells, None, seed)
        requests = [request_of(self.cells, self.source, self.vocabulary, *population) for population in wanted]
        self._check_requests(requests)
        self._check_seen(requests, unseen)
        return self._predict_requests(
            self.cells, requests, n_cells, None, include_controls=True, progress=False, seed=seed
        )

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
        origins = origins_of(cells, self.design, requests)
        controls = {origin: self._controls(cells, origin, n_cells, seed) for origin in dict.fromkeys(origins)}
        populations: list[Population] = []
        last, moved = None, None
        with Progress(disable=not progress, transient=True) as bar:
            for request, origin in bar.track(
                [*zip(requests, origins, strict=True)], description="Predicting populations"
            ):
                if moved is None or origin != last:
                    last, moved = origin, repeated(controls[origin], n_cells, seed).anew()
                populations.append(self._population(moved, request, readout, seed=request.seed(seed)))
        if include_controls:
            populations += [self._control_population(controls[origin]) for origin in shown_controls(origins)]
        as_text = text_columns(cells.obs, requests, self.design)
        return self._assembled(populations, as_text=as_text, unseen=self._unseen(requests))

    def _assembled(self, populations: Sequence[Population], **shared: Any) -> AnnData:
        components, name = self._principal_components, type(self).__name__
        shared["library_size_key"] = self.source.library_column
        return assemble(populations, self.design, model=name, components=components, **shared)

    def _requested(
        self,
        adata: Data | str | os.PathLike[str] | None,
        *,
        max_missing_genes: float | None = None,
        unseen: Unseen = "error",
        **asked: Any,
    ) -> tuple[Cells | StoredCells, list[Request]]:
        """Return the cells to move and what is asked of them, once it is known that the model can answer."""
        self._check_trained()
        cells = self.cells if adata is None else self._other_cells(open_data(adata), max_missing_genes)
        requests = expand_requests(cells, self.source, self.vocabulary, check=self._check_requests, **asked)
        self._check_seen(requests, unseen)
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

    def _check_seen(self, requests: Sequence[Request], unseen: Unseen) -> None:
        """Raise for perturbations of which the model knows nothing, unless their mean is asked for."""
        check_seen(
            requests, self._unseen(requests), unseen, embeddings="embeddings" in signature(type(self)).parameters
        )

    def _unseen(self, requests: Sequence[Request]) -> list[str]:
        """Return the perturbations that would be predicted as the mean of the others."""
        if self._ignores_perturbation or self._trained_parts is None or getattr(self, "embedding", None) is not None:
            return []
        return sorted({part for request in requests for part in request.condition.parts} - self._trained_parts)

    def _controls(self, cells: Cells | StoredCells, origin: Origin, n_cells: int | None, seed: int) -> Cells:
        """Read the control cells of a context at a time, or at all, at most so many of them."""
        return cells[control_positions(cells, self.design, origin, n_cells, seed)]

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
        return Population(values, counts, control.anew(), _keys.PREDICTED, request, prediction.latent)

    def _control_population(self, control: Cells) -> Population:
        return Population(
            control.log1p(), control.counts, control.anew(), _keys.CONTROL, latent=self._latent_of(control)
        )

    def _latent_of(self, cells: Cells) -> np.ndarray | None:
        """Latent states of cells as they are, for models that have a latent space."""
        return None

    def _component_arrays(self) -> dict[str, np.ndarray]:
        return {} if self._principal_components is None else dataclasses.asdict(self._principal_components)

    # --- files ----------------------------------------------------------------------------------------------

    @override
    def save(self, dir_path: str | os.PathLike[str], *, overwrite: bool = False, save_anndata: bool = False) -> None:
        """Write the model into a folder: JSON, safetensors and npz, no pickle, all or nothing.

        Parameters
        ----------
        dir_path
            The folder.
        overwrite
            Replace a model that is there.
        save_anndata
            Also write the data of the model, as ``adata.h5ad`` or ``mdata.h5mu``.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained.
        transpert.errors.ModelFileError
            If the folder exists and ``overwrite`` is false.
        """
        self._check_trained()
        if save_anndata and isinstance(self._cells, StoredCells):
            raise OptionError(
                "the cells of a store are not saved with a model",
                where="save_anndata",
                remedy="Keep the store, and pass it to load().",
            )
        plain, arrays = self._state()
        description = {
            "class": type(self).__name__,
            "registry": jsonable(self.registry_),
            "options": self._options(),
            "labels": list(self._labels),
            "conditions": [dataclasses.asdict(condition) for condition in self.vocabulary.conditions],
            "readout": self.readout_options.to_dict(),
            "trained_parts": None if self._trained_parts is None else sorted(self._trained_parts),
            "state": plain,
            "store": self._fingerprint,
        }
        if self.uncertainty is not None:
            description["uncertainty"], known = self.uncertainty.to_state()
            arrays = {**arrays, **{f"uncertainty/{key}": value for key, value in known.items()}}
        arrays = {
            **{f"state/{key}": value for key, value in arrays.items()},
            **{f"components/{key}": value for key, value in self._component_arrays().items()},
            "genes": self.genes.astype(str),
            **({} if self._dispersion is None else {"dispersion": self._dispersion}),
        }
        if not is_first_process():  # after a training by several processes all have the same model
            return
        data = self.adata if save_anndata else None
        write_model(dir_path, description, self.module.state_dict(), arrays, data=data, overwrite=overwrite)

    @classmethod
    @override
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: Data | str | os.PathLike[str] | None = None,
        *,
        device: int | str | torch.device = "cpu",
    ) -> Self:
        """Read a model folder.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Data set up like the training data, or a store or its path; without it the model predicts only for data
            passed to :meth:`predict`. Data that was saved with the model is read if there is any.
        device
            Where the network goes; a number is that of a GPU.

        Returns
        -------
        The trained model.

        Raises
        ------
        transpert.errors.ModelFileError
            If the folder is not a model, is a model of another class or format, or is damaged.
        transpert.errors.StoreError
            If the model was trained on a store that has changed since.
        transpert.errors.GeneError
            If the data has other genes than the model.
        transpert.errors.UnknownNameError
            If the data lacks a column of the design.
        """
        device = read_device(device)
        description, weights, arrays = read_model(dir_path)
        if description["class"] != cls.__name__:
            raise ModelFileError(
                f"this is a {description['class']}, not a {cls.__name__}",
                where=str(dir_path),
                remedy=f"Load it with transpert.{description['class']}.load.",
            )
        registry = restore(description["registry"])
        adata = read_data(dir_path, description["files"]) if adata is None else open_data(adata)
        source = source_of(registry[SETUP_ARGS_KEY])
        check_loaded(adata, source, arrays["genes"], description.get("store"))
        if isinstance(adata, Store):
            cls._register_store(adata, source.design, source.layer, source_registry=registry, extend_categories=True)
        elif adata is not None:
            setup: Callable[..., None] = getattr(cls, registry.get(SETUP_METHOD_NAME, "setup_anndata"))
            setup(adata, source_registry=registry, extend_categories=True, **registry[SETUP_ARGS_KEY])
        model = cls._from_options(adata, None if adata is not None else registry, description["options"])
        genes = arrays.pop("genes").astype(object)
        if adata is not None:
            model._cells = open_cells(adata, model.source, genes=genes)
        model._genes = genes
        model._fingerprint = description.get("store")
        model._labels = tuple(description["labels"])
        model._conditions = tuple(Condition(**condition) for condition in description["conditions"])
        model._dispersion = arrays.pop("dispersion", None)
        components = {key: arrays.pop(key) for key in list(arrays) if key.startswith("components/")}
        if components:
            named = {key.removeprefix("components/"): value for key, value in components.items()}
            model._principal_components = PrincipalComponents(**named)
        model.readout_options = ReadoutOptions.from_dict(description["readout"])
        trained = description.get("trained_parts")
        model._trained_parts = None if trained is None else frozenset(trained)
        state = {key.removeprefix("state/"): value for key, value in arrays.items()}
        known = {key: state.pop(key) for key in list(state) if key.startswith("uncertainty/")}
        if "uncertainty" in description:
            known = {key.removeprefix("uncertainty/"): value for key, value in known.items()}
            model.uncertainty = UncertaintyEstimates.from_state(description["uncertainty"], known)
        try:
            model._restore(description["state"], state)
            model.module.load_state_dict(weights)
        except (KeyError, RuntimeError, TypeError) as error:
            if isinstance(error, TranspertError):
                raise
            raise ModelFileError(f"the model does not fit its description: {error}", where=str(dir_path)) from error
        model.module.to(device).eval()
        model.is_trained_ = True
        return model

    @classmethod
    def _from_options(cls, adata: Data | None, registry: dict[str, Any] | None, options: dict[str, Any]) -> Self:
        return cls(adata, registry=registry, **options)

    def summary(self) -> str:
        """Return what the model is, what it was trained on, and what was assumed, as text."""
        lines = [
            f"{type(self).__name__} ({'trained' if self.is_trained_ else 'not trained'})",
            f"  perturbation: {self.design.perturbation_key}, control {self.design.named_controls}",
            f"  contexts: {', '.join(self.design.context_keys) or 'one'}; batch: {self.design.batch_key or 'none'}",
            f"  {len(self.genes):,} genes, {len(self.vocabulary.parts)} perturbations",
        ]
        if self._cells is not None:
            lines.append(f"  {len(self._cells):,} cells")
        if isinstance(self._cells, Cells):
            found = modality_of(self.adata, self.source.modality).uns.get(_keys.UNS, {}).get(_keys.EFFECT_SHARES, {})
            lines += [f"  {found['text']}"] if "text" in found else []
        return "\n".join(lines)

    @property
    @override
    def summary_string(self) -> str:
        """What ``print(model)`` shows."""
        return self.summary()
