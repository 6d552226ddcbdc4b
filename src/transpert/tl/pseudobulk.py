"""Tests of counts summed by replicate, with pydeseq2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert import pp
from transpert._anndata import frame, matrix_of
from transpert._matrices import as_dense
from transpert.errors import DependencyError, GroupSizeError, OptionError
from transpert.metrics import DifferentialExpression

from ._populations import check_labels

_MIN_REPLICATES = 2  # below, nothing says how much replicates differ
_FACTOR, _REPLICATE, _REFERENCE = "condition", "replicate", "reference"


def replicate_sums(
    counts: np.ndarray | sparse.spmatrix, labels: np.ndarray, replicates: np.ndarray
) -> tuple[np.ndarray, pd.DataFrame]:
    """Sum counts over the cells of each label and replicate."""
    table = pd.DataFrame({_FACTOR: labels, _REPLICATE: replicates})
    grouped = table.groupby([_FACTOR, _REPLICATE], sort=True, observed=True)
    codes = grouped.ngroup().to_numpy()
    member = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    dense = as_dense(member @ counts, None)
    rows = pd.DataFrame(list(grouped.groups), columns=[_FACTOR, _REPLICATE])
    return np.rint(dense).astype(np.int64), rows


def pseudobulk_tests(
    adata: AnnData,
    labels: np.ndarray,
    names: Sequence[str],
    control: str,
    *,
    counts_layer: str | None,
    replicate_key: str | None,
    paired: bool,
) -> dict[str, DifferentialExpression]:
    """Test the sums of each perturbation against those of the controls with the Wald test of DESeq2.

    One model is fitted to all of them, so that they share the dispersion of each gene.
    """
    try:
        from pydeseq2.dds import DeseqDataSet
        from pydeseq2.ds import DeseqStats
    except ImportError as error:
        raise DependencyError(
            "method='pseudobulk' needs pydeseq2", remedy="Install it with: pip install 'transpert[pseudobulk]'."
        ) from error
    sums, rows = _checked_sums(adata, labels, [*names, control], counts_layer, replicate_key)
    _check_replicates(rows, names, control, paired)
    # pydeseq2 reads names as a formula does; ours may hold a plus or a space
    levels = {control: _REFERENCE, **{name: f"level{i}" for i, name in enumerate(names)}}
    metadata = rows.assign(
        **{
            _FACTOR: pd.Categorical(rows[_FACTOR].map(levels), categories=list(levels.values())),
            _REPLICATE: pd.Categorical("r" + rows[_REPLICATE].factorize()[0].astype(str).astype(object)),
        }
    )
    metadata.index = metadata.index.astype(str)
    measured = sums.sum(axis=0) > 0
    counts = pd.DataFrame(sums[:, measured], index=metadata.index, columns=np.flatnonzero(measured).astype(str))
    design = f"~{_REPLICATE} + {_FACTOR}" if paired else f"~{_FACTOR}"
    model = DeseqDataSet(counts=counts, metadata=metadata, design=design, quiet=True, n_cpus=1)
    model.deseq2()
    tests = {}
    for name in names:
        result = DeseqStats(model, contrast=[_FACTOR, levels[name], _REFERENCE], quiet=True, n_cpus=1)
        result.summary()
        tests[name] = _as_tests(result.results_df, measured)
    return tests


def _checked_sums(
    adata: AnnData, labels: np.ndarray, used: Sequence[str], counts_layer: str | None, replicate_key: str | None
) -> tuple[np.ndarray, pd.DataFrame]:
    if replicate_key is None:
        raise OptionError(
            "method='pseudobulk' needs to know the replicates", remedy="Name their column of obs in replicate_key=."
        )
    check_labels(frame(adata.obs), (replicate_key,))
    counts, where = matrix_of(adata, counts_layer)
    pp.check_counts(counts, where=where)
    rows = np.flatnonzero(np.isin(labels, list(used)))
    return replicate_sums(counts[rows], labels[rows], adata.obs[replicate_key].astype(str).to_numpy()[rows])


def _check_replicates(rows: pd.DataFrame, names: Sequence[str], control: str, paired: bool) -> None:
    """Refuse groups that come from too few replicates."""
    found = rows.groupby(_FACTOR)[_REPLICATE].agg(set)
    few = [name for name in (*names, control) if len(found.get(name, ())) < _MIN_REPLICATES]
    if few:
        raise GroupSizeError(
            f"{len(few)} groups come from fewer than {_MIN_REPLICATES} replicates, for example {few[0]!r}",
            where="replicate_key",
            remedy="Leave them out with groups=, or test cells with method='wilcoxon'.",
        )
    apart = [name for name in names if len(found[name] & found[control]) < _MIN_REPLICATES] if paired else []
    if apart:
        raise GroupSizeError(
            f"{len(apart)} groups share fewer than {_MIN_REPLICATES} replicates with the controls, "
            f"for example {apart[0]!r}",
            where="replicate_key",
            remedy="Use paired=False.",
        )


def _as_tests(table: pd.DataFrame, measured: np.ndarray) -> DifferentialExpression:
    def spread(column: str, empty: float) -> np.ndarray:
        full = np.full(len(measured), empty)
        full[measured] = table[column].to_numpy(dtype=float, na_value=empty)
        return np.nan_to_num(full, nan=empty)

    return DifferentialExpression(
        spread("log2FoldChange", 0.0), spread("pvalue", 1.0), spread("padj", 1.0), spread("stat", 0.0)
    )
