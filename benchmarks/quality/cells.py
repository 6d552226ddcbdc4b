"""The cells of a task under one split, the same for every method."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse

import transpert as tp
from transpert.conditions import parse_perturbation
from transpert.errors import OptionError, UnknownNameError
from transpert.groups.table import context_labels

from .configuration import Split, Task, merged

PERTURBATION = "perturbation"
LIBRARY = "library_size"
_SHUFFLE_SEED = 0
_DOSE = ", dose "


def design_of(task: Task) -> tp.groups.Design:
    """The columns of a task."""
    return tp.groups.Design(PERTURBATION, task.control, task.context_keys, dose_key=task.dose_key)


def setup_arguments(task: Task) -> dict[str, object]:
    """What ``setup_anndata`` of our models is told."""
    return {
        "perturbation_key": PERTURBATION,
        "control": task.control,
        "context_keys": list(task.context_keys),
        "batch_key": task.batch_key,
        "dose_key": task.dose_key,
        "split_key": "split",
        "layer": "counts",
        "library_size_key": LIBRARY,
    }


def cells_of(task: Task, split: Split, folder: Path) -> anndata.AnnData:
    """Return the cells with log1p counts per 10k in ``X``, counts, library sizes and the split."""
    source = merged(task.source, {"simulate": split.simulate} if split.simulate else {})
    adata = _source(json.dumps(source, sort_keys=True), task.library_size_key, folder).copy()
    adata = adata[_large_groups(adata.obs, task)].copy()
    _hold_out(adata, task, split)
    if task.n_genes and task.n_genes < adata.n_vars:
        train = adata[(adata.obs["split"] == "train").to_numpy()].copy()
        sc.pp.highly_variable_genes(train, n_top_genes=task.n_genes)
        adata = adata[:, train.var["highly_variable"].to_numpy()].copy()
    return adata


@lru_cache(maxsize=1)
def _source(source: str, library: str | None, folder: Path) -> anndata.AnnData:
    options = json.loads(source)
    if "simulate" in options:
        return tp.datasets.simulate(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in options["simulate"].items()}
        )
    adata = anndata.read_h5ad(folder / options["file"])
    for column, values in options.get("keep", {}).items():
        if column not in adata.obs:
            raise UnknownNameError("column", [column], map(str, adata.obs.columns), where=options["file"])
        adata = adata[adata.obs[column].astype(str).isin(values).to_numpy()].copy()
    counts = sparse.csr_matrix(adata.X, dtype=np.float32)
    size = adata.obs[library].to_numpy(dtype=float) if library else np.asarray(counts.sum(axis=1)).ravel()
    obs = adata.obs.apply(lambda column: pd.Categorical(column.astype(str)) if column.dtype == "category" else column)
    obs[LIBRARY] = size
    var = pd.DataFrame(index=pd.Index(adata.var_names.astype(str), name=None))
    return anndata.AnnData(tp.pp.log1p_per_10k(counts, size), obs=obs, var=var, layers={"counts": counts})


def fingerprint(adata: anndata.AnnData) -> str:
    """A short digest of the cells of a task: their genes, names, columns, split and counts.

    Results of other cells (the file, the simulator, the hold-out or the choice of genes was changed in between) must
    not stand in one table.
    """
    counts = adata.layers["counts"].tocsr().sorted_indices()
    digest = hashlib.sha256(json.dumps(adata.var_names.astype(str).tolist()).encode())
    digest.update(pd.util.hash_pandas_object(adata.obs.astype(str), index=True).to_numpy().tobytes())
    for part in (counts.indptr.astype(np.int64), counts.indices.astype(np.int64), counts.data.astype(np.float32)):
        digest.update(part.tobytes())
    return digest.hexdigest()[:12]


def _large_groups(obs: pd.DataFrame, task: Task) -> np.ndarray:
    """Cells in groups that are large enough, in contexts whose controls are."""
    keys = [*task.context_keys, PERTURBATION]
    size = obs.groupby(keys, observed=True)[LIBRARY].transform("size").to_numpy()
    large = size >= task.min_cells
    if not task.context_keys or not task.min_cells:
        return large
    context = context_labels(obs, design_of(task))
    controlled = set(context[large & (obs[PERTURBATION].astype(str) == task.control).to_numpy()])
    return large & np.isin(context, sorted(controlled))


def _hold_out(adata: anndata.AnnData, task: Task, split: Split) -> None:
    if not split.cells:
        named = {"holdout": split.holdout} if split.holdout else {"by": split.by, "fraction": split.fraction}
        tp.pp.split(adata, **named, seed=split.seed, context_keys=list(task.context_keys), control=task.control)
        return
    held = (adata.obs[PERTURBATION].astype(str) != task.control).to_numpy()
    for column, values in split.cells.items():
        held = held & adata.obs[column].astype(str).isin(values).to_numpy()
    if not held.any():
        raise OptionError(f"the split {split.name!r} holds nothing out", where=f"tasks, {task.name}")
    adata.obs["split"] = pd.Categorical(np.where(held, "test", "train"))


def wanted_populations(adata: anndata.AnnData, task: Task) -> list[tuple[str, str]]:
    """Context and label of the populations held out, as :func:`transpert.tl.evaluate` names them."""
    held = adata.obs[(adata.obs["split"] == "test").to_numpy()]
    contexts = context_labels(held, design_of(task))
    parts = {label: parse_perturbation(label, control=task.control) for label in set(held[PERTURBATION].astype(str))}
    labels = ["+".join(parts[label]) for label in held[PERTURBATION].astype(str)]
    if task.dose_key:
        doses = held[task.dose_key].to_numpy(dtype=object)
        labels = [f"{label}{_DOSE}{dose}" for label, dose in zip(labels, doses, strict=True)]
    return sorted(set(zip(contexts.tolist(), labels, strict=True)))


def without_dose(label: str) -> tuple[str, str | None]:
    """Return the perturbation and the dose of a label of :func:`wanted_populations`; ``None`` where it has no dose."""
    perturbation, _, dose = label.partition(_DOSE)
    return perturbation, dose or None


def embeddings_of(adata: anndata.AnnData, task: Task, folder: Path) -> pd.DataFrame | None:
    """Embedding of every perturbation of a task, where it has some."""
    if task.embedding is None:
        return None
    if task.embedding in ("simulated", "shuffled"):
        table = adata.uns["simulation"]["embedding"]
        if task.embedding == "simulated":
            return table
        order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(table))
        return pd.DataFrame(table.to_numpy()[order], index=table.index, columns=table.columns)
    with np.load(folder / task.embedding, allow_pickle=False) as table:
        genes, vectors = table["genes"].astype(str), table["embedding"].astype(np.float32)
    labels = set(adata.obs[PERTURBATION].astype(str)) - {task.control}
    names = sorted({part for label in labels for part in parse_perturbation(label, control=task.control)})
    known = pd.DataFrame(vectors, index=genes).loc[[task.aliases.get(name, name) for name in names]]
    return known.set_axis(names)
