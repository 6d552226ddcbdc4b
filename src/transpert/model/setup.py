"""What a model knows of its data: how it is registered, and what is in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, override

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass

from transpert import _keys
from transpert._anndata import check_kind
from transpert._arguments import check_arguments, named_options
from transpert._compat import SETUP_ARGS_KEY, SETUP_METHOD_NAME
from transpert._docstrings import fill_docstring
from transpert.conditions import Condition, PerturbationVocabulary
from transpert.conditions.labels import Controls, control_labels
from transpert.conditions.written import label_texts
from transpert.data import Store
from transpert.errors import ControlError, NotTrainedError, OptionError, list_names
from transpert.groups import ControlMatching, Design, Groups, make_groups, match_controls
from transpert.groups.table import distinct_conditions
from transpert.transport import ReadoutOptions

from .cells.in_memory import LIBRARY_FROM, Cells, DataSource, read_cells
from .cells.open import Data, StoredCells, check_in_memory, open_cells
from .cells.principal_components import PrincipalComponents
from .cells.registration import check_groups, check_names, registry_fields, source_of

# what load() passes through setup_anndata to scvi-tools, and cells that another model has read of the same data
_PASSED_ON = ("source_registry", "extend_categories", "already_read")
# where cells that were read for the registration are kept until the model takes them
_READ = "already_read"


class RegisteredModel(BaseModelClass):
    """A model that knows its data: the first of the five classes that make a model, in a line."""

    def __init__(self, adata: Data | None = None, registry: dict[str, Any] | None = None) -> None:
        # scvi-tools registers the annotation of a store in its place; the counts stay on disk
        data = adata.annotation if isinstance(adata, Store) else adata
        if data is not None:
            _check_set_up(type(self), data)
        super().__init__(data, registry)
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
        self._trained_parts: frozenset[str] | None = None  # the perturbations that were trained on
        self._principal_components: PrincipalComponents | None = None
        if adata is not None:
            handed_on = None if isinstance(adata, Store) else self.adata_manager.__dict__.pop(_READ, None)
            self._cells = open_cells(adata, self.source) if handed_on is None else handed_on
            self._fingerprint = adata.fingerprint if isinstance(adata, Store) else None
            self._genes = self._cells.genes
            column = label_texts(self._cells.obs[self.design.perturbation_key].drop_duplicates())
            self._labels = tuple(sorted(pd.unique(column)))

    @classmethod
    @override
    @named_options(*_PASSED_ON)
    @fill_docstring
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        perturbation_key: str,
        control: Controls = "control",
        context_keys: str | Sequence[str] | None = (),
        batch_key: str | None = None,
        dose_key: str | None = None,
        time_key: str | None = None,
        split_key: str | None = None,
        direction_key: str | None = None,
        layer: str | None = None,
        library_size_key: str | None = None,
        embedding_key: str | None = None,
        n_top_genes: int | None = None,
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
            never used. All cells are used by default.
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
        n_top_genes
            Number of genes that networks read and write, those that vary most among the training cells; all by default.
            Library sizes stay those of all genes, and all genes are predicted: the others by the anchor of the model.
        combination_separator
            What joins the parts of a combination, ``"_"`` in ``"A_B"``. With ``","``, lists as text are read too.
        **kwargs
            Passed on by ``load``; not for users.

        %(raises_not_registered)s

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
        _register_in_memory(cls, adata, arguments, **kwargs)

    @classmethod
    @named_options(*_PASSED_ON)
    @fill_docstring
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        modality: str,
        perturbation_key: str,
        control: Controls = "control",
        context_keys: str | Sequence[str] | None = (),
        batch_key: str | None = None,
        dose_key: str | None = None,
        time_key: str | None = None,
        split_key: str | None = None,
        direction_key: str | None = None,
        layer: str | None = None,
        library_size_key: str | None = None,
        embedding_key: str | None = None,
        n_top_genes: int | None = None,
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
        layer, library_size_key, embedding_key, n_top_genes, combination_separator
            As in :meth:`setup_anndata`; the embedding is a key of ``obsm`` of the modality.
        **kwargs
            Passed on by ``load``; not for users.

        %(raises_not_registered)s
        """
        control = control_labels(control)
        arguments = cls._get_setup_method_args(**locals())
        _register_in_memory(cls, mdata, arguments, **kwargs)

    @classmethod
    @named_options(*_PASSED_ON)
    @fill_docstring
    def setup_store(
        cls,
        store: Store,
        *,
        split_key: str | None = None,
        layer: str | None = None,
        design: Design | None = None,
        n_top_genes: int | None = None,
    ) -> None:
        """Register the cells of a store, which stay on disk; the model is then made with ``SCALE(store)``.

        Parameters
        ----------
        store
            The cells.
        split_key
            Column of ``store.annotation.obs`` with the split, as ``tp.pp.split(store.annotation, ...)`` writes it. All
            cells are used by default.
        layer
            Layer in which an AnnData of such cells has its counts: only for a saved model that is to be loaded with
            one.
        design
            The columns that describe the experiment; those the store was built with by default.
        n_top_genes
            As in :meth:`setup_anndata`.

        %(raises_not_registered)s

        Examples
        --------
        >>> import tempfile, transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=30)
        >>> design = tp.groups.Design("perturbation", "control", ("context",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
        ...     tp.RidgeTransport.setup_store(store)
        ...     model = tp.RidgeTransport(store)
        ...     model.train()
        ...     model.predict(perturbations="P0", progress=False).n_vars
        20
        """
        if not isinstance(store, Store):
            raise OptionError(
                f"setup_store was given a {type(store).__name__}, not a store",
                remedy="Open it, store = transpert.data.Store(path), and give it to the model too.",
            )
        check_arguments({"design": design, "split_key": split_key, "layer": layer, "n_top_genes": n_top_genes})
        chosen = store.design if design is None else design
        if split_key is not None:
            chosen = dataclasses.replace(chosen, split_key=split_key)
        register_store(cls, store, DataSource(chosen, layer, n_top_genes=n_top_genes))

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

    def _other_labels(self) -> str:
        """Say how cells are labelled in place of what is expected."""
        key = self.design.split_key
        labels = set() if key is None else set(self.cells.obs[key].astype(str))
        others = sorted(labels - {_keys.TRAIN, _keys.VALIDATION, _keys.TEST})
        return f"; these are {list_names(others)}" if others else ""

    def _training_groups(self) -> tuple[Groups, ControlMatching]:
        groups = make_groups(self.cells.obs, self.design, mask=self._training_mask(_keys.TRAIN, _keys.VALIDATION))
        if not len(groups.perturbed_groups):
            raise ControlError(
                "no perturbed cell is left to train on",
                where=f"obs[{self.design.split_key!r}]",
                remedy=f"Cells to train on are labelled {_keys.TRAIN!r} or {_keys.VALIDATION!r}{self._other_labels()}.",
            )
        self._trained_parts = frozenset(part for condition in groups.conditions for part in condition.parts)
        return groups, match_controls(groups)


