"""A folder is there in full or not at all, whoever fails, interrupts or writes at the same time."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from transpert import _folders
from transpert._folders import (
    MARKER,
    Unfinished,
    file_written,
    folder_written,
    held,
    partial_folder,
    read_steadily,
    unfinished_work,
)
from transpert.errors import AssumptionWarning, ModelFileError, OptionError, StoreError


def write(target: Path, text: str) -> None:
    with folder_written(target, "model", ModelFileError, "save again") as new:
        (new / "a").write_text(text)
        (new / "below").mkdir()
        (new / "below" / "b").write_text(text)


def read(folder: Path) -> str:
    return (folder / "a").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_written_and_replaced_and_nothing_is_left(tmp_path) -> None:
    write(tmp_path / "below" / "model", "first")
    write(tmp_path / "below" / "model", "second")
    assert read(tmp_path / "below" / "model") == "second"
    assert names(tmp_path / "below") == ["model"]
    assert names(tmp_path / "below" / "model") == ["a", "below"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("fails_at", [1, 2])
def test_the_old_one_stays_where_a_renaming_fails(tmp_path, monkeypatch, kind, fails_at) -> None:
    target = tmp_path / "model"
    write(target, "first")
    rename, calls = os.rename, []

    def fail(*paths):
        calls.append(paths)
        if len(calls) == fails_at:
            raise kind
        rename(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(ModelFileError if kind is OSError else kind):
            write(target, "second")
    assert read(target) == "first" and names(tmp_path) == ["model"]


def test_a_second_interrupt_loses_nothing(tmp_path, monkeypatch) -> None:
    target = tmp_path / "model"
    write(target, "first")
    rename, calls = os.rename, []

    def interrupted(*paths):
        calls.append(paths)
        if len(calls) > 1:  # also when the old one is put back
            raise KeyboardInterrupt
        rename(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(target, "second")
    assert not target.exists()
    with pytest.warns(AssumptionWarning, match="was being replaced when the process was killed"):
        assert read_steadily(target, "model", read) == "first"
    write(target, "third")
    assert read(target) == "third" and names(tmp_path) == ["model"]


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: write_notes(path)])
def test_what_is_not_ours_is_never_removed(tmp_path, make) -> None:
    make(tmp_path / "model.partial")
    with pytest.raises(
        ModelFileError, match="is not an unfinished model of transpert.*model.partial.*Give it another name"
    ):
        write(tmp_path / "model", "first")
    found = tmp_path / "model.partial"
    assert (found / "notes" if found.is_dir() else found).read_text() == "mine"
    assert names(tmp_path) == ["model.partial"]


def write_notes(path: Path) -> None:
    path.mkdir()
    (path / "notes").write_text("mine")


def test_a_copy_of_the_marker_under_another_name_is_not_ours(tmp_path) -> None:
    work = Unfinished(tmp_path / "model", "model")
    work.begin(ModelFileError)
    os.rename(work.folder, tmp_path / "other.partial")
    assert not Unfinished(tmp_path / "other", "model").is_ours


def test_unfinished_work_of_another_kind_is_not_cleared(tmp_path) -> None:
    work = Unfinished(tmp_path / "model", "prediction")
    work.begin(ModelFileError)
    (work.folder / "part").write_text("")
    with pytest.raises(ModelFileError, match="not an unfinished model"):
        write(tmp_path / "model", "first")
    assert work.is_ours and names(work.folder) == [MARKER, "part"]


def test_what_a_killed_process_left_is_cleared(tmp_path) -> None:
    work = Unfinished(tmp_path / "model", "model")
    work.begin(ModelFileError)
    work.new.mkdir()
    (work.new / "half").write_text("half")
    write(tmp_path / "model", "first")
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["a", "below"]
    (tmp_path / "model.partial").mkdir()  # killed before it could be marked
    write(tmp_path / "model", "second")
    assert names(tmp_path) == ["model"]


def test_what_a_process_left_that_was_killed_after_the_last_rename_is_removed(tmp_path) -> None:
    target = tmp_path / "cells.zarr"
    target.mkdir()
    Unfinished(target, "store").begin(StoreError)
    with unfinished_work(target, "store", StoreError, "go on"):
        assert not partial_folder(target).exists()
    assert names(tmp_path) == ["cells.zarr"]


def test_work_that_can_be_gone_on_with_is_kept(tmp_path) -> None:
    target = tmp_path / "cells.zarr"
    Unfinished(target, "store").begin(StoreError)
    with unfinished_work(target, "store", StoreError, "go on") as work:
        assert work.is_ours


def test_what_an_interrupted_clearing_leaves_is_still_ours(tmp_path, monkeypatch) -> None:
    work = Unfinished(tmp_path / "model", "model")
    work.begin(ModelFileError)
    for name in ("a", "b", "c"):
        (work.folder / name).write_text("")
    remove = _folders.remove
    left = iter([remove, remove])
    with monkeypatch.context() as patch:
        patch.setattr(_folders, "remove", lambda path: next(left)(path))
        with pytest.raises(StopIteration):
            work.discard()
    assert work.is_ours and len(names(work.folder)) == 2


def test_a_link_stays_a_link(tmp_path) -> None:
    write(tmp_path / "disk" / "model", "first")
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "model")
    write(tmp_path / "model", "second")
    assert (tmp_path / "model").is_symlink() and read(tmp_path / "disk" / "model") == "second"


def test_what_is_refused_is_looked_at_under_the_lock(tmp_path) -> None:
    locked = []

    def check() -> None:
        locked.append((tmp_path / ".model.lock").exists())
        raise ModelFileError("no")

    with (
        pytest.raises(ModelFileError, match="no"),
        folder_written(tmp_path / "model", "model", ModelFileError, "", check=check),
    ):
        pytest.fail("it was refused")
    assert locked == [True] and names(tmp_path) == []


def test_a_full_disk_is_named(tmp_path) -> None:
    with pytest.raises(ModelFileError, match=r"the disk is full \(in .*model\). Free space and save again."):
        with folder_written(tmp_path / "model", "model", ModelFileError, "save again"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(tmp_path) -> None:
    write(tmp_path / "model", "first")
    texts = []

    def reads(folder: Path) -> str:
        texts.append(read(folder))
        if len(texts) == 1:
            write(tmp_path / "model", "second")
            raise ModelFileError("the weights are of another model")
        return texts[-1]

    assert read_steadily(tmp_path / "model", "model", reads) == "second" and texts == ["first", "second"]
    with pytest.raises(ModelFileError, match="damaged"):
        read_steadily(tmp_path / "model", "model", lambda folder: (_ for _ in ()).throw(ModelFileError("damaged")))


# --- one process at a time ----------------------------------------------------------------------------------------
HOLD = """
import sys, time
from pathlib import Path
from transpert._folders import held
from transpert.errors import ModelFileError
with held(Path(sys.argv[1]), ModelFileError):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_by_name_and_a_dead_one_is_not_waited_for(tmp_path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "model")], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(ModelFileError, match=f"process {other.pid} of host .* is writing there"):
                write(tmp_path / "model", "first")
            assert names(tmp_path) == [".model.lock"]
        finally:
            other.kill()
    write(tmp_path / "model", "first")
    assert names(tmp_path) == ["model"]


