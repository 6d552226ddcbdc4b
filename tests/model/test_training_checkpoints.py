"""Training that goes on after an interruption, and checkpoints that are whole or refused."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import transpert as tp
from transpert._folders import Unfinished
from transpert.errors import AssumptionWarning, CheckpointError, OptionError
from transpert.model import TrainingOptions
from transpert.model.scale.training import checkpoints
from transpert.model.scale.training import run as training

STEPS, PER_EPOCH = 6, 3
QUIET = {"enable_progress_bar": False, "accelerator": "cpu", "enable_model_summary": False}


def simulated():
    return tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25)


@pytest.fixture(scope="module")
def small():
    adata = simulated()
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    return adata


def make(adata, *, seed=0, **options):
    chosen = {"steps": STEPS, "steps_per_epoch": PER_EPOCH, "set_size": 6, "sets_per_batch": 4, **options}
    return tp.SCALE(adata, preset="tiny", training=TrainingOptions(**chosen), seed=seed)


def train(model, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("always", AssumptionWarning)
        model.train(**{**QUIET, **arguments})
    return model


def outcome(model):
    """Everything a training decides: all losses, the gate, and a prediction."""
    losses = {name: table.to_numpy().ravel().tolist() for name, table in model.history.items()}
    return losses, model.gate, model.predict(perturbations="P0", progress=False).to_df().to_numpy().tolist()


@pytest.fixture(scope="module")
def whole(small):
    return outcome(train(make(small)))


@pytest.fixture(scope="module")
def every_step(small, tmp_path_factory):
    """A folder with a checkpoint of every step."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "remove_old_checkpoints", lambda folder: None)
        train(make(small), checkpoint_dir=folder, checkpoint_every_n_steps=1)
    return folder


def test_writing_checkpoints_changes_nothing(small, whole, tmp_path) -> None:
    model = train(make(small), checkpoint_dir=tmp_path, checkpoint_every_n_steps=2)
    assert outcome(model) == whole
    assert [path.name for path in checkpoints.find_checkpoints(tmp_path)] == ["step-000000006", "step-000000004"]
    assert {path.name[:5] for path in tmp_path.iterdir()} == {"step-"}


@pytest.mark.parametrize("step", [1, 3, 5, 6], ids=["first", "end of an epoch", "within an epoch", "last"])
def test_a_resumed_training_is_the_uninterrupted_one(small, whole, every_step, step) -> None:
    path = checkpoints.checkpoint_path(every_step, step)
    assert outcome(train(make(small), resume=path)) == whole


def test_early_stopping_is_remembered(small, tmp_path) -> None:
    options = {"patience": 1, "learning_rate": 1e-12, "steps": 30, "average": 0.0}
    stopped = train(make(small, **options), checkpoint_dir=tmp_path)
    n_epochs = len(stopped.history["validation_loss"])
    assert n_epochs < 10
    again = train(make(small, **options), checkpoint_dir=tmp_path, resume="auto")
    assert outcome(again) == outcome(stopped)


def test_auto_starts_where_there_is_nothing(small, whole, tmp_path) -> None:
    assert outcome(train(make(small), checkpoint_dir=tmp_path / "new", resume="auto")) == whole


@pytest.mark.parametrize(
    ("options", "arguments", "seed", "difference"),
    [
        ({"learning_rate": 0.01}, {}, 0, r"options.training.learning_rate was 0.001 and is 0.01"),
        ({}, {}, 1, "seed was 0 and is 1"),
        ({}, {"max_epochs": 9}, 0, "max_epochs was 2 and is 9"),
        ({}, {"precision": "bf16-mixed"}, 0, "precision was '32' and is 'bf16-mixed'"),
    ],
    ids=["options", "seed", "epochs", "precision"],
)
def test_another_training_is_refused(small, every_step, options, arguments, seed, difference) -> None:
    with pytest.raises(CheckpointError, match=difference):
        train(make(small, seed=seed, **options), checkpoint_dir=every_step, resume="auto", **arguments)


