"""The tools of pertpy on a prediction of this package.

Where pertpy cannot take something, a test pins what happens and why, so that a version that can is noticed.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pertpy as pt
import pytest
from pydeseq2.default_inference import DefaultInference
from scipy.spatial.distance import cdist, pdist
from scipy.stats import mannwhitneyu, ttest_ind

import transpert as tp

PERTURBATIONS = ["P0", "P1", "P1+P2", "P2"]


def rows(adata, label):
    return (adata.obs["perturbation"] == label).to_numpy()


def to_controls(metric, adata, **options):
    return pt.tl.Distance(metric, **options).onesided_distances(
        adata, groupby="perturbation", selected_group="control", show_progressbar=False, n_jobs=1
    )


# ---------------------------------------------------------------------------------------------------- distances
@pytest.mark.parametrize(
    "metric", ["edistance", "mmd", "euclidean", "mse", "pearson_distance", "sym_kldiv", "t_test", "mahalanobis"]
)
def test_distances_from_predicted_cells_to_their_controls(embedded, metric) -> None:
    distances = to_controls(metric, embedded)
    assert set(distances.index) == {*PERTURBATIONS, "control"}
    assert distances["control"] == 0 and (distances[PERTURBATIONS] > 0).all()


def test_energy_distance_is_that_of_its_definition(embedded) -> None:
    cells, controls = (embedded.obsm["X_pca"][rows(embedded, label)].astype(float) for label in ("P0", "control"))
    # pairs of a cell with itself are counted; transpert.metrics.energy_distance does so with self_pairs=True
    within = [2 * pdist(x).sum() / len(x) ** 2 for x in (cells, controls)]
    expected = 2 * cdist(cells, controls).mean() - sum(within)
    assert to_controls("edistance", embedded)["P0"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("metric", ["edistance", "mmd"])
def test_predicted_cells_are_nearer_to_the_real_ones_than_controls_are(pred, truth, metric) -> None:
    """Observed, predicted and control cells in one embedding of the real ones: what a user compares."""
    together = tp.tl.embed_together(pred, truth, n_components=8, umap=False)
    for label in ("P0", "P1+P2"):
        here = together[rows(together, label) | rows(together, "control")].copy()
        distances = pt.tl.Distance(metric).onesided_distances(
            here, groupby="source", selected_group="observed", show_progressbar=False, n_jobs=1
        )
        assert distances["predicted"] < distances["control"]


@pytest.mark.parametrize("metric", ["edistance", "mmd", "euclidean"])
def test_distances_of_pertpy_between_predicted_and_observed_cells(pred, truth, metric) -> None:
    found = tp.tl.distances(pred, truth, metric=metric, n_components=8)
    together = tp.tl.embed_together(pred, truth, n_components=8, umap=False)
    source, spaces = together.obs["source"], together.obsm["X_pca"].astype(float)
    assert set(found["perturbation"]) == set(PERTURBATIONS)
    for row in found.itertuples():
        context = (together.obs["context"] == row.context).to_numpy()
        here = {
            kind: spaces[context & (source == kind).to_numpy() & rows(together, label)]
            for kind, label in (("predicted", row.perturbation), ("observed", row.perturbation), ("control", "control"))
        }
        distance = pt.tl.Distance(metric)
        assert row.predicted == pytest.approx(distance(here["predicted"], here["observed"]), rel=1e-4)
        assert row.control == pytest.approx(distance(here["control"], here["observed"]), rel=1e-4)
        assert row.left == pytest.approx(row.predicted / row.control)


def test_distances_that_pertpy_does_not_know_or_cannot_compute_are_named(pred, truth) -> None:
    with pytest.raises(tp.errors.UnknownNameError, match="Did you mean 'edistance'"):
        tp.tl.distances(pred, truth, metric="e-distance")
    if find_spec("ott") is None:
        with pytest.raises(tp.errors.DependencyError, match="'wasserstein' needs more than pertpy"):
            tp.tl.distances(pred, truth, metric="wasserstein", n_components=4)


def test_combinations_are_near_to_their_parts(embedded) -> None:
    table = pt.tl.Distance("edistance").pairwise(embedded, groupby="perturbation", show_progressbar=False, n_jobs=1)
    np.testing.assert_allclose(table, table.T)
    assert table.loc["P1+P2", ["P0", "P2"]].max() < table.loc["P1+P2", "control"]


def test_distances_of_counts_need_a_dense_layer(pred) -> None:
    """Pertpy 1.4 asks a sparse layer for its length; the layer of counts is CSR, as scanpy and scvi-tools want it."""
    with pytest.raises(TypeError, match="sparse array length is ambiguous"):
        to_controls("edistance", pred, layer_key="counts")
    pred.layers["dense"] = pred.layers["counts"].toarray()
    assert (to_controls("edistance", pred, layer_key="dense")[PERTURBATIONS] > 0).all()


def test_wasserstein_distance_where_its_extra_is_installed(embedded) -> None:
    """Pertpy computes it with JAX and OTT, which are an extra of pertpy, large, and needed by nothing else here."""
    if find_spec("ott") is None:
        with pytest.raises(ImportError, match=r"pertpy\[jax\]"):
            to_controls("wasserstein", embedded)
    else:
        distances = to_controls("wasserstein", embedded)
        assert (distances[PERTURBATIONS] > 0).all()


def test_permutation_test_finds_what_was_predicted(embedded) -> None:
    some = embedded[rows(embedded, "P0") | rows(embedded, "control")].copy()
    # a second half of the controls: what no perturbation looks like
    controls = np.flatnonzero(rows(some, "control"))
    some.obs["group"] = some.obs["perturbation"].astype(str)
    some.obs.iloc[controls[::2], some.obs.columns.get_loc("group")] = "other controls"
    table = pt.tl.DistanceTest("edistance", n_perms=60)(
        some, groupby="group", contrast="control", show_progressbar=False
    )
    assert table.loc["P0", "pvalue"] == pytest.approx(1 / 60)
    assert table.loc["other controls", "pvalue"] > 0.05


# ------------------------------------------------------------------------------------------ perturbation spaces
def test_centroids_are_cells_nearest_to_the_mean(embedded) -> None:
    space = pt.tl.CentroidSpace().compute(embedded, target_col="perturbation", embedding_key="X_pca")
    assert space.obs_names.tolist() == [*PERTURBATIONS, "control"]
    cells = embedded.obsm["X_pca"][rows(embedded, "P1")]
    nearest = cells[np.argmin(np.linalg.norm(cells - cells.mean(axis=0), axis=1))]
    np.testing.assert_array_equal(space["P1"].X.ravel(), nearest)
    # what is the same for all cells of a perturbation is kept
    assert space.obs["source"].astype(str).to_dict() == dict.fromkeys(PERTURBATIONS, "predicted") | {
        "control": "control"
    }


def test_pseudobulks_are_sums_of_the_counts(pred) -> None:
    space = pt.tl.PseudobulkSpace().compute(pred, target_col="perturbation", groups_col="batch", layer_key="counts")
    assert space.n_obs == 5 * 3
    here = rows(pred, "P2") & (pred.obs["batch"] == "batch_1").to_numpy()
    bulk = space[(space.obs["perturbation"] == "P2") & (space.obs["batch"] == "batch_1")]
    np.testing.assert_array_equal(bulk.X.ravel(), pred.layers["counts"][here].sum(axis=0).A1)


def test_control_differences_are_shifts_against_the_control_mean(pred) -> None:
    space = pt.tl.PseudobulkSpace()
    shifted = space.compute_control_diff(pred, target_col="perturbation", reference_key="control")
    control = pred.X[rows(pred, "control")].mean(axis=0)
    np.testing.assert_allclose(shifted.X, pred.X - control, atol=1e-5)
    by_batch = space.compute_control_diff(pred, target_col="perturbation", group_col="batch", layer_key="counts")
    assert by_batch.layers["control_diff"].shape == pred.shape
    # pertpy says so where scanpy and others are silent
    with pytest.raises(ValueError, match="control not found"):
        space.compute_control_diff(pred[~rows(pred, "control")].copy(), target_col="perturbation")


def test_predicted_combinations_are_compared_with_the_sum_of_their_parts(pred) -> None:
    space = pt.tl.PseudobulkSpace()
    bulks = space.compute(pred, target_col="perturbation", mode="mean")
    table = space.evaluate_combinations(bulks, target_col="perturbation", reference_key="control")
    assert table.index.tolist() == ["P1+P2"]
    # the model was trained on combinations that are sums, and predicts one
    assert table.loc["P1+P2", "distance"] < 0.1


def test_a_space_of_distances_and_one_of_classifiers(embedded) -> None:
    distances = pt.tl.DistanceSpace().compute(embedded, target_col="perturbation", n_jobs=1)
    assert distances.obsp["distances"].shape == (5, 5)
    classified = pt.tl.LRClassifierSpace().compute(embedded, target_col="perturbation", embedding_key="X_pca")
    assert set(classified.obs["perturbation"]) == {*PERTURBATIONS, "control"}


# ---------------------------------------------------------------------------------------- differential expression
@pytest.mark.parametrize(
    ("test", "reference"), [(pt.tl.WilcoxonTest, mannwhitneyu), (pt.tl.TTest, ttest_ind)], ids=["wilcoxon", "t-test"]
)
def test_simple_tests_of_predicted_cells(pred, test, reference) -> None:
    table = test.compare_groups(pred, column="perturbation", baseline="control", groups_to_compare=["P0", "P1+P2"])
    assert set(table["comparison"]) == {"P0_vs_control", "P1+P2_vs_control"}
    mine = table[table["comparison"] == "P0_vs_control"].set_index("variable")
    control, treated = (pred.X[rows(pred, label)].toarray() for label in ("control", "P0"))
    expected = reference(control, treated).pvalue
    np.testing.assert_allclose(mine.loc[pred.var_names, "p_value"], expected, rtol=1e-3, atol=1e-30)
    tp.tl.rank_genes_groups(pred)
    ours = dict(zip(*(pred.uns["rank_genes_groups"][k]["P0"] for k in ("names", "pvals")), strict=True))
    if test is pt.tl.WilcoxonTest:
        assert np.corrcoef(np.log(mine["p_value"]), np.log([ours[gene] for gene in mine.index]))[0, 1] > 0.999


def test_without_controls_tests_are_undefined_and_silent(pred) -> None:
    """Pertpy compares with an empty group and returns NaN; this is why predictions carry their controls."""
    alone = pred[~rows(pred, "control")].copy()
    table = pt.tl.WilcoxonTest.compare_groups(
        alone, column="perturbation", baseline="control", groups_to_compare=["P0"]
    )
    assert table["p_value"].isna().all()
    with pytest.raises(tp.errors.ControlError):
        tp.tl.rank_genes_groups(alone)


def test_pydeseq2_takes_the_integer_counts(pred) -> None:
    some = pred[rows(pred, "P0") | rows(pred, "control"), :20].copy()
    bulks = pt.tl.PseudobulkSpace().compute(some, target_col="perturbation", groups_col="batch", layer_key="counts")
    table = pt.tl.PyDESeq2.compare_groups(
        bulks,
        column="perturbation",
        baseline="control",
        groups_to_compare=["P0"],
        fit_kwargs={"quiet": True, "n_cpus": 1},
        # its second step would start a process for every core
        test_kwargs={"quiet": True, "inference": DefaultInference(n_cpus=1)},
    ).set_index("variable")
    sums = {
        label: np.asarray(some.layers["counts"][rows(some, label)].sum(axis=0)).ravel() for label in ("P0", "control")
    }
    expected = np.log2(sums["P0"] / sums["P0"].sum()) - np.log2(sums["control"] / sums["control"].sum())
    assert np.corrcoef(table.loc[some.var_names, "log_fc"], expected)[0, 1] > 0.99
    assert (table["adj_p_value"] < 0.05).any()


def test_pydeseq2_refuses_log_values(pred) -> None:
    bulks = pt.tl.PseudobulkSpace().compute(pred, target_col="perturbation", groups_col="batch", mode="mean")
    with pytest.raises(ValueError, match="count matrix"):
        pt.tl.PyDESeq2(bulks, design="~perturbation")


# ------------------------------------------------------------------------------------------------------ mixscape
def test_mixscape_takes_nearly_all_predicted_cells_for_perturbed(pred) -> None:
    """Escaped cells are not predicted: the model moves every control cell. In real data some have no effect."""
    some = pred[rows(pred, "P0") | rows(pred, "control")].copy()
    mixscape = pt.tl.Mixscape()
    # one reference for each batch; nearest neighbours would compile for longer than all the rest takes
    mixscape.perturbation_signature(some, "perturbation", "control", ref_selection_mode="split_by", split_by="batch")
    mixscape.mixscape(some, "perturbation", "control", layer="X_pert")
    classes = some.obs["mixscape_class_global"].astype(str)
    assert set(classes[rows(some, "control")]) == {"control"}
    assert (classes[rows(some, "P0")] == "KO").mean() > 0.9
