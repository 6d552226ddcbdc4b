"""Which cells respond to a perturbation, and what tells them apart beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.stats import false_discovery_control, norm

from transpert import _keys
from transpert._anndata import check_kind, check_writable, frame, matrix_of
from transpert._counts import (
    library_size_column,
    library_sizes,
    log1p_per_10k,
    read_counts,
    read_library_sizes,
)
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert._statistics import pearson
from transpert.errors import CountsError, OptionError, check_known

RESPONSE, RESPONDS = "response_", "responds_"  # of the names in obs
_SURE = norm.ppf(0.95)
_LITTLE = 0.1  # reliability below which cells are said to respond alike
_ALL = "all"


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """How differently cells respond to a perturbation.

    Parameters
    ----------
    cells
        One row a cell: ``response``, in units of the mean response (0 none, 1 as the mean), and ``responds``, whether
        it is above 0 by more than its noise (one-sided, .05).
    genes
        One row a gene: ``correlation`` of its expression beforehand with the response of the cell, ``p_value`` and
        ``p_adjusted`` (Benjamini-Hochberg), the most significant first.
    groups
        One row a group of cells: ``n_cells``, ``response`` (mean), ``spread`` (standard deviation of the response,
        without its noise) and ``responding``, the share of the cells that respond.
    reliability
        Share of the variance of ``response`` within groups that is not noise.
    text
        The same as a sentence.
    """

    cells: pd.DataFrame
    genes: pd.DataFrame
    groups: pd.DataFrame
    reliability: float
    text: str


@as_annotated()
def responses(
    adata: AnnData,
    key: str,
    *,
    groupby: str | None = None,
    layer: str | None = _keys.COUNTS_LAYER,
    library_size_key: str | None = None,
    n_splits: int = 10,
    seed: int = 0,
) -> Responses:
    """Say which cells respond in a counterfactual of :func:`predict`, how sure that is, and by what they differ.

    The response of a cell is the change of its expression along the mean change. Both are measured in halves of the
    genes: what the halves agree on is not noise. A gene is compared with the response that the other half of the genes
    shows, because its own counts are in both. What the sequencing depth of a cell explains is subtracted.

    Parameters
    ----------
    adata
        Cells with counterfactual counts in ``layers[key]``.
    key
        Name of that layer.
    groupby
        Column of ``obs`` whose groups are summarised, such as the cell type. Differences between
        groups do not count as reliability, nor do they make genes significant. All cells together by default.
    layer
        Layer with the counts of the cells as they are; ``X`` if ``None``.
    library_size_key
        Column with the total counts of each cell over all measured genes; ``"library_size"`` by default, and where that
        is missing the sum over the genes.
    n_splits
        How often genes are halved.
    seed
        Seed of the halves.

    Returns
    -------
    The responses; also in ``obs["response_KEY"]``, ``obs["responds_KEY"]`` and
    ``uns["transpert"]["response_KEY"]`` (the tables).

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such layer or column.
    transpert.errors.CountsError
        If the values are no counts, or the perturbation changes nothing.
    transpert.errors.OptionError
        If there are fewer than four cells or genes.

    Notes
    -----
    Reliability of halves: Spearman (1910) and Brown (1910), British Journal of Psychology 3:271 and 3:296.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=40, n_cells=40)
    >>> tp.RidgeTransport.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.RidgeTransport(adata)
    >>> model.train()
    >>> tp.tl.predict(adata, model, perturbation="P1")
    >>> sorted(tp.tl.responses(adata, "P1", groupby="context").groups.index)
    ['context_0', 'context_1', 'context_2', 'context_3']
    """
    check_kind(adata, name="adata")
    name = f"{RESPONSE}{key}"
    check_writable(adata, name)
    obs = frame(adata.obs)
    if groupby is not None:
        check_known("column", [groupby], obs, where="obs")
    if min(adata.shape) < 4 or n_splits < 1:
        raise OptionError(
            f"there are {adata.n_obs} cells, {adata.n_vars} genes and {n_splits} splits",
            remedy="Give at least four cells and genes, and one split.",
        )
    before, after, depth = _values(adata, key, layer, library_size_key)
    groups = np.full(adata.n_obs, _ALL) if groupby is None else obs[groupby].astype(str).to_numpy(dtype=str)
    rng = np.random.default_rng(check_seed(seed))
    whole, agreement, correlation = _measure(before, after, depth, groups, n_splits, rng)
    reliability = float(np.clip(2 * agreement / (1 + agreement), 0, 1)) if agreement > -1 else 0.0
    within = whole - pd.Series(whole).groupby(groups).transform("mean").to_numpy()
    noise = float(np.sqrt((1 - reliability) * within.var()))
    cells = pd.DataFrame({"response": whole, "responds": whole > _SURE * noise}, index=obs.index)
    genes = _gene_table(adata.var_names, correlation, adata.n_obs)
    found = Responses(
        cells, genes, _group_table(cells, groups, noise), reliability, _in_words(reliability, cells, genes)
    )
    adata.obs[name], adata.obs[f"{RESPONDS}{key}"] = cells["response"], cells["responds"]
    tables = {"genes": genes, "groups": found.groups, "reliability": reliability, "text": found.text}
    adata.uns[_keys.UNS] = {**adata.uns.get(_keys.UNS, {}), name: tables}
    return found


def _values(
    adata: AnnData, key: str, layer: str | None, library_size_key: str | None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Return log1p counts per 10k before and after, and the logarithm of the depth."""
    own, moved = (
        read_counts(matrix, where=where) for matrix, where in (matrix_of(adata, name) for name in (layer, key))
    )
    column = library_size_column(library_size_key, adata.obs)
    sizes = library_sizes(own) if column is None else read_library_sizes(frame(adata.obs), column)
    before, after = (sparse.csr_matrix(log1p_per_10k(counts, sizes), dtype=np.float64) for counts in (own, moved))
    return before, after, np.log(np.maximum(sizes, 1.0))


