from __future__ import annotations

import json

import joblib
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert._folders import used_alone
from transpert.errors import CountsError, OptionError, SplitError, StoreError, UnknownNameError
from transpert.groups import Design
from transpert.tl._scaling.choices import SCHEMES

DESIGN = Design("perturbation", "control", ("context",), split_key="split")
GRID = {"cells": [0.02, 0.1, 0.3, 1.0]}


@pytest.fixture(scope="module")
def cells():
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=4, n_genes=60, n_cells=40, effect_size=0.8)
    tp.pp.split(adata, holdout={"context": "context_0"})
    return adata


def study(cells, out, **options):
    options = {"models": "MeanShift", "axes": GRID, "seeds": 2, "metrics": "pearson_delta", **options}
    return tp.tl.scaling_study(cells, DESIGN, out=out, progress=False, **options)


def test_more_cells_score_higher_and_none_scores_the_floor(cells, tmp_path) -> None:
    table = study(cells, tmp_path).table
    means = table.groupby("n_cells")["normalised"].mean()
    assert means.loc[0] == 0
    assert means.iloc[-1] > means.iloc[1] > 0
    assert means.index[-3:].tolist() == [48, 144, 480]


def test_sets_are_nested_and_saved_and_never_hold_a_test_cell(cells, tmp_path) -> None:
    study(cells, tmp_path, schemes=["random", "reweighted", "sketch", "stratified"], seeds=[5])
    saved = np.load(tmp_path / "subsets.npz")
    test = set(cells.obs_names[(cells.obs["split"] == "test").to_numpy()])
    for scheme in ("random", "reweighted", "sketch", "stratified"):
        sets = [set(saved[f"{scheme}, seed 5, cells {size}"]) for size in GRID["cells"]]
        assert all(small < large for small, large in zip(sets, sets[1:], strict=False))
        assert not sets[-1] & test


def test_a_study_that_was_killed_repeats_no_finished_run(cells, tmp_path, monkeypatch) -> None:
    first = study(cells, tmp_path, budget=0)
    assert first.unfinished > 0
    done = len(list((tmp_path / "runs").glob("*.json")))
    started = []
    fit = tp.MeanShift.train
    monkeypatch.setattr(tp.MeanShift, "train", lambda self, *a, **k: (started.append(1), fit(self, *a, **k))[1])
    whole = study(cells, tmp_path)
    # all cells are the same cells whatever the seed draws, but a run has its seed
    assert len(started) == 8 - done
    assert whole.unfinished == 0
    again = study(cells, tmp_path)
    assert len(started) == 8 - done
    assert again.table.equals(whole.table)
    # a damaged result is done again
    path = next((tmp_path / "runs").glob("*.json"))
    path.write_text(path.read_text()[:20])
    assert study(cells, tmp_path).table.drop(columns="seconds").equals(whole.table.drop(columns="seconds"))
    assert len(started) == 9 - done


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_runs_go_where_joblib_is_told_to_send_them(cells, tmp_path, backend) -> None:
    # that of Ray is one of multiprocessing, which returns no result before all are done
    with joblib.parallel_config(backend):
        sent = study(cells, tmp_path / "sent", n_jobs=2, seeds=1)
    here = study(cells, tmp_path / "here", seeds=1)
    assert sent.table.drop(columns="seconds").equals(here.table.drop(columns="seconds"))


def test_other_counts_are_other_runs(cells, tmp_path) -> None:
    study(cells, tmp_path, seeds=1)
    done = len(list((tmp_path / "runs").glob("*.json")))
    other = cells.copy()
    other.layers["counts"][0, 0] += 1
    other.obs["library_size"] += 1
    study(other, tmp_path, seeds=1)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2 * done


@pytest.mark.parametrize("axis", ["perturbations", "contexts", "cells_per_condition"])
def test_other_axes_hold_so_many_of_what_they_name(cells, tmp_path, axis) -> None:
    table = study(cells, tmp_path, axes={axis: [2, 3]}, seeds=1).table
    assert sorted(table[f"n_{axis}"].unique()) == [0, 2, 3]


def test_two_axes_are_crossed_and_three_are_refused(cells, tmp_path) -> None:
    table = study(cells, tmp_path, axes={"contexts": [1, 3], "cells_per_condition": [4, 20]}, seeds=1).table
    assert set(map(tuple, table[["n_contexts", "n_cells_per_condition"]].to_numpy())) == {
        (0, 0), (1, 4), (1, 20), (3, 4), (3, 20),
    }  # fmt: skip
    with pytest.raises(OptionError, match="3 axes"):
        study(cells, tmp_path, axes=["cells", "contexts", "perturbations"])


