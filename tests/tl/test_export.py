from __future__ import annotations

import anndata
import cell_eval
import numpy as np
import pytest

import transpert as tp
from transpert.errors import ControlError, OptionError

KEYS = {"context_keys": ["context"]}


@pytest.fixture
def pair(screen):
    truth = screen[screen.obs["context"].isin(["context_0", "context_1"])].copy()
    pred = truth[::-1].copy()
    rng = np.random.default_rng(0)
    pred.X = np.clip(pred.X.toarray() + rng.normal(0, 0.2, pred.shape), 0, 9).astype(np.float32)
    return pred[:, rng.permutation(pred.n_vars)].copy(), truth


@pytest.mark.filterwarnings("ignore:Genes were aligned")
def test_cell_eval_reads_what_is_written(pair, tmp_path) -> None:
    pred, truth = (adata[adata.obs["context"] == "context_0"].copy() for adata in pair)
    files = tp.tl.to_cell_eval(pred, truth, tmp_path / "files", **KEYS)
    evaluator = cell_eval.MetricsEvaluator(
        *map(str, files),
        control_pert="non-targeting",
        pert_col="target_gene",
        outdir=str(tmp_path / "out"),
        num_threads=1,
        skip_de=True,
    )
    theirs, _ = evaluator.compute(profile="anndata", skip_metrics=["clustering_agreement"], write_csv=False)
    theirs = theirs.to_pandas().set_index("perturbation")
    metrics = ["pearson_delta", "mae", "mse_delta", "discrimination_score_l1"]
    ours = tp.tl.evaluate(
        pred,
        truth,
        metrics=metrics,
        options=tp.tl.EvaluationOptions(reference="predicted"),
        ceiling=False,
        n_bootstrap=0,
        progress=False,
        **KEYS,
    )
    ours = ours[ours["context"] == "context_0"].pivot(index="perturbation", columns="metric", values="value")
    np.testing.assert_allclose(ours.loc[theirs.index, metrics], theirs[metrics], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Genes were aligned")
def test_both_files_are_alike(pair, tmp_path) -> None:
    pred, truth = pair
    alone = pred[pred.obs["perturbation"] != "control"].copy()
    alone.write_h5ad(tmp_path / "alone.h5ad")
    one, two = map(anndata.read_h5ad, tp.tl.to_cell_eval(tmp_path / "alone.h5ad", truth, tmp_path, **KEYS))
    assert one.var_names.tolist() == two.var_names.tolist() == truth.var_names.tolist()
    assert set(one.obs["target_gene"]) == set(two.obs["target_gene"]) == {"non-targeting", "P0", "P1", "P2", "P0+P1"}
    assert set(one.obs["celltype"]) == {"context_0", "context_1"}
    # the prediction brought no controls and was given the real ones
    controls = [adata[adata.obs["target_gene"] == "non-targeting"].X.toarray() for adata in (one, two)]
    np.testing.assert_array_equal(*controls)
    cells = truth[(truth.obs["perturbation"] == "P0").to_numpy() & (truth.obs["context"] == "context_1").to_numpy()]
    written = two[(two.obs["target_gene"] == "P0") & (two.obs["celltype"] == "context_1")]
    np.testing.assert_allclose(written.X.toarray(), cells.X.toarray())


@pytest.mark.filterwarnings("ignore:Genes were aligned")
def test_files_are_not_replaced_unasked(pair, tmp_path) -> None:
    pred, truth = pair
    (tmp_path / "pred.h5ad").touch()
    with pytest.raises(OptionError, match="exist already"):
        tp.tl.to_cell_eval(pred, truth, tmp_path, **KEYS)
    with pytest.raises(OptionError, match="control_label"):
        tp.tl.to_cell_eval(pred, truth, tmp_path / "b", control_label="P0", **KEYS)
    half = pred[~((pred.obs["perturbation"] == "control") & (pred.obs["context"] == "context_0"))].copy()
    with pytest.raises(ControlError, match="context_0"):
        tp.tl.to_cell_eval(half, truth, tmp_path / "b", **KEYS)
    assert not (tmp_path / "b").exists()
