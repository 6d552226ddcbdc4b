"""The plots and tables of scanpy on a prediction of this package."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc

import transpert as tp

PERTURBATIONS = ["P0", "P1", "P1+P2", "P2"]


@pytest.fixture
def tested(pred):
    tp.tl.rank_genes_groups(pred)
    return pred


def test_umap_shows_where_cells_come_from(pred, truth) -> None:
    together = tp.tl.embed_together(pred, truth, n_components=8, umap=False)
    together.obsm["X_umap"] = together.obsm["X_pca"][:, :2]
    axes = sc.pl.umap(together, color=["source", "perturbation"], show=False)
    assert [item.get_title() for item in axes] == ["source", "perturbation"]
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["control", "observed", "predicted"]


@pytest.mark.parametrize(
    "draw",
    [
        sc.pl.rank_genes_groups,
        sc.pl.rank_genes_groups_dotplot,
        sc.pl.rank_genes_groups_heatmap,
        sc.pl.rank_genes_groups_matrixplot,
        sc.pl.rank_genes_groups_stacked_violin,
        sc.pl.rank_genes_groups_tracksplot,
        sc.pl.rank_genes_groups_violin,
    ],
    ids=lambda draw: draw.__name__,
)
def test_every_plot_of_ranked_genes(tested, draw) -> None:
    options = {"groups": ["P0"]} if draw is sc.pl.rank_genes_groups_violin else {}
    if draw not in (sc.pl.rank_genes_groups, sc.pl.rank_genes_groups_violin):
        options = {"dendrogram": False}
    draw(tested, n_genes=3, show=False, **options)
    written = " ".join(text.get_text() for text in plt.gcf().findobj(mpl.text.Text))
    top = sc.get.rank_genes_groups_df(tested, group="P0")["names"].iloc[0]
    assert top in written


def test_fold_changes_in_a_dot_plot_need_a_category_less(tested) -> None:
    """Scanpy looks for statistics of every category, and the reference has none; without its cells it is drawn."""
    with pytest.raises(KeyError, match="control"):
        sc.pl.rank_genes_groups_dotplot(
            tested, n_genes=2, values_to_plot="logfoldchanges", dendrogram=False, show=False
        )
    perturbed = tested[tested.obs["source"] == "predicted"].copy()
    perturbed.obs["perturbation"] = perturbed.obs["perturbation"].cat.remove_unused_categories()
    sc.pl.rank_genes_groups_dotplot(perturbed, n_genes=2, values_to_plot="logfoldchanges", dendrogram=False, show=False)


def test_ranked_genes_as_a_table(tested) -> None:
    table = sc.get.rank_genes_groups_df(tested, group=None)
    assert list(table.columns) == ["group", "names", "scores", "logfoldchanges", "pvals", "pvals_adj"]
    assert table.groupby("group", observed=True).size().to_dict() == dict.fromkeys(PERTURBATIONS, tested.n_vars)
    assert np.isfinite(table[["scores", "logfoldchanges", "pvals", "pvals_adj"]]).all(axis=None)
    up = sc.get.rank_genes_groups_df(tested, group="P1", pval_cutoff=0.05, log2fc_min=0.5)
    means = {
        label: tested.X[(tested.obs["perturbation"] == label).to_numpy()].toarray().mean(axis=0)
        for label in ("P1", "control")
    }
    assert len(up) and (means["P1"] > means["control"])[tested.var_names.get_indexer(up["names"])].all()


def test_ranked_genes_are_filtered_by_scanpy(tested) -> None:
    sc.tl.filter_rank_genes_groups(tested, min_fold_change=1.5, min_in_group_fraction=0, max_out_group_fraction=1.1)
    kept = sc.get.rank_genes_groups_df(tested, group="P0", key="rank_genes_groups_filtered").dropna(subset="names")
    assert 0 < len(kept) < tested.n_vars


def test_dot_plot_of_predicted_populations(pred) -> None:
    plot = sc.pl.dotplot(pred, list(pred.var_names[:4]), groupby="perturbation", return_fig=True)
    assert plot.dot_color_df.index.tolist() == [*PERTURBATIONS, "control"]
    mean = pred.X[(pred.obs["perturbation"] == "P1").to_numpy()][:, :4].toarray().mean(axis=0)
    np.testing.assert_allclose(plot.dot_color_df.loc["P1"], mean, rtol=1e-4)


def test_the_usual_steps_of_scanpy(pred) -> None:
    """Highly variable genes, principal components, clusters of a tree, scores of a gene set."""
    sc.pp.highly_variable_genes(pred, n_top_genes=20)
    sc.pp.pca(pred, n_comps=5)
    sc.tl.dendrogram(pred, "perturbation", use_rep="X_pca")
    sc.tl.score_genes(pred, list(pred.var_names[:3]), ctrl_size=10)
    assert pred.var["highly_variable"].sum() == 20 and "dendrogram_perturbation" in pred.uns
    means = sc.get.aggregate(pred, by="perturbation", func="mean").layers["mean"]
    assert means.shape == (5, pred.n_vars)
