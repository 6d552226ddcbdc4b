"""Everything that we write, done in a process that is killed, interrupted, one of two, or out of room.

``sabotage`` does one of them to one task and says what was lost. A process of it runs this file with a global ``task``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import runpy
import shutil
import signal
import socket
import sys
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if "task" in globals():  # another package of this name may be installed
    sys.modules["tests"] = types.ModuleType("tests")
    sys.modules["tests"].__path__ = [str(Path(__file__).parents[1])]

import anndata as ad
import numpy as np
from tests.data.store_cells import DESIGN, assert_holds, make_cells

import transpert as tp
from transpert._folders import MARKER
from transpert.data import Store, build_store
from transpert.errors import TranspertError

PATIENCE = 120  # seconds; a hang is a fault
FAULTS = ("kill", "interrupt", "interrupt twice", "two at once", "no room")
KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}
SCREEN = tp.groups.Design("perturbation", "control", ("context",), split_key="split")


@dataclass(frozen=True)
class Task:
    """A call that writes, what is there before, and what must be there after it."""

    prepare: Callable[[Path], Any]
    work: Callable[..., Any]  # the second says that the writing begins
    intact: Callable[[Path], Any]  # holds at any moment; fails where something is lost
    finished: Callable[[Path], Any]  # returns what must be the same as without a fault


@dataclass
class Report:
    """How many faults were made, and what came of them."""

    faults: Counter = field(default_factory=Counter)
    outcomes: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Add what came of others."""
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.lost += other.lost

    def __str__(self) -> str:
        made = ", ".join(f"{number} {name}" for name, number in sorted(self.faults.items()))
        ends = ", ".join(f"{number} {name}" for name, number in sorted(self.outcomes.items()))
        return f"{sum(self.faults.values())} faults ({made}); calls: {ends}; {len(self.lost)} lost or raw"


def nothing(*_: Any) -> None:
    """Do nothing."""


# --- tasks ------------------------------------------------------------------------------------------------------------
def screen(seed: int = 0) -> ad.AnnData:
    return tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25, seed=seed)


def trained(seed: int, kind: Any = tp.MeanShift) -> Any:
    cells = screen(seed)
    kind.setup_anndata(cells, **KEYS)
    model = kind(cells)
    model.train()
    return model


def shift(model: Any) -> list:
    return model.predict(perturbations="P0", readout="expected", progress=False).to_df().sum().round(3).tolist()


def a_network() -> Any:
    cells = screen()
    tp.SCALE.setup_anndata(cells, **KEYS)
    training = tp.model.TrainingOptions(steps=6, steps_per_epoch=3, set_size=6, sets_per_batch=4)
    return tp.SCALE(cells, preset="tiny", joining=tp.model.JoiningOptions(folds=2), training=training)


def train(folder: Path, begin: Callable[[], None]) -> None:
    model = a_network()
    begin()
    model.train(
        checkpoint_dir=folder / "run", checkpoint_every_n_steps=1, resume="auto", enable_progress_bar=False,
        accelerator="cpu",
    )  # fmt: skip
    losses = {name: table.to_numpy().ravel().tolist() for name, table in model.history.items()}
    write(folder / "losses.json", [losses, model.gate, model.predict(progress=False).to_df().to_numpy().tolist()])