def test_the_same_process_is_refused_too(tmp_path) -> None:
    with held(tmp_path / "model", ModelFileError), pytest.raises(ModelFileError, match=f"process {os.getpid()} "):
        write(tmp_path / "model", "first")
    assert names(tmp_path) == []


def test_a_lock_of_another_host_says_how_to_go_on(tmp_path) -> None:
    lock = tmp_path / ".model.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    with pytest.raises(ModelFileError, match=r"process 7 of host 'elsewhere' is .*delete .*\.model\.lock"):
        write(tmp_path / "model", "first")
    assert json.loads(lock.read_text())["host"] == "elsewhere"
    lock.unlink()
    write(tmp_path / "model", "first")


def test_a_file_that_is_no_lock_is_left_alone(tmp_path) -> None:
    (tmp_path / ".model.lock").write_text("mine")
    with pytest.raises(ModelFileError, match="this is no lock of transpert"):
        write(tmp_path / "model", "first")
    assert (tmp_path / ".model.lock").read_text() == "mine"


@pytest.mark.parametrize("alive", [True, False])
def test_where_the_file_system_knows_no_locks_the_process_is_looked_for(tmp_path, monkeypatch, alive) -> None:
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(_folders.fcntl, "flock", unknown)
    pid = os.getppid() if alive else 2**22 + 1  # above the largest number of a process
    (tmp_path / ".model.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": pid}))
    if alive:
        with pytest.raises(ModelFileError, match=f"process {pid} "):
            write(tmp_path / "model", "first")
    else:
        write(tmp_path / "model", "first")
        assert names(tmp_path) == ["model"]


