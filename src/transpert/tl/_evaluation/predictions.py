"""Predicted populations, from cells that were given or from a baseline that predicts when cells are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from transpert import _keys
from transpert._anndata import frame, in_memory, layer_names, modality_of, modality_to_write
from transpert._arguments import name_list
from transpert._seeds import sample_rows
from transpert.conditions import Condition
from transpert.conditions.text import population_text
from transpert.errors import SplitError, check_known, list_names, warn_user
from transpert.groups import Design

from .._populations import Populations, populations
from .cell_reader import CellReader, Data, Fetch, Matrix

if TYPE_CHECKING:
    from transpert.model import PerturbationModel
    from transpert.model.cells.in_memory import Cells


_OWN_SPLIT = "_transpert_split"
_OWN_COLUMN = "_transpert_column_"


class Prediction(Protocol):
    """Where predicted cells come from."""

    def cells(self, context: str, label: str, *, with_counts: bool) -> Fetch:
        """Return what reads the cells of a population."""
        ...

    def controls(self, context: str, *, limit: int | None, seed: int, with_counts: bool) -> Fetch:
        """Return what reads the controls that the prediction brings along."""
        ...


@dataclass(frozen=True, slots=True)
class GivenPrediction:
    """Cells that somebody predicted."""

    reader: CellReader
    found: Populations

    def cells(self, context: str, label: str, *, with_counts: bool) -> Fetch:
        """Return what reads the cells of a population."""
        what = f"population {context} / {label}"
        return self.reader.fetch(self.found.cells[context, label], what, with_counts=with_counts)

    def controls(self, context: str, *, limit: int | None, seed: int, with_counts: bool) -> Fetch:
        """Return what reads the controls, at most ``limit`` of them."""
        rows = sample_rows(self.found.controls[context], limit, seed)
        return self.reader.fetch(rows, f"controls of {context}", with_counts=with_counts)


@dataclass(slots=True)
class BaselinePrediction:
    """A trained baseline; populations are predicted one by one, so that they are never all in memory."""

    model: PerturbationModel
    genes: pd.Index
    sizes: dict[tuple[str, str], int]
    conditions: Mapping[str, Condition]
    seed: int
    # the cells that were moved last, which the other baselines move too
    drawn: dict[Hashable, Cells]

    def cells(self, context: str, label: str, *, with_counts: bool) -> Fetch:
        """Predict a population."""
        from transpert.model.prediction.predictor import Predictor

        population = Predictor(self._read_out(with_counts)).population(
            context,
            self.conditions[label],
            n_cells=self.sizes[context, label],
            unseen="mean",
            seed=seed_of(self.seed, context, label),
            drawn=self.drawn,
        )
        columns = pd.Index(self.model.genes.astype(str)).get_indexer(self.genes)
        parts = [population.log1p(), population.counts if with_counts else None]
        if not np.array_equal(columns, np.arange(len(self.model.genes))):
            parts = [None if part is None else part[:, columns] for part in parts]
        return partial(_part, *parts)

    def controls(self, context: str, *, limit: int | None, seed: int, with_counts: bool) -> Fetch:
        """Return the controls that the baseline moves."""
        label = next(label for other, label in self.sizes if other == context)
        adata = self._read_out(with_counts).controls_of(context, self.conditions[label], n_cells=limit, seed=seed)
        part = adata[:, self.genes]
        return partial(_part, part.X, part.layers[_keys.COUNTS_LAYER] if with_counts else None)

    def _read_out(self, with_counts: bool) -> PerturbationModel:
        """Return the model, which draws counts where a metric reads them, whatever it does otherwise."""
        if not with_counts:
            return self.model
        counting = copy(self.model)
        counting._default_readout = "counts"
        return counting


def _part(values: Matrix, counts: Matrix | None) -> tuple[Matrix, Matrix | None]:
    return values, counts


def seed_of(seed: int, *names: str) -> int:
    """Make a seed for one population or context, which does not depend on which others there are."""
    written = json.dumps([int(seed), *names]).encode()
    # numpy, torch and what adds to a seed all take numbers of this size
    return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest()) % 2**31


def _own_names(design: Design) -> dict[str, str]:
    """Names that no prediction of ours overwrites, for columns of other people's that are called as ours are."""
    ours = (*_keys.PREDICTION_COLUMNS, _keys.OOD_SCORE)
    return {column: f"{_OWN_COLUMN}{column}" for column in design.columns if column in ours}


