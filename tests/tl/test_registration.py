from __future__ import annotations

import json

import pandas as pd
import pytest

import transpert as tp
from transpert.errors import ModelFileError, NotTrainedError, UnknownNameError

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(n_contexts=8, n_perturbations=3, n_genes=150, n_cells=60, effect_size=0.7)


@pytest.fixture(scope="module")
def pred(cells):
    known = cells[cells.obs["context"] != "context_0"].copy()
    tp.KernelTransport.setup_anndata(known, **KEYS)
    model = tp.KernelTransport(known)
    model.train()
    controls = cells[(cells.obs["context"] == "context_0") & (cells.obs["perturbation"] == "control")].copy()
    return model.predict({"context": "context_0"}, ["P0", "P1", "P2"], adata=controls, interval=0.9, progress=False)


@pytest.fixture
def registered(pred, tmp_path):
    ranking = pd.DataFrame({"context": "context_0", "perturbation": ["P0"], "rank": [1]})
    folder = tmp_path / "registered"
    return folder, tp.tl.register_prediction(pred, folder, ranking=ranking, note="P0 to P2 in context 0")


def test_intervals_cover_what_is_measured_later_about_as_often_as_they_say(cells, registered) -> None:
    folder, checksum = registered
    scores = tp.tl.score_registered(folder, cells, checksum=checksum)
    assert scores.index.tolist() == ["context_0: P0", "context_0: P1", "context_0: P2"]
    assert scores["coverage"].mean() == pytest.approx(0.9, abs=0.09)
    assert (scores["coverage_raw"] <= scores["coverage"]).all()
    assert (scores["pearson"] > 0.5).all() and (scores["sign_agreement"] > 0.75).all()


def test_what_is_registered_says_when_with_what_and_of_what(registered) -> None:
    folder, _ = registered
    manifest = json.loads((folder / "registration.json").read_text())
    assert manifest["note"] == "P0 to P2 in context 0" and manifest["level"] == 0.9
    assert manifest["versions"]["numpy"] and manifest["date"].endswith("+00:00")
    assert set(manifest["files"]) == {
        "effect.csv", "effect_lower.csv", "effect_upper.csv", "conditions.csv", "ranking.csv",
    }  # fmt: skip


def test_a_registration_that_was_changed_is_refused(cells, registered) -> None:
    folder, checksum = registered
    with pytest.raises(ModelFileError, match="another checksum"):
        tp.tl.score_registered(folder, cells, checksum="0" * 64)
    manifest = folder / "registration.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"level": 0.9', '"level": 0.5'))
    with pytest.raises(ModelFileError, match="another checksum"):
        tp.tl.score_registered(folder, cells, checksum=checksum)
    manifest.write_text(text)
    effects = folder / "effect.csv"
    effects.write_text(effects.read_text().replace("0.", "1.", 1))
    with pytest.raises(ModelFileError, match="effect.csv"):
        tp.tl.score_registered(folder, cells)


def test_nothing_is_overwritten_and_intervals_are_needed(pred, registered, tmp_path) -> None:
    with pytest.raises(ModelFileError, match="exists"):
        tp.tl.register_prediction(pred, registered[0])
    bare = pred.copy()
    del bare.varm["effect_lower"]
    with pytest.raises(NotTrainedError, match="no intervals"):
        tp.tl.register_prediction(bare, tmp_path / "bare")
    assert not (tmp_path / "bare").exists()


def test_what_was_not_measured_is_said_and_no_folder_is_no_registration(cells, registered, tmp_path) -> None:
    folder, _ = registered
    some = cells[cells.obs["perturbation"] != "P1"].copy()
    assert tp.tl.score_registered(folder, some).attrs["not_measured"] == ["context_0: P1"]
    with pytest.raises(UnknownNameError, match="population"):
        tp.tl.score_registered(folder, cells[cells.obs["context"] == "context_3"].copy())
    with pytest.raises(ModelFileError, match="no registration"):
        tp.tl.score_registered(tmp_path, cells)