def test_the_name_of_unfinished_work(tmp_path) -> None:
    assert partial_folder(tmp_path / "a.zarr") == tmp_path / "a.zarr.partial"
    assert MARKER.startswith(".")


# --- files --------------------------------------------------------------------------------------------------------
def write_text(target: Path, text: str, **options) -> None:
    with file_written(target, StoreError, "repeat the call", **options) as new:
        (new.parent / "scratch").mkdir()
        new.write_text(text)


def test_a_file_is_written_and_replaced_and_nothing_is_left(tmp_path) -> None:
    target = tmp_path / "below" / "scores.csv.gz"
    write_text(target, "first")
    write_text(target, "second")
    assert target.read_text() == "second" and names(target.parent) == ["scores.csv.gz"]
    with file_written(target, StoreError, "repeat the call") as new:  # pandas packs it because of its name
        pd.DataFrame({"a": [1]}).to_csv(new, index=False)
    assert pd.read_csv(target)["a"].tolist() == [1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError, ValueError])
def test_the_old_file_stays_where_writing_fails(tmp_path, kind) -> None:
    target = tmp_path / "scores.csv"
    write_text(target, "first")
    with (
        pytest.raises(StoreError if kind is OSError else kind),
        file_written(target, StoreError, "repeat the call") as new,
    ):
        new.write_text("half")
        raise kind
    assert target.read_text() == "first" and names(tmp_path) == ["scores.csv"]


def test_a_file_is_not_put_in_place_of_a_folder_of_the_user_or_of_what_stands_beside(tmp_path) -> None:
    (tmp_path / "scores.csv" / "mine").mkdir(parents=True)
    with pytest.raises(StoreError, match="there is a folder of this name.*Choose another name"):
        write_text(tmp_path / "scores.csv", "text")
    (tmp_path / "other.csv.partial").write_text("mine")
    with pytest.raises(StoreError, match="not an unfinished file of transpert"):
        write_text(tmp_path / "other.csv", "text")
    assert (tmp_path / "scores.csv" / "mine").is_dir() and (tmp_path / "other.csv.partial").read_text() == "mine"


def test_what_exists_is_looked_for_under_the_lock(tmp_path) -> None:
    target = tmp_path / "scores.csv"

    def check() -> None:
        with pytest.raises(StoreError, match=f"process {os.getpid()} .* is writing there"), held(target, StoreError):
            pass

    write_text(target, "text", check=check)
    assert target.read_text() == "text"


def test_a_link_to_a_file_stays_one(tmp_path) -> None:
    write_text(tmp_path / "real.csv", "first")
    (tmp_path / "link.csv").symlink_to("real.csv")
    write_text(tmp_path / "link.csv", "second")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_text() == "second"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with file_written(tmp_path / "pipe", StoreError, "repeat the call") as new:
        new.write_text("text")
    assert os.read(reader, 9) == b"text" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    with file_written(Path("/dev/null"), StoreError, "repeat the call") as new:
        new.write_text("text")
    assert Path("/dev/null").is_char_device()


def test_a_path_without_a_name_is_refused() -> None:
    with pytest.raises(OptionError, match="has no name of its own"):
        partial_folder(Path(""))