def _warn_of_leaks(split: pd.Series, held: Populations, wanted: Iterable[tuple[str, str]]) -> None:
    """Say which of the populations that are scored may be seen by the baselines."""
    seen = split.astype(str).isin([_keys.TRAIN, _keys.VALIDATION]).to_numpy()
    leaks = [key for key in wanted if seen[held.cells[key]].any()]
    if leaks:
        names = list_names(population_text(*key) for key in leaks)
        warn_user(
            f"The baselines are trained on {len(leaks)} of the populations that are scored, for they have cells in "
            f"{_keys.TRAIN!r} or {_keys.VALIDATION!r} of obs[{split.name!r}] of the truth: {names}. "
            "Pass options=tp.tl.EvaluationOptions(split_key=None) to leave out just these, or split the truth again."
        )


def _check_some_left(held: Populations, wanted: Collection[tuple[str, str]]) -> None:
    """Refuse to hide every population from the baselines."""
    if all(key in wanted for key in held):
        raise SplitError(
            f"all {len(held.cells)} populations of the truth are predicted, and baselines have nothing to learn from",
            where="baselines",
            remedy="Name a column of the truth that says what they may see in the design, or predict fewer.",
        )


def baseline_names(baselines: str | Sequence[str] | None) -> list[str]:
    """Return names of baselines."""
    if baselines is None:
        return []
    from transpert.model import BASELINES  # models bring torch along, which takes seconds and memory

    given = name_list(baselines)
    names = list(BASELINES) if given == ["all"] else given
    check_known("baseline", names, BASELINES)
    return names


def whole_in_memory(data: Data, modality: str | None) -> AnnData:
    """Read all of a data set, for models that are trained on it."""
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        return ad.read_zarr(path) if path.is_dir() else ad.read_h5ad(path)
    assert isinstance(data, AnnData | MuData)
    adata = modality_to_write(data, modality)
    if isinstance(data, MuData):
        adata = modality_of(data, modality)
    return in_memory(adata)


def fit_baselines(
    names: Sequence[str],
    truth: AnnData,
    design: Design,
    wanted: Mapping[tuple[str, str], int],
    genes: pd.Index,
    *,
    split_key: str | None,
    counts_layer: str | None,
    library_size_key: str | None,
    seed: int,
) -> dict[str, BaselinePrediction]:
    """Train baselines on what may be seen of the truth."""
    if not names:
        return {}
    from transpert.model import BASELINES
    from transpert.model.base import train_together

    # an object of our own that shares the matrices: what the user has registered stays as it is
    layers = {name: truth.layers[name] for name in layer_names(truth)}
    own_names = _own_names(design)
    obs, design = frame(truth.obs).rename(columns=own_names), design.renamed(own_names)
    # X was looked at by who calls this, and is not what they are trained on
    values = None if counts_layer in layers else truth.X
    truth = AnnData(values, obs=obs, var=frame(truth.var), layers=layers)
    held = populations(frame(truth.obs), design, name="the truth")
    if split_key is not None and split_key in truth.obs:
        _warn_of_leaks(frame(truth.obs)[split_key], held, wanted)
    else:
        _check_some_left(held, wanted)
        split_key = _OWN_SPLIT
        values = np.full(truth.n_obs, _keys.TRAIN, dtype=object)
        for key in wanted:
            values[held.cells[key]] = _keys.TEST
        truth.obs[split_key] = pd.Categorical(values)
    models: dict[str, PerturbationModel] = {}
    read = None  # the cells, which the first model reads for all
    for name in names:
        cls = BASELINES[name]
        layer = counts_layer if counts_layer in truth.layers else None
        shared = {"layer": layer, "library_size_key": library_size_key, "split_key": split_key, "batch_key": None}
        cls.setup_anndata(truth, already_read=read, **design.setup_arguments(**shared))
        model = cls(truth)
        read = model.cells
        # scvi-tools would keep them for as long as Python runs
        model.deregister_manager(truth)
        models[name] = model
    train_together(list(models.values()))
    drawn: dict[Hashable, Cells] = {}
    return {
        name: BaselinePrediction(model, genes, dict(wanted), held.conditions, seed, drawn)
        for name, model in models.items()
    }
