from __future__ import annotations

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import transpert as tp
from transpert.errors import ConditionError, CountsError, GroupSizeError, OptionError, UnknownNameError

KEYS = {"method": "pseudobulk", "replicate_key": "donor"}
N_GENES, N_CHANGED = 60, 10


@pytest.fixture(scope="module")
def donors() -> anndata.AnnData:
    """Four donors that differ a lot; one drug moves ten genes sixfold, the other ("A+B") none."""
    rng = np.random.default_rng(0)
    level = rng.uniform(2, 8, N_GENES)
    blocks, obs = [], []
    for donor in range(4):
        for name in ("control", "drug", "A+B"):
            # a donor differs from condition to condition as well: replicates, not cells, are independent
            mean = level * np.exp(rng.normal(0, 0.25, N_GENES))
            if name == "drug":
                mean[:N_CHANGED] *= 6
            blocks.append(rng.poisson(mean, (25, N_GENES)))
            obs += [(name, f"donor {donor}")] * 25
    counts = sparse.csr_matrix(np.concatenate(blocks).astype(np.float32))
    adata = anndata.AnnData(counts.copy(), obs=pd.DataFrame(obs, columns=["perturbation", "donor"]))
    adata.obs_names = adata.obs_names.astype(str)
    adata.obs = adata.obs.astype("category")
    adata.var_names = [f"gene {i}" for i in range(N_GENES)]
    adata.layers["counts"] = counts
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def significant(adata: anndata.AnnData, group: str) -> set[str]:
    table = sc.get.rank_genes_groups_df(adata, group=group, pval_cutoff=0.05)
    return set(table["names"])


def test_replicates_speak_where_cells_shout(donors) -> None:
    adata = donors.copy()
    tp.tl.rank_genes_groups(adata, **KEYS)
    changed = {f"gene {i}" for i in range(N_CHANGED)}
    assert significant(adata, "drug") >= changed
    assert len(significant(adata, "A+B")) <= 3
    table = sc.get.rank_genes_groups_df(adata, group="drug").set_index("names")
    np.testing.assert_allclose(table.loc[sorted(changed), "logfoldchanges"], np.log2(6), atol=1.0)
    tp.tl.rank_genes_groups(adata)
    assert len(significant(adata, "A+B")) > 15


def test_pseudobulk_is_what_pydeseq2_says(donors) -> None:
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    adata = donors[donors.obs["perturbation"] != "A+B"].copy()
    tp.tl.rank_genes_groups(adata, **KEYS, paired=True)
    # scanpy sums by hand
    sums = sc.get.aggregate(adata, ["perturbation", "donor"], func="sum", layer="counts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DeseqDataSet(
            counts=pd.DataFrame(sums.layers["sum"].astype(int), sums.obs_names, sums.var_names),
            metadata=sums.obs,
            design="~donor + perturbation",
            n_cpus=1,
            quiet=True,
        )
        model.deseq2()
        test = DeseqStats(model, contrast=["perturbation", "drug", "control"], quiet=True, n_cpus=1)
        test.summary()
    ours = sc.get.rank_genes_groups_df(adata, group="drug").set_index("names").loc[adata.var_names]
    np.testing.assert_allclose(ours["scores"], test.results_df["stat"], rtol=1e-4)
    np.testing.assert_allclose(ours["pvals"], test.results_df["pvalue"].fillna(1), rtol=1e-6)
    np.testing.assert_allclose(ours["pvals_adj"], test.results_df["padj"].fillna(1), rtol=1e-6)


def test_pseudobulk_is_in_scanpys_slot(donors, tmp_path) -> None:
    adata = donors.copy()
    adata.layers["counts"][:, 3] = 0
    tp.tl.rank_genes_groups(adata, **KEYS, groups=["drug"])
    assert sc.get.rank_genes_groups_df(adata, group="drug").set_index("names").loc["gene 3", "pvals"] == 1
    adata.write_h5ad(tmp_path / "x.h5ad")
    again = sc.get.rank_genes_groups_df(anndata.read_h5ad(tmp_path / "x.h5ad"), group="drug")
    assert len(again) == N_GENES
    for draw in (sc.pl.rank_genes_groups, sc.pl.rank_genes_groups_dotplot, sc.pl.rank_genes_groups_violin):
        draw(adata, n_genes=3, show=False)


def test_pseudobulk_says_what_is_missing(donors) -> None:
    with pytest.raises(OptionError, match="replicates"):
        tp.tl.rank_genes_groups(donors, method="pseudobulk")
    with pytest.raises(UnknownNameError, match="donor"):
        tp.tl.rank_genes_groups(donors, method="pseudobulk", replicate_key="doner")
    with pytest.raises(CountsError, match="not integers"):
        tp.tl.rank_genes_groups(donors, **KEYS, counts_layer=None)
    with pytest.raises(UnknownNameError, match="drugs"):
        tp.tl.rank_genes_groups(donors, **KEYS, groups=["drugs"])
    one = donors[donors.obs["donor"] == "donor 0"].copy()
    with pytest.raises(GroupSizeError, match="fewer than 2 replicates"):
        tp.tl.rank_genes_groups(one, **KEYS)
    apart = donors.copy()
    apart.obs["donor"] = apart.obs["donor"].astype(str) + apart.obs["perturbation"].astype(str)
    with pytest.raises(GroupSizeError, match="share"):
        tp.tl.rank_genes_groups(apart, **KEYS, paired=True)
    torn = donors.copy()
    torn.obs["donor"] = np.where(np.arange(torn.n_obs) < 3, None, torn.obs["donor"].astype(object))
    with pytest.raises(ConditionError, match="3 cells have no value .in obs..donor"):
        tp.tl.rank_genes_groups(torn, **KEYS)
    assert "rank_genes_groups" not in donors.uns