def test_other_data_are_refused(small, every_step) -> None:
    swapped = simulated()
    # the same counts in another order: their sum does not tell
    swapped.layers["counts"] = swapped.layers["counts"][:, ::-1].copy()
    tp.SCALE.setup_anndata(swapped, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    with pytest.raises(CheckpointError, match=r"data\.counts"):
        train(make(swapped), checkpoint_dir=every_step, resume="auto")


def test_a_new_training_does_not_write_among_others(small, every_step) -> None:
    before = sorted(path.name for path in every_step.iterdir())
    with pytest.raises(CheckpointError, match="holds the checkpoints of a training"):
        train(make(small), checkpoint_dir=every_step)
    assert sorted(path.name for path in every_step.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resume": True}, "resume is True"),
        ({"resume": "auto"}, "no place for checkpoints"),
        ({"checkpoint_every_n_steps": 5}, "no place for checkpoints"),
        ({"checkpoint_dir": "x", "checkpoint_every_n_steps": 0}, "checkpoint_every_n_steps is 0"),
        ({"strategy": "ddp_spawn"}, "strategy='ddp_spawn' does not exist here"),
    ],
)
def test_contradictions_are_named(small, arguments, message) -> None:
    with pytest.raises(OptionError, match=message):
        train(make(small), **arguments)