def _check_set_up(cls: type[RegisteredModel], data: AnnData | MuData) -> None:
    """Refuse cells that were not set up for this class of models."""
    check_kind(data, (AnnData, MuData), name="adata")
    if cls._get_most_recent_anndata_manager(data) is None:
        raise OptionError(
            f"these cells are not set up for {cls.__name__}",
            remedy=f"Call {cls.__name__}.setup_anndata(adata, perturbation_key=...) first, on the same object. "
            "A call that ended with an error set nothing up.",
        )


def register_store(cls: type[RegisteredModel], store: Store, source: DataSource, **kwargs: Any) -> None:
    """Register a store so that the registry is that of an AnnData of the same cells."""
    design, own = source.design, DataSource(source.design)  # the layer is that of other cells
    check_names(design)
    cells = open_cells(store, own)
    check_groups(cells, design, report="source_registry" not in kwargs)
    said = {**design.to_dict(), "control": design.controls, "layer": source.layer, "n_top_genes": source.n_top_genes}
    del said["further_controls"]  # setup_anndata, which may load the model, takes all of them as control=
    arguments = cls._get_setup_method_args(cls=cls, adata=None, **said, library_size_key=None, embedding_key=None)
    manager = AnnDataManager(fields=registry_fields(own, cells), setup_method_args=arguments)
    manager.register_fields(store.annotation, **kwargs)
    cls.register_manager(manager)


def _register_in_memory(
    cls: type[RegisteredModel], data: AnnData | MuData, arguments: dict[str, Any], **kwargs: Any
) -> None:
    """Check cells in memory and register their fields with scvi-tools."""
    source = source_of(arguments[SETUP_ARGS_KEY])
    check_in_memory(data, arguments[SETUP_METHOD_NAME])
    loaded = kwargs.get("source_registry", {})
    source = dataclasses.replace(source, library_from=loaded.get(LIBRARY_FROM))
    handed_on = kwargs.pop(_READ, None)
    cells = read_cells(data, source) if handed_on is None else handed_on
    arguments[LIBRARY_FROM] = source.library_from or cells.library_from
    check_groups(cells, source.design, report=not loaded)  # who loads a model was told when it was set up
    mdata = data if isinstance(data, MuData) else None
    manager = AnnDataManager(fields=registry_fields(source, cells, mdata), setup_method_args=arguments)
    manager.register_fields(data, **kwargs)
    cls.register_manager(manager)
    # the model is made at once, and has no need to read them again; after a setup they may change
    if loaded or handed_on is not None:
        manager.__dict__[_READ] = cells