def write(path: Path, values: Any) -> None:
    """Write what came of a task, which is none of its own files: with room again."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(values))
    beside.replace(path)


def checkpoints(folder: Path) -> None:
    """Of the checkpoints that have their name, each is whole."""
    from transpert.model.scale.training.checkpoints import find_checkpoints, read_state

    for path in find_checkpoints(folder / "run"):
        read_state(path)


def save(folder: Path, begin: Callable[[], None]) -> None:
    model = trained(1)
    begin()
    model.save(folder / "model", overwrite=True)


def a_model(folder: Path) -> list:
    found = shift(tp.MeanShift.load(folder / "model", screen()))
    known = [shift(tp.MeanShift.load(folder / name, screen())) for name in ("first", "second")]
    assert found in known, "the model is neither the old nor the new one"
    return found


def two_models(folder: Path) -> None:
    for name, seed in (("model", 0), ("first", 0), ("second", 1)):
        trained(seed).save(folder / name)


def build(folder: Path, begin: Callable[[], None]) -> None:
    begin()
    if not (folder / "cells.zarr").exists():
        build_store([make_cells(1), make_cells(2)], folder / "cells.zarr", DESIGN, cells_per_part=80)


def no_half_store(folder: Path) -> None:
    if (folder / "cells.zarr").exists():
        Store(folder / "cells.zarr").verify()
        assert_holds(Store(folder / "cells.zarr"), [make_cells(1), make_cells(2)])


def append(folder: Path, begin: Callable[[], None]) -> None:
    store = Store(folder / "cells.zarr")
    begin()
    if store.n_obs == 200:
        store.append([make_cells(2)])


def no_lost_cells(folder: Path) -> int:
    store = Store(folder / "cells.zarr")
    store.verify()
    assert_holds(store, [make_cells(seed) for seed in (1, 2)[: 1 + (store.n_obs > 200)]])
    return store.n_obs


def stream(folder: Path, begin: Callable[[], None]) -> None:
    model = trained(0)
    begin()
    if not (folder / "pred.zarr").exists():
        model.predict_to_store(folder / "pred.zarr", cells_per_part=60, progress=False)


def no_half_prediction(folder: Path) -> Any:
    if (folder / "pred.zarr").exists():
        found = ad.read_zarr(folder / "pred.zarr")
        return found.obs_names.tolist(), np.asarray(found.X.sum(axis=1)).ravel().tolist()
    return None


def do_study(folder: Path, begin: Callable[[], None]) -> None:
    cells = screen()
    tp.pp.split(cells, holdout={"context": "context_0"})
    begin()
    found = tp.tl.scaling_study(
        cells, SCREEN, models="MeanShift", axes={"cells": [0.5, 1.0]}, seeds=2, metrics="mae",
        out=folder / "study", progress=False,
    )  # fmt: skip
    write(folder / "table.json", found.table.drop(columns="seconds").to_json())


def no_half_result(folder: Path) -> None:
    for path in (folder / "study" / "runs").glob("*.json"):
        json.loads(path.read_text())
    if (folder / "study" / "subsets.npz").exists():
        assert dict(np.load(folder / "study" / "subsets.npz"))


def register(folder: Path, begin: Callable[[], None]) -> None:
    pred = trained(0, tp.KernelTransport).predict({"context": "context_0"}, interval=0.9, progress=False)
    begin()
    if not (folder / "registered").exists():
        tp.tl.register_prediction(pred, folder / "registered")


def no_half_registration(folder: Path) -> Any:
    place = folder / "registered"
    if place.exists():
        tp.tl.score_registered(place, screen(3))  # refuses files that do not have their checksum
        return sorted(path.name for path in place.iterdir())
    return None


def export(folder: Path, begin: Callable[[], None]) -> None:
    begin()
    tp.tl.to_cell_eval(screen(1), screen(1), folder, overwrite=True)


def two_files(folder: Path) -> list[float]:
    return [float(ad.read_h5ad(folder / name).X.sum()) for name in ("pred.h5ad", "real.h5ad")]


TASKS = {
    "training": Task(nothing, train, checkpoints, lambda folder: json.loads((folder / "losses.json").read_text())),
    "model.save": Task(two_models, save, a_model, a_model),
    "build_store": Task(nothing, build, no_half_store, lambda folder: Store(folder / "cells.zarr").fingerprint),
    "append": Task(
        lambda folder: build_store([make_cells(1)], folder / "cells.zarr", DESIGN), append, no_lost_cells, no_lost_cells
    ),
    "predict_to_store": Task(nothing, stream, no_half_prediction, no_half_prediction),
    "study": Task(nothing, do_study, no_half_result, lambda folder: json.loads((folder / "table.json").read_text())),
    "registered prediction": Task(nothing, register, no_half_registration, no_half_registration),
    "h5ad files": Task(lambda folder: tp.tl.to_cell_eval(screen(), screen(), folder), export, two_files, two_files),
}


def train_together(folder: Path, begin: Callable[[], None], *, rank: int, port: int, how: str) -> None:
    """Train as one of two processes, of which the second is killed or stopped."""
    import lightning

    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}  # as torchrun does
    os.environ |= {name: str(value) for name, value in names.items()}

    class End(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                begin()
                if rank == 1:
                    os.kill(os.getpid(), getattr(signal, how))

    model = a_network()
    model.train(devices=2, enable_progress_bar=False, accelerator="cpu", callbacks=[End()])


def bereaved(how: str, folder: Path) -> tuple[float, str]:
    """Train in two processes, lose one, and return after how many seconds the other ended, and what it said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start("together", folder, rank, options={"rank": rank, "port": port, "how": how}) for rank in range(2)]
    end = time.monotonic() + PATIENCE
    while not (folder / "begun-0").exists() and time.monotonic() < end:
        time.sleep(0.01)
    begun = time.monotonic()
    both[0].join(PATIENCE)
    seconds = time.monotonic() - begun
    for process in both:
        process.kill()
        process.join()
    said = folder / "outcome-0"
    return seconds, said.read_text() if said.exists() else "it hangs"


