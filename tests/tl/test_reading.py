"""The same scores, wherever the cells are and whoever computes."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata.experimental import read_lazy
from distributed import Client, LocalCluster
from scipy import sparse

import transpert as tp
from transpert.data.readers import files as files_of_cells
from transpert.errors import CountsError, GeneError, MetricInputError, OptionError, StoreError, UnknownNameError
from transpert.tl import evaluation

OPTIONS = {
    "context_keys": ["context"],
    "metrics": ["pearson_delta", "overlap_at_n", "energy_distance", "pearson_edistance", "discrimination_score_l2"],
    "progress": False,
    "n_bootstrap": 50,
}
FEW_CONTROLS = tp.tl.EvaluationOptions(max_controls=20)


@pytest.fixture(scope="module")
def pair(_screen):
    """Truth of two contexts, sparse, and a dense prediction of them in another order."""
    truth = _screen[_screen.obs["context"].isin(["context_0", "context_1"])].copy()
    pred = truth[::-1].copy()
    noisy = pred.X.toarray() + np.random.default_rng(0).normal(0, 0.3, pred.shape)
    pred.X = np.clip(noisy, 0, 9).astype(np.float32)
    return pred, truth


@pytest.fixture(scope="module")
def expected(pair) -> pd.DataFrame:
    return tp.tl.evaluate(*pair, **OPTIONS)


@pytest.fixture(scope="module")
def files(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, adata in zip(("pred", "truth"), pair, strict=True):
        adata.write_h5ad(folder / f"{name}.h5ad")
        adata.write_zarr(folder / f"{name}.zarr")
    return folder


def opened(folder, name: str, how: str):
    path = folder / f"{name}.{'zarr' if how.endswith('zarr') else 'h5ad'}"
    if how.startswith("path"):
        return str(path)
    return anndata.read_h5ad(path, backed="r") if how == "backed" else read_lazy(path)


@pytest.mark.parametrize("how", ["path h5ad", "path zarr", "backed", "lazy h5ad", "lazy zarr"])
def test_scores_do_not_depend_on_where_the_cells_are(files, expected, how) -> None:
    pred, truth = (opened(files, name, how) for name in ("pred", "truth"))
    scores = tp.tl.evaluate(pred, truth, **OPTIONS)
    pd.testing.assert_frame_equal(scores, expected, check_exact=True)
    if not isinstance(truth, str):
        pd.testing.assert_frame_equal(truth.uns["transpert"]["scores"], scores)


def test_only_the_rows_that_are_needed_are_read(files, monkeypatch) -> None:
    read = []
    take = files_of_cells.take_rows
    monkeypatch.setattr(files_of_cells, "take_rows", lambda matrix, rows: read.append(len(rows)) or take(matrix, rows))
    tp.tl.evaluate(files / "pred.h5ad", files / "truth.h5ad", ceiling=True, **OPTIONS)
    # some cells to compare the scales, then one population at a time, each once: 2 contexts x (controls + 4
    # populations, real and predicted)
    scales, populations = read[: -2 * (1 + 2 * 4)], read[-2 * (1 + 2 * 4) :]
    assert max(populations) == 120 and max(scales) <= 128


@pytest.mark.parametrize("source", ["memory", "path"])
def test_workers_compute_the_same(pair, files, expected, source) -> None:
    pred, truth = pair if source == "memory" else (files / "pred.h5ad", files / "truth.zarr")
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            scores = tp.tl.evaluate(pred, truth, options=tp.tl.EvaluationOptions(client=client), **OPTIONS)
            pd.testing.assert_frame_equal(scores, expected, check_exact=True)
            wrong = pair[0].copy()
            wrong.X[:] = 0
            with pytest.raises(OptionError):
                tp.tl.evaluate(wrong, truth, options=tp.tl.EvaluationOptions(client=client, max_controls=1), **OPTIONS)


def test_genes_in_another_order_are_read_in_that_of_the_truth(pair, files, tmp_path, expected) -> None:
    pred = pair[0][:, ::-1].copy()
    pred.write_h5ad(tmp_path / "pred.h5ad")
    with pytest.warns(tp.errors.AssumptionWarning, match="80 of 80 genes found, 0 missing, 0 dropped, reordered"):
        scores = tp.tl.evaluate(tmp_path / "pred.h5ad", files / "truth.h5ad", **OPTIONS)
    pd.testing.assert_frame_equal(scores, expected)
    assert scores.attrs["genes"] == {"prediction": "80 of 80 genes found, 0 missing, 0 dropped, reordered"}


def test_all_predictions_are_scored_on_the_genes_they_share(pair) -> None:
    pred, truth = pair
    short = pred[:, 4:].copy()
    with pytest.warns(tp.errors.AssumptionWarning, match="76 genes they share"):
        both = tp.tl.evaluate(
            {"short": short, "full": pred}, truth, options=tp.tl.EvaluationOptions(max_missing_genes=0.1), **OPTIONS
        )
    table = tp.tl.score_table(both)
    pd.testing.assert_series_equal(table.loc["short"], table.loc["full"], check_names=False)


def test_controls_are_sampled_when_asked(pair) -> None:
    once, again, other = (
        tp.tl.evaluate(*pair, options=tp.tl.EvaluationOptions(max_controls=20), **{**OPTIONS, "seed": seed})["value"]
        for seed in (0, 0, 1)
    )
    pd.testing.assert_series_equal(once, again)
    assert not np.allclose(once, other, equal_nan=True)


def test_no_value_depends_on_which_others_are_computed(pair, expected) -> None:
    for metric in OPTIONS["metrics"]:
        alone = tp.tl.evaluate(*pair, **{**OPTIONS, "metrics": [metric]})["value"].to_numpy()
        np.testing.assert_array_equal(alone, expected.loc[expected["metric"] == metric, "value"])


@pytest.mark.parametrize("options", [{}, {"max_controls": 20}, {"max_controls": 20, "reference": "predicted"}])
def test_no_value_depends_on_which_other_populations_are_predicted(pair, options) -> None:
    pred, truth = pair
    truth = truth.copy()
    truth.obs["split"] = np.where(truth.obs["perturbation"].isin(["control", "P0"]), "train", "test")
    asked = {**OPTIONS, "metrics": ["mse_delta", "energy_distance"], "baselines": "KernelTransport"}
    asked["options"] = tp.tl.EvaluationOptions(**options)
    last = (pred.obs["context"] == "context_1") & (pred.obs["perturbation"] == "P2")
    kept = (pred.obs["perturbation"] == "control") | last
    own = pred[(pred.obs["perturbation"] != "P0").to_numpy()].copy()
    together, alone = (tp.tl.evaluate(some, truth, **asked) for some in (own, pred[kept.to_numpy()].copy()))
    keys = ["model", "context", "perturbation", "metric"]
    alone = alone[alone["perturbation"] == "P2"].set_index(keys)["value"]
    assert len(alone) == 6
    pd.testing.assert_series_equal(alone, together.set_index(keys)["value"].loc[alone.index])


def test_controls_of_an_audit_do_not_depend_on_which_others_are_judged(pair) -> None:
    pred, truth = pair

    def values(*keys: tuple[str, str]) -> pd.Series:
        chosen = [key in keys for key in zip(pred.obs["context"], pred.obs["perturbation"], strict=True)]
        table = tp.tl.audit(pred[chosen].copy(), truth, **{**OPTIONS, "metrics": ["mse_delta"]}, options=FEW_CONTROLS)
        # the mean of the other perturbations is about the others
        table = table[(table["metric"] == "mse_delta") & (table["knows"] != "other perturbations")]
        return table.set_index("prediction")["value"]

    one, other = ("context_0", "P1"), ("context_1", "P2")
    pd.testing.assert_series_equal(values(one, other), (values(one) + values(other)) / 2)


def test_populations_are_gone_through_once_however_many_contexts_there_are(pair, monkeypatch) -> None:
    truth = pair[1].copy()
    numbers = np.arange(truth.n_obs)
    truth.obs["context"] = [f"c{number % 12}" for number in numbers]
    truth.obs["perturbation"] = np.where(numbers % 24 < 12, "control", "P0")
    read = []

    class Counted(list):
        def __iter__(self):
            read.append(len(self))
            return super().__iter__()

    original = evaluation.wanted_populations
    monkeypatch.setattr(evaluation, "wanted_populations", lambda *parts: Counted(original(*parts)))
    tp.tl.evaluate(truth, truth, **{**OPTIONS, "metrics": ["mse_delta"]})
    assert read
    assert len(read) < 5


def test_a_file_without_x_is_read_by_its_layer(pair, files, tmp_path) -> None:
    bare = anndata.AnnData(obs=pair[0].obs, var=pair[0].var, layers={"log": pair[0].X})
    bare.write_h5ad(tmp_path / "bare.h5ad")
    truth = pair[1].copy()
    truth.layers["log"] = truth.X
    asked = {**OPTIONS, "metrics": ["mse_delta"]}
    scores = tp.tl.evaluate(tmp_path / "bare.h5ad", truth, layer="log", **asked)
    pd.testing.assert_frame_equal(scores, tp.tl.evaluate(pair[0], pair[1], **asked))
    for data in (tmp_path / "bare.h5ad", bare):
        with pytest.raises(UnknownNameError, match="unknown slot: 'X'.*Pass layer="):
            tp.tl.evaluate(data, truth, **asked)


def test_drug_screens_and_modalities(pair) -> None:
    def renamed(adata):
        adata = adata.copy()
        names = {"P0": "(+)-JQ1 10 uM", "P1": "GSK/J4", "P2": "DMSO + TNF"}
        adata.obs["treatment"] = adata.obs["perturbation"].astype(str).replace(names)
        return adata[adata.obs["treatment"] != "P0+P1"].copy()

    pred, truth = (renamed(adata) for adata in pair)
    options = {**OPTIONS, "design": tp.Design("treatment")}
    scores = tp.tl.evaluate(pred, truth, **options)
    assert {"(+)-JQ1 10 uM", "GSK/J4"} <= set(scores["perturbation"])
    modal = tp.tl.evaluate(
        mudata.MuData({"rna": pred}),
        mudata.MuData({"rna": truth}),
        options=tp.tl.EvaluationOptions(modality="rna"),
        **options,
    )
    pd.testing.assert_frame_equal(scores, modal)


def damaged(pred: anndata.AnnData, value: float) -> anndata.AnnData:
    adata = pred.copy()
    adata.X[np.flatnonzero(adata.obs["perturbation"] == "P1")[:3], 0] = value
    return adata


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "3 values are NaN"), (np.inf, "3 values are NaN"), (-1, "3 values are neg")]
)
@pytest.mark.parametrize("where", ["memory", "file", "layer"])
def test_bad_values_are_counted_and_located(pair, tmp_path, value, said, where) -> None:
    pred, truth = damaged(pair[0], value), pair[1]
    if where == "layer":
        pred.layers["log"], pred.X = pred.X, pair[0].X
        truth = truth.copy()
        truth.layers["log"] = truth.X
        slot, options = r"layers\['log'\] of the prediction", {**OPTIONS, "layer": "log"}
    else:
        slot, options = "X of the prediction", OPTIONS
    if where == "file":
        pred.write_h5ad(tmp_path / "pred.h5ad")
        pred, slot = tmp_path / "pred.h5ad", "X of the prediction, population context_. / P1"
    with pytest.raises(CountsError, match=f"{said}.*{slot}"):
        tp.tl.evaluate(pred, truth, **options)


def test_shapes_that_do_not_fit_are_named(pair, tmp_path) -> None:
    pred, truth = pair
    with pytest.raises(MetricInputError, match="0 cells"):
        tp.tl.evaluate(pred[:0].copy(), truth, **OPTIONS)
    across = anndata.AnnData(
        pred.X.T.copy(), obs=pd.DataFrame(index=pred.var_names), var=pd.DataFrame(index=pred.obs_names)
    )
    across.obs["perturbation"], across.obs["context"] = "P0", "context_0"
    with pytest.raises(GeneError, match="looks transposed: 80 of its obs_names are genes"):
        tp.tl.evaluate(across, truth, **OPTIONS)
    twice = pred.copy()
    twice.var_names = ["same"] * pred.n_vars
    with pytest.raises(GeneError, match="more than once"):
        tp.tl.evaluate(twice, truth, **OPTIONS)
    with pytest.raises(StoreError, match="does not exist"):
        tp.tl.evaluate(tmp_path / "no.h5ad", truth, **OPTIONS)
    (tmp_path / "empty.h5ad").write_bytes(b"no file at all")
    with pytest.raises(StoreError, match="no AnnData"):
        tp.tl.evaluate(tmp_path / "empty.h5ad", truth, **OPTIONS)
    by_gene = truth.copy()
    by_gene.X = sparse.csc_matrix(by_gene.X)
    by_gene.write_h5ad(tmp_path / "csc.h5ad")
    with pytest.raises(CountsError, match="csc_matrix"):
        tp.tl.evaluate(pred, tmp_path / "csc.h5ad", **OPTIONS)
    pd.testing.assert_frame_equal(tp.tl.evaluate(pred, by_gene, **OPTIONS), tp.tl.evaluate(pred, truth, **OPTIONS))
    with pytest.raises(UnknownNameError, match="treatment"):
        tp.tl.evaluate(pred, truth, design=tp.Design("treatment"), **OPTIONS)
    with pytest.raises(OptionError, match="max_missing_genes"):
        tp.tl.evaluate(pred, truth, options=tp.tl.EvaluationOptions(max_missing_genes=2), **OPTIONS)
    with pytest.raises(OptionError, match="ceiling"):
        tp.tl.evaluate({"ceiling": pred}, truth, **OPTIONS)
    counted = {**OPTIONS, "metrics": "vcc2026"}
    bare = pred.copy()
    del bare.layers["counts"]
    with pytest.raises(MetricInputError, match="raw counts, which 'the prediction' lack"):
        tp.tl.evaluate(bare, truth, **counted)
