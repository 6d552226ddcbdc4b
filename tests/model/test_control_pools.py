"""Which control cells are moved: those of the time asked for, where there are any."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import transpert as tp
from transpert.model.prediction.controls import shown_controls

DRIFTING, MOVED = slice(0, 8), slice(8, 16)
SETUP = {"perturbation_key": "p", "context_keys": ["c"], "time_key": "t", "library_size_key": "total"}


def time_course(times_of_controls: dict[str, list[float]]) -> AnnData:
    """X moves some genes; other genes change with time in treated and control cells alike."""
    rows = [(c, "control", t) for c, times in times_of_controls.items() for t in times for _ in range(60)]
    rows += [(c, "X", t) for c in times_of_controls for t in (6.0, 48.0) for _ in range(60)]
    obs = pd.DataFrame(rows, columns=["c", "p", "t"]).set_axis([f"cell{i}" for i in range(len(rows))])
    rate = np.full((len(obs), 24), 20.0)
    rate[(obs["t"] == 48).to_numpy(), DRIFTING] *= 4
    rate[(obs["p"] == "X").to_numpy(), MOVED] *= 3
    adata = AnnData(np.random.default_rng(0).poisson(rate).astype(np.float32), obs=obs)
    adata.obs["total"] = 2_000.0
    return adata


def trained(adata: AnnData) -> tp.KernelTransport:
    tp.KernelTransport.setup_anndata(adata, **SETUP)
    model = tp.KernelTransport(adata)
    model.train()
    return model


def means(adata: AnnData) -> np.ndarray:
    return np.asarray(tp.pp.log1p_per_10k(adata.X, adata.obs["total"].to_numpy()).mean(axis=0)).ravel()


def test_what_changes_with_time_by_itself_is_not_lost() -> None:
    adata = time_course({"A": [6.0, 48.0], "B": [6.0, 48.0]})
    model = trained(adata)
    pred = model.predict({"c": "A"}, "X", times=[6.0, 48.0], progress=False)
    for time in (6.0, 48.0):
        here = ((adata.obs["c"] == "A") & (adata.obs["p"] == "X") & (adata.obs["t"] == time)).to_numpy()
        found = pred[((pred.obs["p"] == "X") & (pred.obs["t"] == time)).to_numpy()]
        np.testing.assert_allclose(
            np.asarray(found.to_df().to_numpy().mean(axis=0)).ravel(), means(adata[here]), atol=0.15
        )
        # every one of them was a control of this time
        assert set(adata.obs.loc[found.obs["control_id"], "t"]) == {time}
        assert found.n_obs == 60
    shown = pred[(pred.obs["p"] == "control").to_numpy()]
    assert shown.obs["control_id"].is_unique and shown.obs["t"].value_counts().to_dict() == {6.0: 60, 48.0: 60}


def test_without_controls_of_that_time_those_of_all_times_are_moved_and_shown_once() -> None:
    adata = time_course({"A": [6.0, 24.0], "B": [6.0, 24.0]})
    pred = trained(adata).predict({"c": "A"}, "X", times=[6.0, 48.0], progress=False, interval=0.9)
    sizes = pred.obs[pred.obs["p"] == "X"]["t"].value_counts().to_dict()
    assert sizes == {6.0: 60, 48.0: 120}
    assert pred.obs.loc[pred.obs["p"] == "control", "control_id"].is_unique
    assert (pred.obs["p"] == "control").sum() == 120
    assert pred.varm["effect"].shape[1] == 2


def test_a_store_of_predictions_has_the_same_cells(tmp_path) -> None:
    model = trained(time_course({"A": [6.0, 48.0], "B": [6.0, 24.0]}))
    asked = {"perturbations": "X", "times": [6.0, 48.0], "progress": False}
    stored = anndata.read_zarr(model.predict_to_store(tmp_path / "pred.zarr", cells_per_part=70, **asked))
    pred = model.predict(**asked)
    assert stored.n_obs == pred.n_obs
    np.testing.assert_array_equal(stored.obs["control_id"].astype(str), pred.obs["control_id"].astype(str))
    np.testing.assert_array_equal(stored.layers["counts"].toarray(), np.asarray(pred.layers["counts"].todense()))


@pytest.mark.parametrize("preset", ["tiny"])
def test_networks_are_judged_by_the_controls_of_their_time(preset) -> None:
    adata = time_course({"A": [6.0, 48.0], "B": [6.0, 48.0], "C": [6.0, 48.0]})
    tp.SCALE.setup_anndata(adata, **SETUP)
    training = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=16, sets_per_batch=2)
    model = tp.SCALE(adata, preset=preset, joining="always", training=training)
    model.train(enable_progress_bar=False)
    assert len(model.gate_table) == 6
    pred = model.predict({"c": "A"}, "X", times=48.0, progress=False)
    assert set(adata.obs.loc[pred.obs["control_id"], "t"]) == {48.0}


def test_controls_of_a_time_are_not_shown_beside_all_of_them() -> None:
    assert shown_controls([("A", 6.0), ("A", None), ("B", 6.0), ("B", 24.0), ("B", 6.0)]) == [
        ("A", None),
        ("B", 6.0),
        ("B", 24.0),
    ]