# --- a process that does one ------------------------------------------------------------------------------------------
def start(
    name: str, folder: Path, number: int = 0, room: int | None = None, options: dict[str, Any] | None = None
) -> Any:
    """Start a process; the server from which it is forked has imported transpert once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transpert.model", "transpert.tl", "transpert.data"])
    task = {"name": name, "folder": str(folder), "number": number, "room": room, "options": options or {}}
    process = context.Process(target=runpy.run_path, args=(__file__,), kwargs={"init_globals": {"task": task}})
    process.start()
    return process


def main(name: str, folder: str, number: int, room: int | None, options: dict[str, Any]) -> None:
    """Do a task, and write down how it ended."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it

    def begin() -> None:
        Path(folder, f"begun-{number}").touch()
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    try:
        work = train_together if name == "together" else TASKS[name].work
        work(Path(folder), begin, **options)
        outcome = "done"
    except KeyboardInterrupt:
        outcome = "interrupted"
    except BaseException as error:  # noqa: BLE001 - the report says which
        ours = isinstance(error, TranspertError) and bool(error.remedy)
        outcome = f"{'' if ours else 'raw '}{type(error).__name__}: {error}"[:300]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path(folder, f"outcome-{number}").write_text(outcome)
    os._exit(0)


# --- faults -----------------------------------------------------------------------------------------------------------
@dataclass
class Sabotage:
    """What a task makes without a fault, how long it takes, and faults in the middle of it."""

    name: str
    place: Path
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        self.task, self.n = TASKS[self.name], 0
        self.template = self.place / "template"
        self.template.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.task.prepare(self.template)
            whole = self._fresh()
            self._wait([process := start(self.name, whole)], begun := self._begin(whole, process))
            self.seconds = time.monotonic() - begun
            assert self._outcomes(whole) == ["done"], self._outcomes(whole)
            self.expected = self.task.finished(whole)
        self.largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())

    def _fresh(self) -> Path:
        self.n += 1
        return Path(shutil.copytree(self.template, self.place / str(self.n)))

    def _begin(self, folder: Path, process: Any, number: int = 0) -> float:
        """Wait until a process is about to write."""
        end = time.monotonic() + PATIENCE
        while not (folder / f"begun-{number}").exists() and process.is_alive() and time.monotonic() < end:
            time.sleep(0.002)
        return time.monotonic()

    def _wait(self, processes: list[Any], _: Any = None) -> None:
        for process in processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
                self.report.lost.append(f"{self.name}: a process hangs")

    def _outcomes(self, folder: Path) -> list[str]:
        return [path.read_text() for path in sorted(folder.glob("outcome-*"))]

    def make(self, fault: str, moments: random.Random) -> None:
        """Make a fault, see what is there, do the task again, and compare."""
        folder = self._fresh()
        room = moments.randrange(max(self.largest, 1)) if fault == "no room" else None
        processes = [start(self.name, folder, number, room) for number in range(1 + (fault == "two at once"))]
        if fault in ("kill", "interrupt", "interrupt twice"):
            self._begin(folder, processes[0])
            time.sleep(moments.uniform(0, self.seconds))
            for number in range(1 + (fault == "interrupt twice")):
                time.sleep(0.01 * number)
                with suppress(ProcessLookupError):
                    os.kill(processes[0].pid, signal.SIGKILL if fault == "kill" else signal.SIGINT)
        self._wait(processes)
        self.report.faults[fault] += 1
        outcomes = self._outcomes(folder) or ["killed"]
        self.report.outcomes.update(outcome.partition(":")[0] for outcome in outcomes)
        what = f"{self.name}, {fault} ({', '.join(outcomes)})"
        self.report.lost += [what] if any(outcome.startswith("raw") for outcome in outcomes) else []
        if fault == "two at once" and "done" not in outcomes:
            self.report.lost.append(f"{what}: neither was done")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.task.intact(folder)
                self._wait([start(self.name, folder, 9)])
                assert self._outcomes(folder)[-1] == "done", f"not done again: {self._outcomes(folder)[-1]}"
                self.task.intact(folder)
                assert self.task.finished(folder) == self.expected, "something else came of it"
                left = _left_behind(folder)
                assert not left, f"left behind: {left}"
        except Exception as error:  # noqa: BLE001 - whatever it is, something was lost
            self.report.lost.append(f"{what}: {type(error).__name__}: {error}"[:400])
        shutil.rmtree(folder)


def _left_behind(folder: Path) -> list[str]:
    """Return unfinished work and locks, but for those that the next writing of the name removes.

    A process that was killed after the last rename leaves its marker alone, and its lock.
    """
    partial = {path.name.removesuffix(".partial"): path for path in folder.rglob("*.partial")}
    locks = {path.name[1:].removesuffix(".lock"): path for path in folder.rglob("*.lock")}
    done = {
        name for name, path in partial.items()
        if path.with_suffix("").exists() and [inside.name for inside in path.iterdir()] == [MARKER]
    }  # fmt: skip
    return [path.name for found in (partial, locks) for name, path in found.items() if name not in done]


def run(
    n: int, seed: int, place: Path, faults: tuple[str, ...] = FAULTS, names: tuple[str, ...] = tuple(TASKS)
) -> Report:
    """Make so many faults of each kind, spread over the tasks, at moments that the seed decides."""
    moments, report = random.Random(seed), Report()
    made = {name: Sabotage(name, place / name.replace(" ", "-"), report) for name in names}
    for fault in faults:
        for number in range(n):
            made[names[number % len(names)]].make(fault, moments)
    return report


if "task" in globals():
    main(**globals()["task"])