def test_a_spike_in_replaces_cells_by_those_of_another_data_set(cells, tmp_path) -> None:
    other = tp.datasets.simulate(n_contexts=1, n_perturbations=4, n_genes=60, n_cells=200, seed=9)
    other.obs["context"] = "elsewhere"
    study(cells, tmp_path, schemes="spike_in_50", spike=other, seeds=[0])
    drawn = np.load(tmp_path / "subsets.npz")["spike_in_50, seed 0, cells 0.3"]
    assert np.mean([name.endswith("-spike") for name in drawn]) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(OptionError, match="another data set"):
        study(cells, tmp_path, schemes=SCHEMES[-1])


def test_a_function_that_makes_a_model_is_a_model_too(cells, tmp_path) -> None:
    def make(data):
        tp.MeanFoldChange.setup_anndata(
            data, perturbation_key="perturbation", context_keys=["context"], split_key="split", layer="counts"
        )
        return tp.MeanFoldChange(data)

    table = study(cells, tmp_path, models={"mine": make}, seeds=1).table
    assert set(table["model"]) == {"mine"}
    assert table.loc[table["n_cells"] == 480, "normalised"].mean() > 0.3


def test_curves_saturation_and_gain_come_out_of_a_study(cells, tmp_path) -> None:
    found = study(cells, tmp_path, axes={"cells": [0.01, 0.03, 0.1, 0.3, 1.0]}, seeds=3)
    table = found.saturation()
    assert table["saturation_90"].item() <= table["saturation_95"].item() <= table["saturation_99"].item()
    assert table["published"].item() in found.table["n_cells"].unique()
    gain = found.expected_gain("MeanShift", 480)
    assert 0 <= gain["gain"] < 0.3
    assert gain["gain_low"] <= gain["gain"] <= gain["gain_high"]


def test_names_that_do_not_exist_and_data_without_a_test_set_are_refused(cells, tmp_path) -> None:
    for options, kind in (
        ({"models": "MeanShif"}, "model"),
        ({"axes": "cell"}, "axis"),
        ({"schemes": "rand"}, "scheme"),
    ):
        with pytest.raises(UnknownNameError, match=f"unknown {kind}"):
            study(cells, tmp_path, **options)
    whole = cells.copy()
    whole.obs["split"] = "train"
    with pytest.raises(SplitError, match="0 perturbed test cells"):
        study(whole, tmp_path)


def test_library_sizes_of_another_name_are_used(tmp_path, recwarn) -> None:
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=40, n_cells=30)
    tp.pp.split(adata, holdout={"context": "context_0"})
    named = adata.copy()
    named.obs["nCount_RNA"] = named.obs["library_size"]
    del named.obs["library_size"]
    design = tp.Design("perturbation", "control", ("context",), split_key="split")
    asked = {"models": "KernelTransport", "axes": {"cells": [1.0]}, "seeds": 1, "metrics": "pearson_delta"}
    asked["progress"] = False
    studies = [
        tp.tl.scaling_study(adata, design, **asked, out=tmp_path / "a"),
        tp.tl.scaling_study(named, design, **asked, library_size_key="nCount_RNA", out=tmp_path / "b"),
    ]
    first, second = (study.table["value"].to_numpy() for study in studies)
    np.testing.assert_array_equal(first, second)
    assert "library_size" not in named.obs and not [w for w in recwarn if "failed" in str(w.message)]
    with pytest.raises(tp.errors.UnknownNameError, match="nCounts"):
        tp.tl.scaling_study(named, design, **asked, library_size_key="nCounts", out=tmp_path / "c")


def test_cells_without_values_are_refused(cells, tmp_path) -> None:
    empty = cells.copy()
    empty.X = None
    with pytest.raises(CountsError, match="there are no values .in X"):
        study(empty, tmp_path)


def test_a_study_that_another_process_works_on_is_refused(cells, tmp_path) -> None:
    with (
        used_alone(tmp_path / "runs", "study", StoreError, "go on"),
        pytest.raises(StoreError, match="is writing there"),
    ):
        study(cells, tmp_path, models="MeanShift")
    assert not (tmp_path / "subsets.npz").exists()


@pytest.mark.parametrize("damage", ["", "[]", '{"scores": 3, "error": null, "seconds": 1}', '{"scores": []}'])
def test_a_damaged_result_is_computed_again(cells, tmp_path, damage) -> None:
    asked = {"models": "MeanShift", "axes": {"cells": [1.0]}, "seeds": 1, "metrics": "mae"}
    first = study(cells, tmp_path, **asked).table
    (result,) = (tmp_path / "runs").glob("*.json")
    whole = json.loads(result.read_text())
    result.write_text(damage)
    again = study(cells, tmp_path, **asked).table
    assert json.loads(result.read_text())["scores"] == whole["scores"]
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), first.drop(columns="seconds"))
