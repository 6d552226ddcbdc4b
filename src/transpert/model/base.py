"""The one interface of all models: ``setup_anndata``, ``train``, ``predict``, ``save``, ``load``."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, override

import numpy as np
import pandas as pd
import torch

from transpert import _keys
from transpert._anndata import metadata_of, modality_of, restored_on_failure
from transpert._arguments import check_arguments, named_options
from transpert._compat import SETUP_ARGS_KEY, SETUP_METHOD_NAME
from transpert._docstrings import fill_docstring
from transpert.data import Store
from transpert.errors import ModelFileError, OptionError
from transpert.groups import ControlMatching, Groups
from transpert.transport import (
    GroupEffects,
    effects_from_statistics,
    estimate_dispersion,
    rows_of_groups,
)

from . import saving, sharing
from .cells.in_memory import Cells
from .cells.open import Data, StoredCells, check_in_memory, check_loaded, open_cells, open_data
from .cells.principal_components import PrincipalComponents, component_arrays, read_principal_components
from .cells.registration import jsonable, restore, source_of
from .effects import EffectModel
from .processes import is_first_process
from .setup import register_store
from .uncertainty.estimates import UncertaintyEstimates


@fill_docstring
class PerturbationModel(EffectModel):
    """Base class of every model: it holds the data, and has predictions, read-out and files in common.

    A model says how it is fitted (``_fit``), what it predicts for one population (``_predict_set``), and
    what it must remember (``_state``, ``_restore``).

    Parameters
    ----------
    %(registered_any_data)s
    """

    @abstractmethod
    def _fit(self, effects: GroupEffects) -> None:
        """Fit the model to the effects of the training groups."""

    @abstractmethod
    def _restore(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restore what :meth:`_state` returned."""

    def _options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``__init__`` that make an equal, untrained model, as plain data."""
        return {}

    @override
    @named_options()
    def train(self) -> None:
        """Fit the model to the perturbed training groups and their controls."""
        train_together([self])

    def _set_trained(self) -> None:
        """Keep the principal components of the training data, and mark the model as trained."""
        if isinstance(self._cells, Cells):  # a store has no principal components
            data = modality_of(self.adata, self.source.modality)
            self._principal_components = read_principal_components(data, self._cells)
        self.is_trained_ = True

    def _training_effects(self, groups: Groups, matching: ControlMatching) -> GroupEffects:
        statistics = self.cells.statistics(groups.codes, rows_of_groups(groups))
        effects = effects_from_statistics(statistics, groups, matching)
        self._dispersion = estimate_dispersion(effects.statistics)
        return effects

    @override
    @named_options()
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
        check_arguments(locals())
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
            **{f"components/{key}": value for key, value in component_arrays(self._principal_components).items()},
            "genes": self.genes.astype(str),
            **({} if self._dispersion is None else {"dispersion": self._dispersion}),
        }
        if not is_first_process():  # after a training by several processes all have the same model
            return
        data = self.adata if save_anndata else None
        saving.write_model(dir_path, description, self.module.state_dict(), arrays, data=data, overwrite=overwrite)

    @classmethod
    @override
    @named_options()
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: Data | str | os.PathLike[str] | None = None,
        *,
        accelerator: str = "auto",
        device: int | str | torch.device | None = "cpu",
    ) -> Self:
        """Read a model folder.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Data set up like the training data, or a store or its path; without it the model predicts only for data
            passed to :meth:`predict`. Data that was saved with the model is read if there is any.
        accelerator
            As scvi-tools and its hub have it, and counts where ``device`` is ``"auto"``: ``"cpu"``, ``"gpu"``, or
            ``"auto"`` for a GPU where there is one.
        device
            Where the network goes; a number is that of a GPU, ``"auto"`` leaves it to the accelerator.

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
        check_arguments(locals())
        data = open_data(adata) if adata is not None else None
        if data is not None and not isinstance(data, Store):
            check_in_memory(data, "load")
        with restored_on_failure(data):
            return _loaded(cls, dir_path, data, saving.read_device(device, accelerator))

    def push_to_hub(
        self,
        repository: str,
        *,
        license: str,
        scores: pd.DataFrame | None = None,
        description: str = "",
        save_anndata: bool = False,
        dir_path: str | os.PathLike[str] | None = None,
        token: str | None = None,
    ) -> str:
        """Share the model on the Hugging Face Hub, through the hub of scvi-tools, with a card that says what it is.

        Parameters
        ----------
        repository
            Its name there, ``"laboratory/model"``; made if it does not exist.
        license
            Licence of the model, as the Hub writes it, for example ``"cc-by-4.0"``.
        scores
            What :func:`transpert.tl.evaluate` returned of a prediction for what was held out; shown with floors and
            ceilings.
        description
            What else others have to know, Markdown.
        save_anndata
            Also share the cells of the model.
        dir_path
            Also keep the folder that is sent, here.
        token
            Of the Hub; the one that ``hf auth login`` stored by default.

        Returns
        -------
        The card.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained.
        transpert.errors.ModelFileError
            If the folder exists.
        transpert.errors.DependencyError
            If huggingface-hub is not installed.
        """
        check_arguments(locals(), but=("scores", "dir_path"))
        self._check_trained()
        card = sharing.model_card(
            self, self.summary(), license=license, scores=scores, description=description, repository=repository
        )
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "model") if dir_path is None else Path(dir_path)
            self.save(folder, save_anndata=save_anndata)
            sharing.write_card(folder, card, type(self).__name__)
            sharing.push(folder, repository, token=token)
        return card

    @classmethod
    def from_hub(
        cls,
        repository: str,
        adata: Data | str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | None = None,
        device: int | str | torch.device = "cpu",
        token: str | None = None,
    ) -> Self:
        """Read a model from the Hugging Face Hub; files that could run code are refused.

        Parameters
        ----------
        repository
            Its name there.
        adata
            As in :meth:`load`.
        revision
            Branch, tag or commit; the newest by default.
        cache_dir
            Where downloads are kept; where the Hub keeps them by default.
        device
            As in :meth:`load`.
        token
            Of the Hub, for a repository that is not public.

        Returns
        -------
        The trained model.

        Raises
        ------
        transpert.errors.ModelFileError
            As :meth:`load`.
        transpert.errors.DependencyError
            If huggingface-hub is not installed.
        """
        folder = sharing.pull(repository, revision=revision, cache_dir=cache_dir, token=token)
        return cls.load(folder, adata, device=device)

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
            found = metadata_of(modality_of(self.adata, self.source.modality)).get(_keys.EFFECT_SHARES)
            lines += [f"  {found['text']}"] if isinstance(found, Mapping) and "text" in found else []
        return "\n".join(lines)

    @property
    @override
    def summary_string(self) -> str:
        """What ``print(model)`` shows."""
        return self.summary()