@pytest.mark.parametrize("below", ["", "run/2"])
def test_a_place_for_checkpoints_that_is_a_file_is_refused_before_training(small, tmp_path, monkeypatch, below) -> None:
    (tmp_path / "notes").write_text("mine")
    model = make(small)
    monkeypatch.setattr(model, "_training_groups", lambda: pytest.fail("the training has begun"))
    with pytest.raises(CheckpointError, match="notes is a file"):
        train(model, checkpoint_dir=tmp_path / "notes" / below)
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_place_for_checkpoints_that_cannot_be_written_is_refused_before_training(
    small, tmp_path, monkeypatch
) -> None:
    # root may write anywhere
    monkeypatch.setattr(training.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(CheckpointError, match="nothing can be written"):
        train(make(small), checkpoint_dir=tmp_path / "run" / "2")


# --- damage -----------------------------------------------------------------------------------------------------


def truncate(path):
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip(path):
    data = bytearray((path / "state.json").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "state.json").write_bytes(data)


def lose(path):
    (path / "tensors.safetensors").unlink()


def forget(path):
    (path / "SHA256SUMS").unlink()


@pytest.fixture
def two(every_step, tmp_path):
    """A folder with the checkpoints of steps 2 and 4."""
    for step in (2, 4):
        path = checkpoints.checkpoint_path(every_step, step)
        shutil.copytree(path, tmp_path / path.name)
    return tmp_path


@pytest.mark.parametrize("damage", [truncate, flip, lose, forget])
def test_the_checkpoint_before_a_damaged_one_is_found(two, damage) -> None:
    damage(checkpoints.checkpoint_path(two, 4))
    with pytest.warns(AssumptionWarning, match=r"damaged .*step-000000004.* the one before it, step-000000002"):
        assert checkpoints.newest_checkpoint(two) == checkpoints.checkpoint_path(two, 2)


def test_a_training_goes_on_before_a_damaged_checkpoint(small, whole, two) -> None:
    truncate(checkpoints.checkpoint_path(two, 4))
    with pytest.warns(AssumptionWarning, match="the one before it, step-000000002"):
        model = train(make(small), checkpoint_dir=two, resume="auto")
    assert outcome(model) == whole


def test_without_a_whole_checkpoint_nothing_starts(small, two) -> None:
    for step in (2, 4):
        truncate(checkpoints.checkpoint_path(two, step))
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        train(make(small), checkpoint_dir=two, resume="auto")


def test_a_damaged_checkpoint_that_was_asked_for_is_an_error(small, two) -> None:
    path = checkpoints.checkpoint_path(two, 4)
    truncate(path)
    with pytest.raises(CheckpointError, match="does not have its checksum"):
        train(make(small), resume=path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["last.ckpt", "state.json"])
def test_pickles_are_not_opened(small, tmp_path, name) -> None:
    folder = tmp_path / "step-000000002"
    folder.mkdir()
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    for path in (folder, folder / name):
        with pytest.raises(CheckpointError, match="no checkpoint of transpert"):
            train(make(small), resume=path)


@pytest.mark.parametrize("error", ["write_text", "save_file"])
def test_a_full_disk_leaves_the_checkpoint_before_it(small, whole, two, monkeypatch, error) -> None:
    before = sorted(path.name for path in two.iterdir())

    def full(*args, **kwargs):
        # safetensors tells of the number in the message alone
        raise OSError(errno.ENOSPC, "No space left") if error == "write_text" else RuntimeError("(os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(*((checkpoints.Path, error) if error == "write_text" else (checkpoints, error)), full)
        with pytest.raises(CheckpointError, match="the disk is full"):
            train(make(small), checkpoint_dir=two, checkpoint_every_n_steps=1, resume="auto")
    assert sorted(path.name for path in two.iterdir()) == before
    assert checkpoints.newest_checkpoint(two) == checkpoints.checkpoint_path(two, 4)


# --- the format -------------------------------------------------------------------------------------------------


def test_any_nested_state_comes_back(tmp_path) -> None:
    state = {
        "tensors": {0: torch.arange(3), "half": torch.tensor([0.1], dtype=torch.bfloat16), "none": torch.zeros(0)},
        "$odd": [1, 2.5, None, True, "text", (1, (2,)), float("inf")],
        "scalar": np.float64(0.1),
    }
    shared = torch.ones(4)
    state["views"] = [shared[:2], shared]
    checkpoints.write_checkpoint(tmp_path / "step-1", state)
    found = checkpoints.read_state(tmp_path / "step-1")
    assert found["$odd"] == state["$odd"] and found["scalar"] == 0.1
    assert list(found["tensors"]) == [0, "half", "none"]
    for name, value in state["tensors"].items():
        assert torch.equal(found["tensors"][name], value) and found["tensors"][name].dtype == value.dtype
    assert [value.tolist() for value in found["views"]] == [[1, 1], [1, 1, 1, 1]]


def test_what_needs_a_pickle_is_named_and_nothing_is_left(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"a set cannot be written without a pickle \(in state/callbacks/mine\)"):
        checkpoints.write_checkpoint(tmp_path / "step-1", {"callbacks": {"mine": {1, 2}}})
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_named(tmp_path) -> None:
    path = tmp_path / "step-1"
    checkpoints.write_checkpoint(path, {})
    (path / "state.json").write_text(json.dumps({"format": 99, "state": {}}))
    names = ("state.json", "tensors.safetensors")
    (path / "SHA256SUMS").write_text("".join(f"{checkpoints._sha256(path / name)}  {name}\n" for name in names))
    with pytest.raises(CheckpointError, match="has format 99"):
        checkpoints.read_state(path)


def leave_unfinished(folder: Path, step: int) -> None:
    """What a process leaves that is killed while it writes a checkpoint."""
    path = checkpoints.checkpoint_path(folder, step)
    work = Unfinished(path, "checkpoint")
    work.begin(CheckpointError)
    work.new.mkdir()
    (work.new / "state.json").write_text("{")
    (folder / f".{path.name}.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 99999999}))


def test_what_a_killed_run_left_is_cleared_and_never_read_and_nothing_else_is(tmp_path) -> None:
    for step in range(4):
        checkpoints.write_checkpoint(checkpoints.checkpoint_path(tmp_path, step), {"step": step})
    leave_unfinished(tmp_path, 5)
    (tmp_path / "step-mine.partial").mkdir()
    assert checkpoints.newest_checkpoint(tmp_path) == checkpoints.checkpoint_path(tmp_path, 3)
    with checkpoints.checkpoints_held(tmp_path):
        checkpoints.remove_old_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000002", "step-000000003", "step-mine.partial"
    ]  # fmt: skip


def test_two_trainings_do_not_write_into_one_folder(small, tmp_path) -> None:
    with (
        checkpoints.checkpoints_held(tmp_path),
        pytest.raises(CheckpointError, match=f"process {os.getpid()} .* is writing there.*Wait until it has ended"),
    ):
        train(make(small), checkpoint_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("state", [b"[]", b'{"format": 1}', b'{"format": 1, "state": 3}', b"\xff", b'{"format": "1"}'])
def test_a_state_that_is_not_one_is_refused_by_name(tmp_path, state) -> None:
    path = tmp_path / "step-000000001"
    checkpoints.write_checkpoint(path, {})
    (path / "state.json").write_bytes(state)
    names = ("state.json", "tensors.safetensors")
    (path / "SHA256SUMS").write_text("".join(f"{checkpoints._sha256(path / name)}  {name}\n" for name in names))
    with pytest.raises(CheckpointError, match="is no JSON file|is not what it must be"):
        checkpoints.read_checkpoint(path)
