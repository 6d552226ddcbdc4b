"""Differential expression against controls, in the slot and layout of scanpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse
from scipy.stats import ttest_ind_from_stats

from transpert import _keys
from transpert._anndata import frame, metadata_of, modality_of, modality_to_write
from transpert._arguments import check_arguments, check_choice, name_list
from transpert._matrices import as_dense
from transpert.conditions.labels import Controls
from transpert.conditions.written import label_texts
from transpert.errors import ControlError, check_known, list_names, warn_user
from transpert.groups import Design
from transpert.metrics import Convention, DifferentialExpression, RankSums
from transpert.metrics.differential_expression import assemble

from ._populations import check_labels, design_of, log_values
from ._rank_tests import tests_against
from .pseudobulk import pseudobulk_tests

type Matrix = np.ndarray | sparse.csr_matrix

_SCANPY = Convention(mean="geometric", pseudo_rate=1e-9)  # how scanpy takes fold changes


def rank_genes_groups(
    data: AnnData | MuData,
    *,
    method: Literal["wilcoxon", "t-test", "pseudobulk"] = "wilcoxon",
    design: Design | None = None,
    perturbation_key: str | None = None,
    control: Controls | None = None,
    groups: str | Sequence[str] | None = None,
    layer: str | None = None,
    counts_layer: str | None = _keys.COUNTS_LAYER,
    replicate_key: str | None = None,
    paired: bool = False,
    modality: str | None = None,
    key_added: str = _keys.RANK_GENES,
) -> None:
    """Test every gene of each perturbation against the controls, as :func:`scanpy.tl.rank_genes_groups` does.

    Contexts, doses, times and directions are pooled: all cells of a perturbation are tested against all controls. What
    differs between contexts counts as an effect where a perturbation and the controls are not of the same ones; test
    one context after the other to tell them apart.

    Parameters
    ----------
    data
        Predicted or observed cells with their controls; log1p counts per 10k in ``X``.
    method
        ``"wilcoxon"`` (tie-corrected) or Welch's ``"t-test"`` of cells; or ``"pseudobulk"``, which sums raw
        counts by replicate and tests the sums with DESeq2 (needs the extra ``pseudobulk``). Cells of one replicate
        resemble each other, and tests of cells take them for independent: only ``"pseudobulk"`` speaks of replicates.
    design, perturbation_key, control
        The columns of ``obs``, or the column and the label alone; by default what a prediction of this package says.
    groups
        Perturbations to test, or one; all by default.
    layer
        Layer with log1p counts per 10k, in place of ``X``.
    counts_layer
        Layer with raw counts, for ``"pseudobulk"``; ``None`` for ``X``.
    replicate_key
        Column of ``obs`` with the replicate (donor, plate, ...), for ``"pseudobulk"``.
    paired
        With ``"pseudobulk"``, give each replicate a level of its own: for replicates that have controls and perturbed
        cells.
    modality
        Modality of a MuData.
    key_added
        Where in ``uns`` to write.

    Returns
    -------
    Nothing; writes ``uns[key_added]`` exactly as scanpy does, so that :func:`scanpy.get.rank_genes_groups_df` and every
    ``sc.pl.rank_genes_groups*`` read it. The ``logfoldchanges`` of tests of cells are scanpy's own, of geometric means:
    ``log2((expm1(m1) + 1e-9) / (expm1(m0) + 1e-9))`` of the mean log1p values ``m1`` and ``m0``. They can differ, in
    sign too, from those of arithmetic means, which :func:`effects` and the metrics of this package take. Those of
    ``"pseudobulk"`` are DESeq2's.

    Raises
    ------
    transpert.errors.ConditionError
        If a label is missing in some cells.
    transpert.errors.ControlError
        If there are no control cells, or no others.
    transpert.errors.CountsError
        If the values are not log1p counts per 10k, or for ``"pseudobulk"`` no counts.
    transpert.errors.GroupSizeError
        If a perturbation has fewer than two replicates, for ``"pseudobulk"``.
    transpert.errors.DependencyError
        If pydeseq2 is needed and not installed.

    Warns
    -----
    transpert.errors.AssumptionWarning
        If a prediction of this package has perturbations and controls of different contexts.

    Examples
    --------
    >>> import scanpy as sc, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=50, n_cells=40)
    >>> tp.tl.rank_genes_groups(adata)
    >>> sc.get.rank_genes_groups_df(adata, group="P0").shape
    (50, 5)
    """
    check_arguments(locals())
    check_choice(method, ("wilcoxon", "t-test", "pseudobulk"), name="method")
    adata = modality_of(data, modality)
    design = design_of(adata, design=design, perturbation_key=perturbation_key, control=control, context_keys=())
    check_labels(frame(adata.obs), (design.perturbation_key,))
    column = frame(adata.obs)[design.perturbation_key]
    # one label for controls, however they are spelled
    labels = np.where(design.label_format.control_cells(column), design.control, label_texts(column))
    known = sorted(set(labels) - {design.control})
    names = known if groups is None else name_list(groups)
    check_known("perturbation", names, known, where=f"obs[{design.perturbation_key!r}]")
    n_controls = int(np.count_nonzero(labels == design.control))
    if n_controls < 2 or not names:
        raise ControlError(
            f"{n_controls} cells are labelled {design.control!r} and {len(names)} other labels exist",
            where=f"obs[{design.perturbation_key!r}]",
            remedy="Predict with include_controls=True.",
        )
    _warn_of_contexts(adata, labels, names, design.control)
    if method == "pseudobulk":
        tables = pseudobulk_tests(
            adata,
            labels,
            names,
            design.control,
            counts_layer=counts_layer,
            replicate_key=replicate_key,
            paired=paired,
        )
    else:
        values = log_values(adata, layer, where="the cells")
        rows = {str(label): np.asarray(found) for label, found in pd.Series(labels).groupby(labels).indices.items()}
        cells = {name: (values, rows[name]) for name in names}
        test = _rank_tests if method == "wilcoxon" else _t_tests
        tables = test(values[rows[design.control]], cells)
    modality_to_write(data, modality).uns[key_added] = {
        "params": {
            "groupby": design.perturbation_key,
            "reference": design.control,
            "method": method,
            "use_raw": False,
            "layer": counts_layer if method == "pseudobulk" else layer,
            "corr_method": "benjamini-hochberg",
        },
        **_records(tables, np.asarray(adata.var_names, dtype=str)),
    }


def _warn_of_contexts(adata: AnnData, labels: np.ndarray, names: Sequence[str], control: str) -> None:
    """Say which perturbations are compared with cells of other contexts, where the cells say their contexts."""
    said = metadata_of(adata).get("design", {}).get("context_keys")
    keys = [str(key) for key in (() if said is None else said) if key in adata.obs]
    if not keys:
        return
    contexts = frame(adata.obs).groupby(keys, observed=True, dropna=False).ngroup()
    there = pd.Series(contexts.to_numpy()).groupby(labels).agg(set)
    apart = [name for name in names if there[name] != there[control]]
    if apart:
        warn_user(
            f"{len(apart)} perturbations are not of the same contexts as the controls that they are tested against, "
            f"for contexts are pooled: {list_names(apart)}. What differs between contexts counts as an effect: test "
            f"one context after the other, such as adata[adata.obs[{keys[0]!r}] == ...].copy()."
        )


def _rank_tests(controls: Matrix, groups: Mapping[str, tuple[Matrix, np.ndarray]]) -> dict[str, DifferentialExpression]:
    return tests_against(controls, groups, _SCANPY)


def _t_tests(controls: Matrix, groups: Mapping[str, tuple[Matrix, np.ndarray]]) -> dict[str, DifferentialExpression]:
    """Test each group against the controls with Welch's t-test."""

    def moments(matrix: Matrix) -> tuple[np.ndarray, np.ndarray, int]:
        dense = as_dense(matrix)
        return dense.mean(axis=0), dense.std(axis=0, ddof=1), len(dense)

    m0, s0, n0 = moments(controls)
    tables = {}
    for name, (values, rows) in groups.items():
        m1, s1, n1 = moments(values[rows])
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic, p_value = ttest_ind_from_stats(m1, s1, n1, m0, s0, n0, equal_var=False)
        tests = RankSums(np.nan_to_num(p_value, nan=1.0), np.nan_to_num(statistic))
        # a mean of log1p is a geometric one
        tables[name] = assemble(tests, np.expm1(m1), np.expm1(m0), np.expm1(m0), _SCANPY)
    return tables


def _records(tables: dict[str, DifferentialExpression], genes: np.ndarray) -> dict[str, np.ndarray]:
    """Arrange tests as record arrays, genes of a group sorted by score."""
    order = {name: np.argsort(-table.z_score, kind="stable") for name, table in tables.items()}

    def record(pick, dtype: str) -> np.ndarray:
        columns = [pick(table)[order[name]] for name, table in tables.items()]
        return np.rec.fromarrays(columns, dtype=[(name, dtype) for name in tables])

    return {
        "names": record(lambda t: genes, "O"),
        "scores": record(lambda t: t.z_score, "float32"),
        "pvals": record(lambda t: t.p_value, "float64"),
        "pvals_adj": record(lambda t: t.adjusted, "float64"),
        "logfoldchanges": record(lambda t: t.log2_fold_change, "float32"),
    }
