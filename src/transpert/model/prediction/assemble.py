"""From what a model says about one population to the AnnData that a user gets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy import sparse

from transpert import _keys
from transpert._amounts import written_amount
from transpert._counts import log1p_per_10k
from transpert._matrices import as_dense
from transpert.conditions.text import AMOUNT_KINDS
from transpert.conditions.written import label_texts
from transpert.groups import Design
from transpert.transport import ReadoutOptions, transport_counts

from ..cells.in_memory import Cells
from ..cells.principal_components import PrincipalComponents
from .requests import Request

type Matrix = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True, slots=True, eq=False)
class SetPrediction:
    """What a model says about one perturbed population."""

    mean_log: np.ndarray
    cell_effects: np.ndarray | None = None
    latent: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """One population of the result: log1p values (None if those of the counts), counts if known, and annotation."""

    values: Matrix | None
    counts: sparse.csr_matrix | None
    cells: Cells
    source: str
    request: Request | None = None
    latent: np.ndarray | None = None

    def log1p(self) -> Matrix:
        """Return log1p counts per 10k."""
        if self.values is not None:
            return self.values
        assert self.counts is not None
        return log1p_per_10k(self.counts, self.cells.library_size)


def read_out(
    control: Cells,
    prediction: SetPrediction,
    *,
    kind: Literal["counts", "expected", "added"],
    options: ReadoutOptions,
    dispersion: np.ndarray | None,
    seed: int,
) -> tuple[Matrix | None, sparse.csr_matrix | None]:
    """Turn a predicted mean into cells: log1p values where they are not those of the counts, and counts."""
    if kind == "added":
        before = control.log1p()
        shift = (prediction.mean_log - before.mean(axis=0, dtype=np.float64)).astype(np.float32)
        return np.clip(before + shift, 0, np.float32(np.log1p(_keys.SCALE_FACTOR))), None
    moved = transport_counts(
        control.counts,
        control.library_size,
        prediction.mean_log,
        cell_effects=prediction.cell_effects,
        dispersion=dispersion,
        seed=seed,
        options=replace(options, kind=kind),
    )
    return (None, moved) if kind == "counts" else (log1p_per_10k(moved, control.library_size), None)


def assemble(
    populations: Sequence[Population],
    design: Design,
    *,
    model: str,
    components: PrincipalComponents | None = None,
    first: int = 0,
    as_text: Collection[str] | None = None,
    library_size_key: str | None = None,
    unseen: Sequence[str] = (),
) -> AnnData:
    """Put populations into one AnnData, in the slots that scanpy and pertpy look into."""
    obs = pd.concat([_annotate(population, design) for population in populations])
    obs.index = _unique_names(populations, first)
    for key in design.amount_columns:
        if key in obs:
            obs[key] = _in_one_type(obs[key], as_text=_holds_text(obs[key]) if as_text is None else key in as_text)
    for column in (design.perturbation_key, *design.context_keys, _keys.SOURCE, design.batch_key):
        if column is not None:
            obs[column] = pd.Categorical(label_texts(obs[column]))
    obs[_keys.MODEL] = pd.Categorical([model] * len(obs))
    adata = AnnData(
        X=_stacked([population.log1p() for population in populations]),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(populations[0].cells.genes.astype(str))),
    )
    if all(population.counts is not None for population in populations):
        adata.layers[_keys.COUNTS_LAYER] = _stacked([population.counts for population in populations])
    if all(population.latent is not None for population in populations):
        adata.obsm[_keys.LATENT] = np.concatenate([population.latent for population in populations])
    if components is not None:
        adata.obsm[_keys.PCA] = components.project(adata.X)
        adata.varm[_keys.LOADINGS] = components.loadings
    adata.uns[_keys.UNS] = {"design": {k: v for k, v in design.to_dict().items() if v is not None}, "model": model}
    if library_size_key is not None:
        adata.uns[_keys.UNS][_keys.LIBRARY_KEY] = library_size_key
    if unseen:
        adata.uns[_keys.UNS][_keys.UNSEEN] = list(unseen)
    return adata


def _stacked(parts: Sequence[Any]) -> Matrix:
    """Stack matrices, dense if one of them is."""
    if all(sparse.issparse(part) for part in parts):
        return sparse.csr_matrix(sparse.vstack(parts, format="csr"), dtype=np.float32)
    return np.concatenate([as_dense(part, None) for part in parts])


def text_columns(obs: pd.DataFrame, requests: Sequence[Request], design: Design) -> frozenset[str]:
    """Return which columns of doses and times are text in a prediction."""
    found = {key for key in design.amount_columns if key in obs and _holds_text(obs[key])}
    if design.dose_key is not None and any(isinstance(request.written["dose"], str) for request in requests):
        found.add(design.dose_key)
    return frozenset(found)


def _holds_text(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return False
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column.unique()
    return any(isinstance(value, str) for value in values)


def _in_one_type(column: pd.Series, *, as_text: bool) -> pd.Series:
    """Return doses or times of all populations as floats, or as categories of text."""
    codes, values = pd.factorize(column.astype(object))
    if not as_text:
        return pd.Series(np.array([*values, np.nan], dtype=float)[codes], index=column.index)
    written = np.array([*(v if isinstance(v, str) else written_amount(v) for v in values), np.nan], dtype=object)
    return pd.Series(pd.Categorical(written[codes]), index=column.index)


def _annotate(population: Population, design: Design) -> pd.DataFrame:
    """Return the annotation of a predicted population: that of its control cells, with what was done to them."""
    cells, request = population.cells, population.request
    obs = cells.obs.drop(columns=[design.split_key] if design.split_key else [], errors="ignore").copy()
    obs[design.perturbation_key] = design.control if request is None else request.label
    if request is not None:
        for key, value in request.context_values.items():
            obs[key] = value
        for kind, column in design.condition_keys.items():
            said = request.written[kind]
            obs[column] = said if kind in AMOUNT_KINDS else pd.Series(said, index=obs.index, dtype=object)
    obs[_keys.SOURCE] = population.source
    obs[_keys.CONTROL_ID] = np.asarray(cells.obs.index, dtype=str)
    obs[_keys.LIBRARY_SIZE] = cells.library_size
    return obs


def _unique_names(populations: Sequence[Population], first: int) -> pd.Index:
    """Cell names: the control's own, followed by what was done to it."""
    names: list[str] = []
    for number, population in enumerate(populations, start=first):
        suffix = "" if population.request is None else f"-{population.request.label}-{number}"
        names.extend(f"{name}{suffix}" for name in population.cells.obs.index)
    # a control cell that is moved twice gives two cells
    return make_index_unique(pd.Index(names, dtype=object))
