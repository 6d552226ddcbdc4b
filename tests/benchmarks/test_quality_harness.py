"""The harness of the quality benchmark: nobody sees held-out cells, runs are resumed, differences are paired."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from benchmarks.quality.cells import cells_of, embeddings_of, fingerprint, wanted_populations
from benchmarks.quality.configuration import Method, Split, Task, load_methods, load_tasks, merged
from benchmarks.quality.environments import python_of
from benchmarks.quality.figures import draw_grid, grid_table
from benchmarks.quality.peers import PeerTimeoutError, export, predict_peer
from benchmarks.quality.predictors import scale_arguments
from benchmarks.quality.report import write_report
from benchmarks.quality.results import MixedCellsError, Result, Run, check_same_cells, read_results, tidy, write_result
from benchmarks.quality.running import Places, make, missing
from benchmarks.quality.scoring import cells_of_peer, metrics_of
from benchmarks.quality.summary import Scores, favourable
from benchmarks.quality.targets import HOLDS, MISSED, OPEN, targets

import transpert as tp

SHIFT_RUNNER = """
import json, sys
from pathlib import Path
import anndata, numpy as np, pandas as pd
place = Path(sys.argv[1])
cells = anndata.read_h5ad(place / "cells.h5ad")
wanted = json.loads((place / "wanted.json").read_text())
blocks, rows = [], []
for row in wanted:
    control = cells[((cells.obs["context"] == row["context"]) & (cells.obs["perturbation"] == "control")).to_numpy()]
    blocks.append(np.where(np.arange(control.n_vars) == 0, -1, control.X.toarray() + 0.5))
    rows += [{"perturbation": row["perturbation"], **row["values"]}] * control.n_obs
