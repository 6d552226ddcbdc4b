"""Observed, predicted and control cells in one embedding."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from transpert import _keys
from transpert._anndata import check_kind, frame
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert._matrices import as_dense
from transpert._seeds import check_seed
from transpert.conditions.labels import Controls
from transpert.errors import GeneError, MetricInputError
from transpert.groups import Design
from transpert.pp.alignment import align_to

from ._populations import design_of, log_values, populations


@fill_docstring
def embed_together(
    pred: AnnData,
    truth: AnnData,
    *,
    design: Design | None = None,
    perturbation_key: str | None = None,
    control: Controls | None = None,
    context_keys: str | Sequence[str] | None = None,
    n_components: int = 30,
    n_neighbors: int = 15,
    umap: bool = True,
    max_cells: int | None = None,
    seed: int = 0,
) -> AnnData:
    """Put predicted cells, the observed cells of the same populations, and their controls into one UMAP.

    The principal components are those of the observed cells and controls; the predicted cells are projected onto
    them, so that they cannot bend the space towards themselves.

    Parameters
    ----------
    pred
        A prediction, log1p counts per 10k in ``X``.
    truth
        The real cells, log1p counts per 10k in ``X``.
    %(design)s
    %(own_columns)s
    n_components, n_neighbors
        Of the principal components and of the neighbour graph.
    umap
        Also compute the UMAP.
    max_cells
        Of each kind (control, observed, predicted), drawn at random; all by default.
    seed
        Seed of the UMAP and of the drawing.

    Returns
    -------
    AnnData with ``obs["source"]`` (observed, predicted, control), the columns of the design, ``obsm["X_pca"]`` and
    ``obsm["X_umap"]``, ready for :func:`scanpy.pl.umap`.

    Raises
    ------
    transpert.errors.MetricInputError
        If no predicted population is in the truth.
    transpert.errors.GeneError
        If the prediction lacks genes.
    transpert.errors.OptionError
        If a column of the design is called ``source``, the cells come as something else than an AnnData, or the seed is
        none.
    transpert.errors.BackedDataError
        If the cells are not in memory.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=50, n_cells=40)
    >>> pred = adata[adata.obs["perturbation"] == "P0"].copy()
    >>> tp.tl.embed_together(pred, adata, n_components=5, umap=False).obsm["X_pca"].shape
    (120, 5)
    """
    check_arguments(locals())
    for data, name in ((pred, "the prediction"), (truth, "the truth")):
        check_kind(data, name=name)
        if not data.n_vars:
            raise GeneError("there are no genes", where=name, remedy="Give cells with the genes of both.")
    design = design_of(
        pred,
        design=design,
        perturbation_key=perturbation_key,
        control=control,
        context_keys=context_keys,
    )
    check_seed(seed)
    design.check_not_written((_keys.SOURCE,))
    columns = list(design.columns)
    pred, _ = align_to(pred, list(truth.var_names))
    own = populations(frame(pred.obs), design, need_controls=False)
    real = populations(frame(truth.obs), design)
    shared = [key for key in own if key in real.cells]
    if not shared:
        raise MetricInputError(
            "no predicted population is in the truth",
            where="embed_together",
            remedy="Name the columns of context and perturbation, or predict what was observed.",
        )
    contexts = sorted({context for context, _ in shared})
    parts = {
        _keys.CONTROL: (truth, np.concatenate([real.controls[context] for context in contexts])),
        _keys.OBSERVED: (truth, np.concatenate([real.cells[key] for key in shared])),
        _keys.PREDICTED: (pred, np.concatenate([own.cells[key] for key in shared])),
    }
    blocks = []
    rng = np.random.default_rng(seed)
    for source, (adata, rows) in parts.items():
        if max_cells is not None and len(rows) > max_cells:
            rows = rows[np.sort(rng.permutation(len(rows))[:max_cells])]
        values = log_values(adata, None, where=source)[rows]
        obs = frame(adata.obs).iloc[rows][columns].astype(str)
        obs.index = pd.Index([f"{name}-{source}" for name in obs.index], dtype=object)
        block = AnnData(as_dense(values, None), obs=obs, var=pd.DataFrame(index=truth.var_names))
        block.obs[_keys.SOURCE] = source
        blocks.append(block)
    together = anndata.concat(blocks)
    for column in (*columns, _keys.SOURCE):
        together.obs[column] = pd.Categorical(frame(together.obs)[column])
    _project(together, n_components, seed)
    if umap:
        sc.pp.neighbors(together, n_neighbors=n_neighbors, use_rep=_keys.PCA, random_state=seed)
        with warnings.catch_warnings():
            # where groups lie far apart the start is drawn at random instead, which nobody can or need change
            warnings.filterwarnings("ignore", message="Spectral initialisation failed")
            sc.tl.umap(together, random_state=seed)
    return together


def _project(together: AnnData, n_components: int, seed: int) -> None:
    """Principal components of the real cells; the predicted ones are projected."""
    real = (together.obs[_keys.SOURCE] != _keys.PREDICTED).to_numpy()
    reference = together[real].copy()
    n_components = min(n_components, min(reference.shape) - 1)
    sc.pp.pca(reference, n_comps=n_components, random_state=seed)
    loadings = np.asarray(reference.varm[_keys.LOADINGS])
    values: Any = together.X
    middle = np.asarray(values[np.flatnonzero(real)].mean(axis=0)).ravel() @ loadings
    together.obsm[_keys.PCA] = np.asarray(values @ loadings - middle, dtype=np.float32)
    together.varm[_keys.LOADINGS] = loadings
