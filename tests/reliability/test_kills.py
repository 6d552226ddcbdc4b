"""Killed, interrupted and simultaneous writers lose nothing; make soak kills more often, and all that writes."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.data.store_cells import DESIGN, assert_holds, make_cells
from tests.reliability import killing

import transpert as tp
from transpert._folders import folder_written, held, read_steadily
from transpert.data import Store, build_store
from transpert.errors import ModelFileError, StoreError

N_KILLS = 3
REPLACES = """
import itertools, sys
from pathlib import Path
from transpert._folders import folder_written
from transpert.errors import ModelFileError
for number in itertools.count(int(sys.argv[2])):
    with folder_written(Path(sys.argv[1]), "model", ModelFileError, "save again") as new:
        for name in "abc":
            (new / name).write_text(str(number))
    print(number, flush=True)
"""


def read_number(folder: Path) -> int:
    (number,) = {(folder / name).read_text() for name in "abc"}
    return int(number)


def test_a_folder_that_is_replaced_is_whole_after_every_kill(tmp_path) -> None:
    moments, target, number = random.Random(0), tmp_path / "model", 0
    with folder_written(target, "model", ModelFileError, "save again") as new:
        for name in "abc":
            (new / name).write_text("0")
    for _ in range(N_KILLS):
        command = [sys.executable, "-W", "ignore", "-c", REPLACES, str(target), str(number + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline()
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
            done = process.stdout.read().split()
        found = read_steadily(target, "model", read_number)
        # what was reported is there, or the one that was being written after it
        assert found >= int(done[-1] if done else number + 1) and found > number
        number = found
    with folder_written(target, "model", ModelFileError, "save again") as new:
        (new / "a").write_text("last")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("fault", killing.FAULTS)
def test_nothing_is_lost_whatever_befalls_a_writer(tmp_path, fault) -> None:
    report = killing.run(1, 1, tmp_path, (fault,), ("h5ad files",))
    assert not report.lost and report.faults == {fault: 1}


def test_a_killed_save_leaves_the_old_model_or_the_new_one(tmp_path) -> None:
    assert not killing.run(2, 2, tmp_path, ("kill",), ("model.save",)).lost


@pytest.fixture
def store(tmp_path) -> Store:
    return build_store([make_cells(1)], tmp_path / "cells.zarr", DESIGN)


def test_of_two_appends_at_once_one_is_refused_and_no_cell_is_lost(store) -> None:
    begin, outcomes = threading.Barrier(2), {}

    def append(seed: int) -> None:
        opened = Store(store.path)
        begin.wait()
        try:
            opened.append([make_cells(seed)])
            outcomes[seed] = "appended"
        except StoreError as error:
            outcomes[seed] = str(error)

    threads = [threading.Thread(target=append, args=(seed,)) for seed in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = [seed for seed, outcome in outcomes.items() if outcome == "appended"]
    (refused,) = [outcome for outcome in outcomes.values() if outcome != "appended"]
    assert "is writing there" in refused or "has changed since it was opened" in refused
    found = Store(store.path)
    found.verify()
    assert_holds(found, [make_cells(1), *map(make_cells, there)])


def test_a_store_that_is_written_is_not_appended_to(store) -> None:
    with held(store.path, StoreError), pytest.raises(StoreError, match=f"process {os.getpid()} .* is writing there"):
        store.append([make_cells(2)])
    assert_holds(store.append([make_cells(2)]), [make_cells(1), make_cells(2)])


def test_an_append_after_another_is_refused_under_the_lock(store) -> None:
    second = Store(store.path)
    store.append([make_cells(2)])
    with pytest.raises(StoreError, match="has changed since it was opened"):
        second.append([make_cells(3)])
    assert_holds(Store(store.path), [make_cells(1), make_cells(2)])


def test_a_folder_of_the_user_beside_a_store_is_left_alone(tmp_path) -> None:
    mine = tmp_path / "cells.zarr.partial"
    mine.mkdir()
    (mine / "notes").write_text("mine")
    with pytest.raises(StoreError, match="not an unfinished store of transpert.*Give it another name"):
        build_store([make_cells(1)], tmp_path / "cells.zarr", DESIGN)
    assert (mine / "notes").read_text() == "mine" and not (tmp_path / "cells.zarr").exists()


@contextmanager
def files_of_at_most(n_bytes: int):
    """A full disk: no file may grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_build_that_runs_out_of_room_goes_on_when_there_is_some(tmp_path) -> None:
    out = tmp_path / "cells.zarr"
    with files_of_at_most(2048), pytest.raises(StoreError, match="larger than is allowed.*run the same call again"):
        build_store([make_cells(1)], out, DESIGN)
    assert not out.exists()
    assert_holds(build_store([make_cells(1)], out, DESIGN), [make_cells(1)])


def test_a_model_that_runs_out_of_room_leaves_the_one_before(tmp_path) -> None:
    cells = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25)
    tp.MeanShift.setup_anndata(cells, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    model = tp.MeanShift(cells)
    model.train()
    model.save(tmp_path / "model")
    with files_of_at_most(1024), pytest.raises(ModelFileError, match="larger than is allowed.*as it was"):
        model.save(tmp_path / "model", overwrite=True)
    assert tp.MeanShift.load(tmp_path / "model").is_trained_
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
