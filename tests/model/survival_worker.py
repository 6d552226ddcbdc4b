"""A process that trains, for tests in which it is killed or is one of several.

It is run by a fork server that has imported transpert once; ``task`` is a global that the test gives.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import lightning
import torch

import transpert as tp
from transpert import _folders
from transpert.model import JoiningOptions, TrainingOptions, processes
from transpert.model.scale.training import checkpoints
from transpert.nn import EncoderOptions, FlowOptions

TINY = {"steps": 6, "steps_per_epoch": 3, "set_size": 6, "sets_per_batch": 4}


def outcome(model) -> dict:
    losses = {name: table.to_numpy().ravel().tolist() for name, table in (model.history or {}).items()}
    if not model.is_trained_:
        return {"losses": losses}
    predicted = model.predict(perturbations="P0", readout="expected", progress=False)
    return {"losses": losses, "gate": model.gate, "X": predicted.to_df().to_numpy().tolist()}


def make(**options):
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    return tp.SCALE(
        adata,
        preset="tiny",
        joining=JoiningOptions(folds=2),
        encoder=EncoderOptions("mlp", 16, 1),
        flow=FlowOptions(depth=1, n_heads=2, n_key_heads=1),
        training=TrainingOptions(**{**TINY, **options}),
    )


class AtStep(lightning.Callback):
    """Do something before a step of training."""

    def __init__(self, step, action) -> None:
        self.step, self.action = step, action

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            self.action()


def stall(marker: Path, step: int) -> None:
    """Hang when the checkpoint of a step is written and about to get its name, and say so."""
    force, name = _folders.force_to_disk, f"{checkpoints.checkpoint_path(Path(), step).name}.partial"

    def hang(path: Path, *, below: bool = True) -> None:
        force(path, below=below)
        if path.parent.name == name:
            marker.touch()
            time.sleep(600)

    _folders.force_to_disk = hang


def poison(module, perturbation: int) -> None:
    """Make the loss NaN where sets of a perturbation are."""
    for member in module.networks:

        def spoiled(batch, losses=member.losses, **arguments):
            found = losses(batch, **arguments)
            factor = torch.nan if (batch.condition.perturbation == perturbation).any() else 1.0
            return {**found, "total": found["total"] * factor}

        member.losses = spoiled


def run(task: dict) -> dict:
    model = make(**task.get("options", {}))
    callbacks = []
    if task.get("die_at") is not None and task.get("rank", 0) == task.get("die_rank", 0):
        number = getattr(signal, task.get("die_by", "SIGKILL"))
        callbacks.append(AtStep(task["die_at"], lambda: os.kill(os.getpid(), number)))
    if task.get("poison_at") is not None and task.get("rank", 1) == 1:
        callbacks.append(AtStep(task["poison_at"], lambda: poison(model.module, 1)))
    if task.get("hang_at") is not None and task["rank"] == 1:
        callbacks.append(AtStep(task["hang_at"], lambda: time.sleep(600)))
    if "answer_within" in task:
        processes._TIMEOUT = timedelta(seconds=task["answer_within"])
    if "stall_at" in task:
        stall(Path(task["marker"]), task["stall_at"])
    arguments = {"enable_progress_bar": False, "accelerator": "cpu", **task.get("arguments", {})}
    try:
        model.train(**arguments, callbacks=callbacks)
    except BaseException as error:  # noqa: BLE001 - the test looks at it
        return {**outcome(model), "error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}
    return outcome(model)


def run_script(task: dict) -> None:
    """Run a script as a cluster would."""
    os.environ |= task.get("environment", {})
    sys.argv = [task["script"], *task["arguments"]]
    runpy.run_path(task["script"], run_name="__main__")


def main(task: dict) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if "script" in task:
        run_script(task)
        return
    if "world" in task:
        # what torchrun sets
        os.environ |= {
            "RANK": str(task["rank"]),
            "LOCAL_RANK": str(task["rank"]),
            "WORLD_SIZE": str(task["world"]),
            "LOCAL_WORLD_SIZE": str(task["world"]),
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(task["port"]),
            "TORCHELASTIC_RUN_ID": "test",
        }
    results = []
    for each in task.get("runs", [{}]):
        results.append(run({**task, **each}))
        Path(task["out"]).write_text(json.dumps(results))
    # the other processes may be gone, and are not waited for
    os._exit(0)


if "task" in globals():
    main(globals()["task"])