pred = anndata.AnnData(np.concatenate(blocks), obs=pd.DataFrame(rows).set_axis([f"c{i}" for i in range(len(rows))]))
pred.var_names = cells.var_names
pred.write_h5ad(place / "predicted.h5ad")
(place / "report.json").write_text(json.dumps({"training_seconds": 1.0, "version": "shift 1"}))
"""


@pytest.fixture(scope="module")
def task() -> Task:
    simulated = {"n_contexts": 3, "n_perturbations": 2, "n_genes": 30, "n_cells": 25, "seed": 0}
    return Task(
        name="tiny",
        title="Tiny",
        question="?",
        source={"simulate": simulated},
        splits=(Split("first", holdout={"context": ["context_0"]}),),
        context_keys=("context",),
        library_size_key="library_size",
        extra=("de_nsig_counts_pred",),
    )


@pytest.fixture(scope="module")
def cells(task, tmp_path_factory) -> anndata.AnnData:
    return cells_of(task, task.splits[0], tmp_path_factory.mktemp("data"))


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    folder = tmp_path / "environments"
    (folder / "own" / "bin").mkdir(parents=True)
    # a link would lose the packages of the environment that runs the tests
    program = folder / "own" / "bin" / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    (folder / "own" / ".complete").touch()
    return folder


def peer(runner: Path) -> Method:
    return Method("Shift", "Shift", "peer", {"environment": "own", "requirements": [], "runner": str(runner)})


def test_files_describe_tasks_and_methods_that_exist():
    tasks, methods = load_tasks(), load_methods()
    assert list(tasks)[:2] == ["kang_unseen_type", "kang_unseen_donor"]
    together = [split for split in tasks["papalexi_unseen_gene"].splits if "JAK2" in split.holdout["perturbation"]]
    assert len(together) == 1
    assert {"IFNGR1", "JAK2", "STAT1"} <= set(together[0].holdout["perturbation"])
    for method in methods.values():
        assert set(method.cannot) <= set(tasks), method.name
        assert method.family in ("baseline", "scale", "ablation", "peer"), method.name
        if method.family == "baseline":
            assert hasattr(tp, method.options["cls"]), method.name
        if method.family == "peer":
            runner = Path(load_tasks.__code__.co_filename).parent / "peers" / method.options["runner"]
            assert runner.exists(), method.name


def test_every_ablation_is_an_option_that_scale_has(cells, task):
    tp.SCALE.setup_anndata(cells, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    default = tp.SCALE(cells).options
    for method in load_methods().values():
        if method.family == "ablation":
            changed = tp.SCALE(cells, **scale_arguments(cells, method.options)).options
            assert changed != default, method.name


def test_merging_keeps_what_is_not_changed():
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}}) == {"a": {"b": 5, "c": 2}, "d": 3}


def test_a_peer_gets_no_held_out_cell(cells, task, tmp_path):
    wanted = wanted_populations(cells, task)
    assert wanted == [("context_0", "P0"), ("context_0", "P1")]
    export(cells, task, wanted, tmp_path, tmp_path)
    seen = anndata.read_h5ad(tmp_path / "cells.h5ad")
    held = cells.obs_names[(cells.obs["split"] == "test").to_numpy()]
    assert len(held) == 50
    assert not set(held) & set(seen.obs_names)
    assert seen.n_obs == cells.n_obs - 50
    assert ((seen.obs["context"] == "context_0") & (seen.obs["perturbation"] == "control")).sum() == 25


def test_a_run_is_made_once_and_scored_like_any_prediction(task, environments, tmp_path):
    runner = tmp_path / "shift.py"
    runner.write_text(SHIFT_RUNNER)
    places = Places(tmp_path, tmp_path / "results", environments)
    run = Run("tiny", "first", "Shift", 0)
    assert missing(run, task, places, again=False)
    result = make(run, task, peer(runner), places, limit=120)
    assert (result.status, result.reason) == ("done", "")
    assert not missing(run, task, places, again=True)
    assert result.details["version"] == "shift 1"
    # a model leaves columns of its own in the cells
    baseline = make(Run("tiny", "first", "MeanShift", 0), task, load_methods()["MeanShift"], places, limit=120)
    assert baseline.details["cells"] == result.details["cells"]
    # one gene of thirty was predicted below zero, and brought back
    assert result.details["values_outside_log1p"] == pytest.approx(1 / 30)
    rows = tidy(read_results(places.results))
    assert set(rows["metric"]) == metrics_of(task)
    assert set(rows["perturbation"]) == {"P0", "P1"}
    # the same shift for both, so it cannot be right for both, but its spread is that of the controls
    assert rows.loc[rows["metric"] == "variance_ratio", "value"].between(0.3, 3).all()


def test_what_goes_wrong_becomes_the_result(cells, task, environments, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no such thing')")
    places = Places(tmp_path, tmp_path / "results", environments)
    run = Run("tiny", "first", "Shift", 0)
    result = make(run, task, peer(broken), places, limit=60)
    assert result.status == "failed"
    assert "no such thing" in result.reason
    assert not missing(run, task, places, again=False)
    assert missing(run, task, places, again=True)
    slow = tmp_path / "slow.py"
    slow.write_text("while True: pass")
    with pytest.raises(PeerTimeoutError, match="1 s of processor time"):
        predict_peer(cells, task, peer(slow), [], 0, data=tmp_path, environments=environments, limit=1)


def test_a_complete_environment_is_not_made_again(environments):
    assert python_of("own", ["surely-not-a-package"], environments) == environments / "own" / "bin" / "python"


def test_cells_outside_log1p_are_brought_back_and_counted(task):
    cells = anndata.AnnData(np.array([[-1.0, 1.5], [0.5, 12.0]], dtype=np.float32))
    pred, outside = cells_of_peer(cells, task)
    assert outside == 0.5
    np.testing.assert_allclose(pred.X.toarray(), [[0, 1.5], [0.5, np.log1p(1e4)]], rtol=1e-6)


def test_embeddings_are_looked_up_by_name(cells, task, tmp_path):
    np.savez(tmp_path / "table.npz", genes=np.array(["renamed", "X", "P0"]), embedding=np.eye(3))
    named = replace(task, embedding="table.npz", aliases={"P1": "renamed"})
    assert embeddings_of(cells, named, tmp_path).to_numpy().tolist() == [[0, 0, 1], [1, 0, 0]]
    assert embeddings_of(cells, task, tmp_path) is None


def test_results_of_other_cells_are_not_mixed(task, tmp_path):
    def result(method: str, date: str, perturbation: str = "P0", **details) -> Result:
        row = {"context": "c", "perturbation": perturbation, "metric": "pearson_delta", "value": 1.0}
        return Result(Run("t", "s", method, 0), "done", "", {"date": date, **details}, (row,))

    newest = result("C", "2026-01-03", n_train=10, cells="abc")
    check_same_cells([newest, result("A", "2026-01-01"), result("B", "2026-01-02", n_train=10)])
    check_same_cells([newest, Result(Run("t", "s", "D", 0), "failed", "no")])
    with pytest.raises(MixedCellsError, match=r"1 results .*: t/s/A/0\."):
        check_same_cells([newest, result("A", "2026-01-01", perturbation="P1")])
    with pytest.raises(MixedCellsError, match="t/s/B/0"):
        check_same_cells([newest, result("B", "2026-01-02", cells="abd")])
    # the digest follows the cells: another simulation, another hold-out
    first = cells_of(task, task.splits[0], tmp_path)
    again = cells_of(task, task.splits[0], tmp_path)
    held = cells_of(task, Split("second", holdout={"context": ["context_1"]}), tmp_path)
    simulated = replace(task, source={"simulate": {**task.source["simulate"], "seed": 1}})
    other = cells_of(simulated, task.splits[0], tmp_path)
    assert fingerprint(first) == fingerprint(again)
    assert len({fingerprint(first), fingerprint(held), fingerprint(other)}) == 3


def test_a_cell_of_a_grid_replaces_options_of_the_simulation(task, tmp_path):
    split = Split("larger", holdout={"context": ["context_0"]}, simulate={"n_contexts": 4})
    grown = cells_of(task, split, tmp_path)
    assert grown.obs["context"].nunique() == 4
    assert grown.n_vars == 30


def synthetic(values: dict[str, list[float]], metric: str = "pearson_delta", task: str = "t") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"task": task, "split": "s", "method": method, "seed": seed, "context": "c", "perturbation": str(number),
             "metric": metric, "value": value, "reference": "real"}
            for method, column in values.items() for seed in (0, 1) for number, value in enumerate(column)
        ]
    )  # fmt: skip


def test_differences_are_paired_over_common_populations():
    table = Scores(synthetic({"A": [0.5, 0.7, 0.9], "B": [0.4, 0.6]}))
    gap = table.difference("A", "B", "pearson_delta")
    assert gap.n == 2
    assert gap.mean == pytest.approx(0.1)
    assert gap.excludes_zero
    assert favourable("pearson_delta", gap)
    assert not favourable("energy_distance", gap)
    assert table.difference("A", "C", "pearson_delta") is None


def test_methods_are_compared_on_what_all_of_them_have():
    table = Scores(synthetic({"A": [0.5, 0.7, 0.9], "B": [0.4, 0.6]}))
    common = table.on_common_populations(["A", "B"])
    assert common.value("A", "pearson_delta").mean == pytest.approx(0.6)
    assert common.value("B", "pearson_delta").n == 2


def test_normalised_values_lie_between_floor_and_ceiling():
    table = Scores(synthetic({"MeanShift": [0.2, 0.4], "Replicate": [0.8, 1.0], "A": [0.5, 0.7]}))
    assert table.normalised("A", "pearson_delta") == pytest.approx(0.5)
    assert table.normalised("MeanShift", "pearson_delta") == pytest.approx(0)
    upside_down = Scores(synthetic({"MeanShift": [0.8], "Replicate": [0.2], "A": [0.5]}))
    assert np.isnan(upside_down.normalised("A", "pearson_delta"))
    level = Scores(synthetic({"MeanShift": [0.737], "Replicate": [0.738], "A": [0.854]}))
    assert np.isnan(level.normalised("A", "pearson_delta"))


def test_targets_say_what_holds_is_missed_and_is_not_measured():
    better = {"SCALE": [0.9, 0.92], "MeanShift": [0.5, 0.55], "Replicate": [0.95, 0.96]}
    found = {t.text: t.verdict for t in targets({"kang_unseen_type": Scores(synthetic(better))}, [])}
    assert found["unseen cell type: better than MeanShift on pearson_delta, interval without 0"] == HOLDS
    assert found["unseen cell type: better than STATE on pearson_delta, interval without 0"] == OPEN
    worse = {**better, "SCALE": [0.4, 0.42]}
    found = {t.text: t.verdict for t in targets({"kang_unseen_type": Scores(synthetic(worse))}, [])}
    assert found["unseen cell type: better than MeanShift on pearson_delta, interval without 0"] == MISSED
    assert found["unseen cell type: normalised pearson_delta >= 0.5"] == MISSED


def test_the_page_keeps_losers_and_names_what_was_not_run(task, tmp_path):
    methods = load_methods()
    rows = synthetic({"MeanShift": [0.9, 0.8], "SCALE": [0.1, 0.2]})
    details = {"date": "2026-01-01T00:00", "machine": "m", "versions": {"transpert": "0"}, "commit": "c", "gate": 0.25}
    for name, part in rows[rows["seed"] == 0].groupby("method"):
        plain = part[["context", "perturbation", "metric", "value", "reference"]].to_dict("records")
        write_result(Result(Run("tiny", "first", str(name), 0), "done", "", details, tuple(plain)), tmp_path)
    write_result(Result(Run("tiny", "first", "STATE", 0), "timeout", "stopped after 5 s"), tmp_path)
    write_report(read_results(tmp_path), {"tiny": task}, methods, tmp_path / "page.md", command="command")
    page = (tmp_path / "page.md").read_text()
    assert "| SCALE (default) | 0.150" in page
    assert "| mean shift, added | 0.850" in page
    assert "timeout: stopped after 5 s" in page
    assert f"| {methods['CellFlow'].label} | not run" in page
    assert "-0.700 (-0.800, -0.600)*" in page
    assert not list(tmp_path.glob("*.part"))


def test_the_grid_shows_gain_and_gate(tmp_path):
    splits = tuple(
        Split(f"{c} x {p}", by="context", simulate={"n_contexts": c, "n_perturbations": p})
        for c in (6, 18) for p in (4, 20)
    )  # fmt: skip
    grid = Task("simulated_grid", "", "", {}, splits)
    parts, results = [], []
    for number, split in enumerate(splits):
        values = {"SCALE": [0.5 + 0.1 * number, 0.6], "RidgeTransport": [0.5, 0.6], "KernelTransport": [0.7, 0.6]}
        own = synthetic(values, task=grid.name)
        parts.append(own.assign(split=split.name))
        results.append(Result(Run(grid.name, split.name, "SCALE", 0), "done", "", {"gate": number / 4}))
    table = grid_table(pd.concat(parts), results, grid)
    assert [gain.mean for gain in table["over_linear"]] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert [gain.mean for gain in table["over_anchor"]] == pytest.approx([-0.1, -0.05, 0, 0.05])
    assert table["gate"].tolist() == [0, 0.25, 0.5, 0.75]
    draw_grid(table, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 5_000
