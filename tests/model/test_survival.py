"""Processes that are killed while they train, and processes that train together."""

from __future__ import annotations

import json
import multiprocessing
import runpy
import signal
import socket
import sys
import time
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster

import transpert as tp
from transpert.cli import app
from transpert.model.scale.training import checkpoints

SCRIPT = Path(__file__).with_name("survival_worker.py")
# the machine may be busy; a hang is what these tests are to find
PATIENCE = 240
STOPPING = {"learning_rate": 1e-12, "average": 0.0, "patience": 1, "steps": 30}


def start(out: Path, **task):
    """Start a process that trains; the server from which it is forked has imported transpert once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transpert.model"])
    task = {"out": str(out), **task}
    process = context.Process(target=runpy.run_path, args=(str(SCRIPT),), kwargs={"init_globals": {"task": task}})
    process.start()
    return process


def finish(*processes) -> None:
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
    hung = [process for process in processes if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, "a process hangs"


def results(out: Path):
    return json.loads(out.read_text())


def alone(**task):
    """Train in this process, uninterrupted."""
    worker = runpy.run_path(str(SCRIPT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return json.loads(json.dumps(worker["run"](task)))


@pytest.fixture(scope="module")
def whole():
    return alone()


def wait_for(exists, process) -> None:
    deadline = time.monotonic() + PATIENCE
    while not exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(whole, tmp_path) -> None:
    folder, marker, out = tmp_path / "run", tmp_path / "marker", tmp_path / "out.json"
    saving = {"checkpoint_dir": str(folder), "checkpoint_every_n_steps": 1, "resume": "auto"}
    # inside a step
    process = start(out, arguments=saving, die_at=2)
    finish(process)
    assert process.exitcode == -signal.SIGKILL
    assert checkpoints.find_checkpoints(folder)[0].name == "step-000000002"
    # while the checkpoint of step 4 is written
    process = start(out, arguments=saving, stall_at=4, marker=str(marker))
    wait_for(marker.exists, process)
    process.kill()
    finish(process)
    assert process.exitcode == -signal.SIGKILL
    assert checkpoints.find_checkpoints(folder)[0].name == "step-000000003"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".step-000000004.lock", ".training.lock", "step-000000002", "step-000000003", "step-000000004.partial"
    ]  # fmt: skip
    finish(start(out, arguments=saving))
    assert results(out) == [whole]
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000005", "step-000000006"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_process_that_hangs_does_not_hang_the_other(tmp_path) -> None:
    task = {"world": 2, "port": free_port(), "arguments": {"devices": 2}, "hang_at": 2, "answer_within": 10}
    outs = [tmp_path / f"{rank}.json" for rank in range(2)]
    waiting, hanging = (start(out, rank=rank, **task) for rank, out in enumerate(outs))
    try:
        finish(waiting)
        assert hanging.is_alive()
    finally:
        hanging.kill()
        hanging.join()
    (left,) = results(outs[0])
    assert left["error"] == "ProcessError", left["trace"]
    assert "another of the 2 processes has stopped or does not answer" in left["message"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_are_one(whole, strategy, tmp_path) -> None:
    port = free_port()
    several = {"devices": 2, "strategy": strategy}
    saving = {**several, "checkpoint_dir": str(tmp_path / "run"), "resume": "auto"}
    runs = [
        {"arguments": saving, "die_at": 3, "die_rank": 1, "die_by": "SIGTERM"},
        {"arguments": saving},
        {"arguments": several, "poison_at": 2},
        *([{"arguments": several, "options": STOPPING}] if strategy == "ddp" else []),
        {"arguments": several, "die_at": 3, "die_rank": 1},
    ]
    outs = [tmp_path / f"{rank}.json" for rank in range(2)]
    processes = [start(out, runs=runs, rank=rank, world=2, port=port) for rank, out in enumerate(outs)]
    finish(*processes)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    ended, resumed, poisoned, *stopped, bereaved = results(outs[0])

    # the second process alone is asked to end; both do, after the same step, and go on from there
    assert ended["error"] == "SystemExit" and "interrupted after step 4" in ended["message"]
    same(resumed, whole)
    assert results(outs[1])[1] == resumed
    # what several processes have written, one can read
    same(alone(arguments={"resume": str(checkpoints.checkpoint_path(tmp_path / "run", 4))}), whole)
    # the loss is NaN in the second process only, and both name the sets
    assert poisoned["error"] == "TrainingError"
    assert "the loss is not finite at step 2 of epoch 0 (in the sets of 'P0 / context_" in poisoned["message"]
    assert "'P1 " not in poisoned["message"]
    # early stopping is decided by all of them at once
    for found in stopped:
        expected = alone(options=STOPPING)
        assert 2 <= len(expected["losses"]["validation_loss"]) < 10
        same(found, expected)
    # a process that is gone does not leave the other waiting
    assert bereaved["error"] == "ProcessError" and "another of the 2 processes" in bereaved["message"]


def same(found, expected) -> None:
    assert found.get("error") is None, found.get("trace")
    assert list(found["losses"]) == list(expected["losses"])
    for name, losses in expected["losses"].items():
        np.testing.assert_allclose(found["losses"][name], losses, rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["X"], expected["X"], atol=1e-3)


def under_torchrun():
    """What torchrun sets in each of two processes."""
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1", "GROUP_RANK": "0"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "test"}
    return lambda rank: {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}


def start_two(script: Path, arguments, environment) -> None:
    """Run a script in two processes, to the end of both."""
    tasks = [{"arguments": arguments(rank), "environment": environment(rank)} for rank in range(2)]
    processes = [start(script, script=str(script), **task) for task in tasks]
    finish(*processes)
    assert [process.exitcode for process in processes] == [0, 0]


def test_the_command_trains_in_two_processes_as_in_one(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=6, n_perturbations=1, n_genes=20, n_cells=15, n_control_cells=15)
    adata.X = adata.layers.pop("counts")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "job.toml").write_text(
        f"""
        [data]
        file = "{tmp_path / "cells.h5ad"}"
        perturbation_key = "perturbation"
        control = "control"
        context_keys = ["context"]
        library_size_key = "library_size"
        [split]
        holdout = {{context = "context_0"}}
        [train]
        preset = "tiny"
        steps = 2
        accelerator = "cpu"
        [output]
        folder = "{tmp_path / "one"}"
        """
    )
    settings = str(tmp_path / "job.toml")
    in_two = ["--set", f"output.folder={tmp_path / 'two'}", "--set", "train.devices=2", "--set", "train.strategy=ddp"]
    for more in ([], in_two):
        app(["split", settings, *more], standalone_mode=False)
    app(["train", settings], standalone_mode=False)
    package = Path(tp.__file__).with_name("__main__.py")  # python -m transpert
    start_two(package, lambda rank: ["train", settings, *in_two], under_torchrun())
    one, two = (tp.SCALE.load(tmp_path / name / "model", adata=None) for name in ("one", "two"))
    assert one.history["train_loss_step"].shape == (2, 1) and not one.without_networks
    losses = [model.history["train_loss_step"].to_numpy().ravel() for model in (one, two)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    for name, weight in one.module.state_dict().items():
        np.testing.assert_allclose(two.module.state_dict()[name], weight, atol=1e-4, err_msg=name)


def test_the_scripts_for_clusters_train_predict_and_score_with_two_workers(tmp_path) -> None:
    folder = Path(__file__).parents[2] / "docs" / "scripts" / "cluster"
    cells, model, pred, scores, scheduler = (
        str(tmp_path / name) for name in ("cells.h5ad", "model", "pred.zarr", "scores.csv", "scheduler.json")
    )
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=20, n_cells=25)
    held_out = (adata.obs["context"] == "context_0") & (adata.obs["perturbation"] != "control")
    adata.obs["split"] = np.where(held_out, "test", "train")
    adata.write_h5ad(cells)

    small = ["steps=2", "steps_per_epoch=2", "set_size=4", "sets_per_batch=2"]
    start_two(folder / "train.py", lambda rank: [cells, model, *small], under_torchrun())
    start_two(folder / "predict.py", lambda rank: [model, cells, pred, str(rank), "2"], lambda rank: {})
    asked = pd.DataFrame({"perturbation": ["P0", "P1"], "context": "context_0"})
    expected = tp.SCALE.load(model, adata).predict(conditions=asked, n_cells=200, progress=False)
    predicted = anndata.read_zarr(pred)[expected.obs_names]
    assert (predicted.layers["counts"] != expected.layers["counts"]).nnz == 0
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        Path(scheduler).write_text(json.dumps({"address": cluster.scheduler_address, "type": "Scheduler"}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["evaluate.py", pred, cells, scores, scheduler])
            runpy.run_path(str(folder / "evaluate.py"), run_name="__main__")
    assert {"P0", "P1"} <= set(pd.read_csv(scores).dropna(subset=["value"])["perturbation"])