def _measure(
    before: sparse.csr_matrix,
    after: sparse.csr_matrix,
    depth: np.ndarray,
    groups: np.ndarray,
    n_splits: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the response of each cell, how far halves of the genes agree on it, and its correlation with each gene."""
    change = after - before
    effect = np.asarray(change.mean(axis=0)).ravel()
    if not (effect**2).sum() > 0:
        raise CountsError("the perturbation changes nothing", where="layers", remedy="Predict another perturbation.")
    squares = np.asarray(before.multiply(before).mean(axis=0)).ravel() - np.asarray(before.mean(axis=0)).ravel() ** 2
    agreements, correlation = [], np.zeros(before.shape[1])
    for _ in range(n_splits):
        first = np.zeros(before.shape[1], dtype=bool)
        first[rng.permutation(len(first))[: len(first) // 2]] = True
        halves = [_adjusted(_along(change, effect, half), depth, groups) for half in (first, ~first)]
        agreements.append(np.nan_to_num(pearson(*halves)))
        for half, response in zip((~first, first), halves, strict=True):
            centred = response - response.mean()
            moment = np.asarray(before.T @ centred).ravel() / len(centred)
            scale = np.sqrt(np.maximum(squares, 0)) * centred.std()
            correlation += np.where(half, np.divide(moment, scale, out=np.zeros_like(moment), where=scale > 0), 0)
    whole = _along(change, effect, np.ones(len(effect), dtype=bool))
    return _adjusted(whole, depth, groups, keep_mean=True), float(np.mean(agreements)), correlation / n_splits


def _along(change: sparse.csr_matrix, effect: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Return the change of each cell along the mean change of some genes, in units of that."""
    direction = np.where(genes, effect, 0.0)
    return np.asarray(change @ direction).ravel() / max(float(direction @ direction), 1e-12)


def _adjusted(response: np.ndarray, depth: np.ndarray, groups: np.ndarray, *, keep_mean: bool = False) -> np.ndarray:
    """Subtract what the depth of the cells of each group explains, and their mean unless it is kept."""
    adjusted = response.copy()
    for name in np.unique(groups):
        rows = groups == name
        centred = depth[rows] - depth[rows].mean()
        slope = centred @ response[rows] / max(float(centred @ centred), 1e-12)
        adjusted[rows] -= slope * centred + (0.0 if keep_mean else response[rows].mean())
    return adjusted


def _gene_table(names: pd.Index, correlation: np.ndarray, n_cells: int) -> pd.DataFrame:
    """Return the genes whose expression goes with the response, the most significant first."""
    clipped = np.clip(correlation, -0.999999, 0.999999)
    p_values = 2 * norm.sf(np.abs(np.arctanh(clipped)) * np.sqrt(max(n_cells - 3, 1)))
    table = {"correlation": correlation, "p_value": p_values, "p_adjusted": false_discovery_control(p_values)}
    return pd.DataFrame(table, index=names.astype(str)).sort_values("p_value", kind="stable")


def _group_table(cells: pd.DataFrame, groups: np.ndarray, noise: float) -> pd.DataFrame:
    """Summarise the cells of every group."""
    by_group = cells.groupby(groups)
    variance = by_group["response"].var(ddof=0) - noise**2
    return pd.DataFrame(
        {
            "n_cells": by_group.size(),
            "response": by_group["response"].mean(),
            "spread": np.sqrt(variance.clip(lower=0)),
            "responding": by_group["responds"].mean(),
        }
    )


def _in_words(reliability: float, cells: pd.DataFrame, genes: pd.DataFrame) -> str:
    """Say how differently the cells respond, and by what."""
    if reliability < _LITTLE:
        return "The cells of a group respond alike, as far as their counts show."
    found = genes[genes["p_adjusted"] < 0.05]
    named = ", ".join(f"{name} ({row.correlation:+.2f})" for name, row in found.head(5).iterrows())
    by_what = f" It goes with {named} beforehand." if named else " No gene predicts which."
    return f"{cells['responds'].mean():.0%} of the cells respond (reliability {reliability:.2f}).{by_what}"