def _loaded[Model: PerturbationModel](
    cls: type[Model], dir_path: str | os.PathLike[str], adata: Data | None, device: torch.device
) -> Model:
    """Read a model folder, and bind the model to data."""
    where = str(dir_path)
    saved = saving.read_model(dir_path, with_data=adata is None)
    description = saved.description
    if description.model != cls.__name__:
        remedy = f"Load it with transpert.{description.model}.load."
        raise ModelFileError(f"this is a {description.model}, not a {cls.__name__}", where=where, remedy=remedy)
    saving.check_depths(description.options, len(saved.weights), where)
    with saving.building(where):
        registry = restore(description.registry)
        source = source_of(registry[SETUP_ARGS_KEY])
    setup: Callable[..., None] = getattr(cls, registry.get(SETUP_METHOD_NAME, "setup_anndata"))
    saving.check_arguments(setup, registry[SETUP_ARGS_KEY], where)
    adata = saved.data if adata is None else adata
    check_loaded(adata, source, saved.arrays["genes"], description.store)
    if isinstance(adata, Store):
        register_store(cls, adata, source, source_registry=registry, extend_categories=True)
    elif adata is not None:
        setup(adata, source_registry=registry, extend_categories=True, **registry[SETUP_ARGS_KEY])
    with saving.building(where):
        model = cls._from_options(adata, None if adata is not None else registry, description.options)
    genes = saved.arrays.pop("genes").astype(object)
    if isinstance(adata, Store):
        model._cells = open_cells(adata, model.source, genes=genes)
    elif isinstance(model._cells, Cells):
        model._cells = model._cells.with_genes(genes)
    model._genes = genes
    with saving.building(where):
        saving.check_amounts_known(saved, where)
        _restore_description(model, description, saved.arrays)
        saving.fill(model.module, saved.weights)
    model.module.to(device).eval()
    model.is_trained_ = True
    return model


def _restore_description(
    model: PerturbationModel, description: saving.Description, arrays: dict[str, np.ndarray]
) -> None:
    """Restore what was saved, except the cells and the weights of the networks."""
    model._fingerprint = description.store
    model._labels, model._conditions = tuple(description.labels), tuple(description.conditions)
    model._dispersion = arrays.pop("dispersion", None)
    components = saving.below("components/", arrays)
    if components:
        model._principal_components = PrincipalComponents(**components)
    model.readout_options = description.readout
    trained = description.trained_parts
    model._trained_parts = None if trained is None else frozenset(trained)
    state = saving.below("state/", arrays)
    known = saving.below("uncertainty/", state)
    if description.uncertainty is not None:
        model.uncertainty = UncertaintyEstimates.from_state(description.uncertainty, known)
    model._restore(description.state, state)


def train_together(models: Sequence[PerturbationModel]) -> None:
    """Train models in closed form that were set up with the same cells, whose statistics are computed once."""
    first = models[0]
    effects = first._training_effects(*first._training_groups())
    for model in models:
        model._cells, model._dispersion = first._cells, first._dispersion
        model._fit(effects)
        model._set_trained()
