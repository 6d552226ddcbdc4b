"""Embeddings of genes from the control cells themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from transpert._anndata import check_kind, frame, matrix_of
from transpert._arguments import check_arguments, name_list
from transpert._counts import library_size_column, library_sizes, log1p_per_10k, read_counts, read_library_sizes
from transpert._seeds import sample_rows
from transpert._signatures import as_annotated
from transpert.errors import ControlError, GeneError, OptionError, check_known

from ..labels import Controls, LabelFormat
from .embedding import Embedding

_FEWEST_CELLS = 10
_MOST_CELLS = 20_000  # more say little more about which genes vary together, and all their genes are held in memory


def coexpression(
    adata: AnnData,
    *,
    perturbation_key: str,
    control: Controls = "control",
    context_keys: str | Sequence[str] = (),
    layer: str | None = None,
    library_size_key: str | None = None,
    n_dimensions: int = 32,
    seed: int = 0,
) -> Embedding:
    """Describe every measured gene by the genes that it goes up and down with in control cells.

    Available for any screen, because it needs nothing but the controls. A gene that is hardly expressed in them has
    a vector near zero: the controls say nothing about it.

    Parameters
    ----------
    adata
        Cells; no perturbed cell is looked at.
    perturbation_key
        Column with the perturbation.
    control
        The label of control cells.
    context_keys
        Columns within whose values co-expression is measured, so that differences between cell types do not count.
    layer
        Layer with raw counts; ``X`` by default.
    library_size_key
        Column with the total counts of a cell; the sum over the genes at hand by default.
    n_dimensions
        Length of a vector.
    seed
        Seed of the decomposition, and of the 20,000 control cells that are drawn where there are more.

    Returns
    -------
    One vector a gene: the loadings of the gene on the leading components of the scaled control cells, so that the
    inner product of two vectors grows with the correlation of the genes, and is small where a gene hardly varies.

    Raises
    ------
    transpert.errors.ControlError
        If there are fewer than ten control cells.
    transpert.errors.CountsError
        If the values are not counts, or the library sizes not numbers.
    transpert.errors.GeneError
        If no gene varies in them.
    transpert.errors.UnknownNameError
        If a column or layer does not exist.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=50)
    >>> tp.conditions.coexpression(
    ...     adata, perturbation_key="perturbation", context_keys="context", layer="counts", n_dimensions=4
    ... )
    Embedding of 40 names in 4 dimensions (co-expression in control cells)
    """
    check_arguments(locals())
    check_kind(adata, name="adata")
    keys = name_list(context_keys)
    obs = frame(adata.obs)
    check_known("column", [perturbation_key, *keys], obs, where="obs")
    if n_dimensions < 1:
        raise OptionError(f"n_dimensions is {n_dimensions}", remedy="At least 1.")
    controls = np.flatnonzero(LabelFormat.of(control).control_cells(obs[perturbation_key]))
    matrix, where = matrix_of(adata, layer)
    counts = sparse.csr_matrix(read_counts(matrix, where=where)[controls], dtype=np.float32)
    column = library_size_column(library_size_key, obs)
    library = library_sizes(counts) if column is None else read_library_sizes(obs, column)[controls]
    groups = obs.iloc[controls][keys].astype(str).agg("|".join, axis=1).to_numpy() if keys else None
    return coexpression_of(counts, library, groups, adata.var_names, n_dimensions=n_dimensions, seed=seed)


@as_annotated(counts="N G", groups="labels N")
def coexpression_of(
    counts: sparse.csr_matrix,
    library_size: np.ndarray,
    groups: np.ndarray | None,
    genes: Iterable[str],
    *,
    n_dimensions: int = 32,
    seed: int = 0,
) -> Embedding:
    """Describe genes by their co-expression; what :func:`coexpression` does, on arrays of control cells.

    Parameters
    ----------
    counts : (N, G)
        Raw counts of control cells.
    library_size : (N,)
        Total counts of each cell.
    groups : (N,)
        Co-expression is measured within these; all cells are one group by default.
    genes : (G,)
        Names of the genes.
    n_dimensions, seed
        As in :func:`coexpression`.

    Returns
    -------
    One vector a gene.

    Raises
    ------
    transpert.errors.ControlError
        If there are fewer than ten cells.
    transpert.errors.GeneError
        If no gene varies.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from transpert.conditions import coexpression_of
    >>> counts = sparse.csr_matrix(np.random.default_rng(0).poisson(3.0, size=(30, 5)).astype(np.float32))
    >>> library_size = np.asarray(counts.sum(axis=1)).ravel()
    >>> coexpression_of(counts, library_size, None, list("ABCDE"), n_dimensions=2)
    Embedding of 5 names in 2 dimensions (co-expression in control cells)
    """
    if counts.shape[0] < _FEWEST_CELLS:
        raise ControlError(
            f"there are {counts.shape[0]} control cells; co-expression needs at least {_FEWEST_CELLS}",
            where="the control cells",
            remedy="Name the label of control cells in control=, or give more control cells.",
        )
    labels = np.zeros(counts.shape[0]) if groups is None else np.asarray(groups)
    if counts.shape[0] > _MOST_CELLS:
        drawn = sample_rows(np.arange(counts.shape[0]), _MOST_CELLS, seed)
        counts, library_size, labels = counts[drawn], library_size[drawn], labels[drawn]
    values = np.asarray(log1p_per_10k(counts, library_size).todense(), dtype=np.float64)
    for members in pd.Series(np.arange(len(values))).groupby(labels).indices.values():
        values[members] -= values[members].mean(axis=0)
    spread = values.std(axis=0)
    if not spread.any():
        raise GeneError(
            "no gene varies among the control cells",
            where="the control cells",
            remedy="Give counts of more genes, or check that the layer holds the counts.",
        )
    # a gene seen in a handful of cells would correlate with whatever else those cells have
    values /= spread + np.median(spread[spread > 0])
    kept = max(min(n_dimensions, min(values.shape) - 1), 1)
    model = TruncatedSVD(kept, random_state=seed).fit(values)
    loadings = model.components_.T * (model.singular_values_ / np.sqrt(len(values)))
    return Embedding(tuple(map(str, genes)), loadings, "co-expression in control cells")
