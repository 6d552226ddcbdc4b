from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from transpert import pp
from transpert.conditions import Embedding
from transpert.data.readers.readers import AnnDataReader
from transpert.errors import BackedDataError, CellError, CountsError, GeneError
from transpert.pp.alignment import match_genes

COUNTS = np.random.default_rng(0).poisson(2.0, (20, 6)).astype(float)


@pytest.mark.parametrize("make", [np.array, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "not integers"), (-1.0, "negative"), (np.nan, "NaN or infinite"), (np.inf, "NaN or infinite")],
)
def test_counts_that_are_none_are_counted_and_named(make, value, message) -> None:
    broken = COUNTS.copy()
    broken[0, :2] = value
    with pytest.raises(CountsError, match=f"2 .*{message}.*layers"):
        pp.check_counts(make(broken), where="layers['counts']")


def test_log_data_and_counts_are_told_apart() -> None:
    log = np.log1p(COUNTS * 100)
    with pytest.raises(CountsError, match="look like log1p"):
        pp.check_counts(log, where="X")
    with pytest.raises(CountsError, match="all values are integers"):
        pp.check_log1p(COUNTS, where="X")
    with pytest.raises(CountsError, match="above log1p"):
        pp.check_log1p(COUNTS + 20.5, where="X")
    pp.check_counts(COUNTS, where="X")
    pp.check_log1p(log, where="X")


def test_normalisation_is_that_of_scanpy() -> None:
    adata = anndata.AnnData(sparse.csr_matrix(COUNTS + np.eye(20, 6)))
    ours = pp.log1p_per_10k(adata.X, pp.library_sizes(adata.X))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(ours.toarray(), adata.X.toarray(), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.permutations(list("abcdef")), st.integers(0, 3))
def test_alignment_finds_every_gene_by_name(order, n_extra) -> None:
    genes = [*order, *(f"extra{i}" for i in range(n_extra))]
    values = {gene: float(i) for i, gene in enumerate("abcdef")}
    matrix = np.array([[values.get(gene, 99.0) for gene in genes]])
    adata = anndata.AnnData(matrix, var=pd.DataFrame(index=genes))
    aligned, report = pp.align_genes(adata, list("abcdef"))
    assert aligned.X.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]
    assert len(report.extra) == n_extra
    assert report.reordered == (list(order) != sorted(order))


@pytest.mark.parametrize("make", [np.array, sparse.csr_matrix], ids=["dense", "sparse"])
def test_missing_genes_are_an_error_or_zero(make) -> None:
    adata = anndata.AnnData(make(COUNTS), var=pd.DataFrame(index=list("abcdef")))
    with pytest.raises(GeneError, match="1 of 3 genes are missing.*'z'"):
        pp.align_genes(adata, ["a", "z", "b"])
    aligned, report = pp.align_genes(adata, ["a", "z", "b"], max_missing=0.5)
    dense = aligned.X.toarray() if sparse.issparse(aligned.X) else aligned.X
    np.testing.assert_array_equal(dense, np.stack([COUNTS[:, 0], 0 * COUNTS[:, 0], COUNTS[:, 1]], axis=1))
    assert report.missing == ("z",)


def test_an_empty_x_is_said_to_be_empty(tmp_path) -> None:
    empty = anndata.AnnData(obs=pd.DataFrame(index=["a", "b"]), var=pd.DataFrame(index=["g"]))
    for refuse in (
        lambda: pp.check_counts(empty),
        lambda: pp.check_log1p(empty),
        lambda: Embedding.from_h5ad(empty, axis="var"),
        lambda: AnnDataReader(empty),
    ):
        with pytest.raises(CountsError, match="there are no values"):
            refuse()
    anndata.AnnData(np.eye(2)).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(BackedDataError, match="Give its path"):
        Embedding.from_h5ad(anndata.read_h5ad(tmp_path / "x.h5ad", backed="r"))


def test_duplicate_names_and_backed_files_are_refused(tmp_path) -> None:
    adata = anndata.AnnData(COUNTS, var=pd.DataFrame(index=list("abcdee")))
    with pytest.raises(GeneError, match="'e'.*var_names_make_unique.. if they are different genes, or"):
        pp.check_unique_names(adata)
    adata.var_names = list("abcdef")
    twice = anndata.AnnData(COUNTS, obs=pd.DataFrame(index=["c"] * len(COUNTS)))
    with pytest.raises(CellError, match="'c'.*obs_names_make_unique.. if they are different cells, or"):
        pp.check_unique_names(twice)
    adata.write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(BackedDataError, match="Store"):
        pp.check_not_backed(anndata.read_h5ad(tmp_path / "x.h5ad", backed="r"))


@pytest.mark.parametrize(
    ("here", "there", "remedy"),
    [
        (["Stat1", "Irf1", "Jak2"], ["STAT1", "IRF1", "OTHER"], r"in capitals alone.*str\.upper\(\)"),
        (
            ["ENSG00000000001", "ENSG00000000002"],
            ["ENSG00000000001.4", "ENSG00000000002.11"],
            "the version after a dot",
        ),
        (["ENSG00000000001", "ENSG00000000002"], ["STAT1", "IRF1"], r"Ensembl identifiers .*adata\.var\['gene_ids'\]"),
        (["STAT1", "IRF1"], ["A", "B"], "Use the same gene names in all data"),
    ],
)
def test_an_error_of_missing_genes_says_in_what_the_names_differ(here, there, remedy) -> None:
    with pytest.raises(GeneError, match=remedy):
        match_genes(pd.Index(there), here)
