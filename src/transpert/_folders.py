"""Folders and files that are written in full or not at all, by one process at a time.

What is being made of ``<name>`` stands in ``<name>.partial`` beside it: a marker that says it is ours, ``new``, and for
a moment ``old``, the folder that is replaced. What has no marker is never removed. A lock file names the process.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ._files import writing
from .errors import OptionError, TranspertError, warn_user

MARKER = ".transpert"
_PARTIAL, _LOCK = ".partial", ".lock"  # ends of names of what is unfinished, and of locks
_HELD = {errno.EWOULDBLOCK, errno.EACCES}
_OPEN_FILES = {"/dev", "/dev/fd", "/proc/self/fd"}
_READS = 5  # of a folder that others replace meanwhile


class Unfinished:
    """The folder ``<name>.partial`` beside a target, which this process holds the lock of."""

    def __init__(self, target: Path, kind: str) -> None:
        self.kind = kind
        # a link stays one, and its target is what is replaced
        self.target = Path(os.path.realpath(target)) if target.is_symlink() else target
        self.folder = partial_folder(self.target)
        self.new, self.old = self.folder / "new", self.folder / "old"

    @property
    def is_ours(self) -> bool:
        """Whether the folder was made by this package, for such a thing of this name."""
        marker = self.folder / MARKER
        return marker.is_file() and marker.read_text(encoding="utf-8", errors="replace") == self._text

    @property
    def _text(self) -> str:
        """What the marker says."""
        return f"transpert makes the {self.kind} {self.target.name!r} in this folder, which it then removes.\n"

    def begin(self, error: type[TranspertError]) -> None:
        """Make the folder and its marker, unless they are there; refuse a folder that is not ours."""
        if self.is_ours:
            return
        if os.path.lexists(self.folder) and not self._is_empty:
            raise error(
                f"there is something of this name that is not an unfinished {self.kind} of transpert",
                where=str(self.folder),
                remedy="Give it another name, or write to another place.",
            )
        self.folder.mkdir(exist_ok=True)
        try:
            (self.folder / MARKER).write_text(self._text, encoding="utf-8")
        except BaseException:
            (self.folder / MARKER).unlink(missing_ok=True)
            self.folder.rmdir()
            raise

    @property
    def _is_empty(self) -> bool:
        """Whether the folder has at most a marker that another process is just writing, or was killed over."""
        try:
            return not self.folder.is_symlink() and {path.name for path in self.folder.iterdir()} <= {MARKER}
        except NotADirectoryError:
            return False

    @property
    def is_published(self) -> bool:
        """Whether the new folder has its name, and its process was killed before it removed what it worked in."""
        return self.is_ours and self.target.exists() and not self.new.exists()

    def restore(self) -> None:
        """Put the replaced folder back where the new one has not taken its place."""
        if self.is_ours and self.old.exists() and not self.target.exists():
            os.rename(self.old, self.target)

    def publish(self) -> None:
        """Force what is new to the disk and give it its name; what had the name goes aside first, and then goes."""
        force_to_disk(self.new)
        try:
            if self.target.is_dir():  # a file gives way in one step
                os.rename(self.target, self.old)
            os.rename(self.new, self.target)
        except BaseException:
            self.restore()
            raise
        force_to_disk(self.target.parent, below=False)
        self.discard()

    def discard(self) -> None:
        """Remove the folder if it is ours, the marker last: what is left of it by a kill is still known."""
        self.restore()
        if not self.is_ours:
            return
        for path in self.folder.iterdir():
            if path.name != MARKER:
                remove(path)
        (self.folder / MARKER).unlink()
        self.folder.rmdir()


@contextmanager
def folder_written(
    target: Path, kind: str, error: type[TranspertError], then: str, *, check: Callable[[], Any] = lambda: None
) -> Iterator[Path]:
    """Give a folder to write into, which takes the place of the target when the block ends without an error.

    What ``check`` refuses is looked at under the lock, when no other process can change it.
    """
    with _replacing(Unfinished(target, kind), error, then, check) as new:
        new.mkdir()
        yield new


@contextmanager
def file_written(
    target: Path, error: type[TranspertError], then: str, *, check: Callable[[], Any] = lambda: None
) -> Iterator[Path]:
    """Give a path to write a file to, which takes the place of the target when the block ends without an error.

    Files that the block writes beside it are scratch. A device or pipe is written to as it is.
    """
    if _is_device(target):
        with writing(error, target, then):
            yield target
        return
    work = Unfinished(target, "file")
    work.new = work.new.with_name("new" + "".join(target.suffixes))  # libraries look at the end of a name

    def check_place() -> None:
        if target.is_dir():
            raise error("there is a folder of this name", where=str(target), remedy="Choose another name.")
        check()

    with _replacing(work, error, then, check_place) as new:
        yield new


def _is_device(path: Path) -> bool:
    """Whether a path is that of a device, a pipe or an open file, such as /dev/stdout, and is not to be replaced."""
    return str(path.parent) in _OPEN_FILES or (path.exists() and not path.is_file() and not path.is_dir())


@contextmanager
def _replacing(work: Unfinished, error: type[TranspertError], then: str, check: Callable[[], Any]) -> Iterator[Path]:
    """Give the place of what is new, and publish it unless there is an error."""
    with _held_work(work, error, then):
        check()
        work.discard()  # left by a process that was killed
        work.begin(error)
        try:
            yield work.new
            work.publish()
        except BaseException:
            work.discard()
            raise


@contextmanager
def unfinished_work(target: Path, kind: str, error: type[TranspertError], then: str) -> Iterator[Unfinished]:
    """Hold the lock of a target and give the work on it, which is left as it is where the block ends with an error."""
    work = Unfinished(target, kind)
    with _held_work(work, error, then):
        yield work


@contextmanager
def _held_work(work: Unfinished, error: type[TranspertError], then: str) -> Iterator[None]:
    """Hold the lock of a target; what was aside when a process was killed is put back first."""
    with writing(error, work.target, then):
        work.target.parent.mkdir(parents=True, exist_ok=True)
        with held(work.target, error):
            work.restore()
            if work.is_published:
                work.discard()
            yield


def remove_folder(target: Path, kind: str, error: type[TranspertError], then: str) -> None:
    """Remove a folder of ours so that half of it never stands under its name."""
    with unfinished_work(target, kind, error, then) as work:
        work.discard()
        work.begin(error)
        os.rename(work.target, work.new)
        work.discard()


def clear_unfinished(folder: Path, names: str, kind: str, error: type[TranspertError], then: str) -> None:
    """Remove what killed processes left of things of such names: unfinished work with our marker, and locks."""
    left = [path.name.removesuffix(_PARTIAL) for path in folder.glob(f"{names}{_PARTIAL}")]
    left += [path.name[1:].removesuffix(_LOCK) for path in folder.glob(f".{names}{_LOCK}")]
    for name in dict.fromkeys(left):
        with unfinished_work(folder / name, kind, error, then) as work:
            work.discard()


def partial_folder(target: Path) -> Path:
    """Return where unfinished work on a folder stands."""
    if not target.name:  # an empty text, or the root of all folders
        raise OptionError(
            f"{str(target)!r} has no name of its own", where="path", remedy="Give the path of a new file or folder."
        )
    return target.with_name(f"{target.name}{_PARTIAL}")


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def force_to_disk(path: Path, *, below: bool = True) -> None:
    """Wait until a folder, and all files below it, would survive a power failure."""
    paths = [path, *(path.rglob("*") if below and path.is_dir() else ())]
    for each in paths:
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_steadily[Read](target: Path, kind: str, read: Callable[[Path], Read]) -> Read:
    """Read a folder; once more where another process has replaced it meanwhile, and an error came of that."""
    for attempt in range(_READS):
        found = _current(target, kind)
        before = _identity(found)
        try:
            return read(found)
        except TranspertError:
            if attempt == _READS - 1 or _identity(_current(target, kind)) == before:
                raise
    raise AssertionError("a folder is read at least once")


def _current(target: Path, kind: str) -> Path:
    """Return where a folder is: under its name, or aside, where a process was killed while it replaced it."""
    work = Unfinished(target, kind)
    for _ in range(_READS):
        if target.exists() or not (work.is_ours and work.old.exists()):
            return target
        time.sleep(0.02)  # another process may be about to give the new one its name
    warn_user(f"{target} was being replaced when the process was killed; what it held before is read, from {work.old}.")
    return work.old


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell whether a folder is the same one as before, or none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


# --- one process at a time ----------------------------------------------------------------------------------------
@contextmanager
def used_alone(folder: Path, what: str, error: type[TranspertError], then: str) -> Iterator[None]:
    """Make a folder in which ``what`` writes, and keep other processes from doing the same there."""
    with ExitStack() as stack:
        with writing(error, folder, then):
            folder.mkdir(parents=True, exist_ok=True)
            # a lock inside: what is above the folder need not be ours to write to
            stack.enter_context(held(folder / what, error))
        yield


@contextmanager
def held(target: Path, error: type[TranspertError], busy: type[TranspertError] | None = None) -> Iterator[None]:
    """Keep other processes from writing a folder, by a file beside it that names this host and process.

    ``busy`` is the error where another process has it, if not the same as all others.
    """
    path = target.with_name(f".{target.name}{_LOCK}")
    handle = _take(path, target, error, busy or error)
    try:
        yield
    finally:
        if _is_at(handle, path):
            path.unlink()
        os.close(handle)


def _take(path: Path, target: Path, error: type[TranspertError], busy: type[TranspertError]) -> int:
    """Open the lock file and write into it who has it; refuse where another process has."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            alone = _lock(handle)
            if _is_at(handle, path):  # else its owner has just removed it
                _check_free(handle, alone, path, target, error, busy)
                os.truncate(handle, 0)
                os.pwrite(handle, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Return whether the system gives the file to this process; ``None`` where the file system knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        return False if failure.errno in _HELD else None
    return True


def _check_free(
    handle: int,
    alone: bool | None,
    path: Path,
    target: Path,
    error: type[TranspertError],
    busy: type[TranspertError],
) -> None:
    """Refuse a lock that another process has: the system says so, or it is of another host and may still run."""
    text = os.pread(handle, 4096, 0)
    try:
        owner = json.loads(text) if text else {}
        host, pid = owner.get("host"), int(owner.get("pid", 0))
    except (ValueError, TypeError, AttributeError) as wrong:
        raise error("this is no lock of transpert", where=str(path), remedy="Give the file another name.") from wrong
    here = host == socket.gethostname()
    if alone is not False and (not owner or (here and (alone or not _runs(pid)))):
        return
    who = f"process {pid} of host {host!r}" if owner else "another process"
    raise busy(
        f"{who} is writing there",
        where=str(target),
        remedy=f"Wait until it has ended, and repeat the call. If there is no such process, delete {path}.",
    )


def _runs(pid: int) -> bool:
    """Whether a process of this host is alive."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one that has a name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
