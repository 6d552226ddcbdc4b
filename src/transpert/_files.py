"""Files that are read and written: every failure becomes an error of ours that names the file and the remedy."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from transpert import __version__

from .errors import TranspertError

type Count = Annotated[int, Meta(ge=0)]
type Inside = Annotated[
    str, Meta(pattern=r"^(?![/~])(?!(.*/)?\.\.?(/|$))[^\\\x00]+$")
]  # a path that stays in its folder
type Sums = dict[Inside, tuple[Count, str]]  # size in bytes and BLAKE2b checksum of files, by their path

# libraries written in C and Rust tell of the number in their message alone
_NUMBER = re.compile(r"(?:os error|errno =) (\d+)")
_READ_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@contextmanager
def writing(error: type[TranspertError], where: Path | None, then: str) -> Iterator[None]:
    """Raise an error of ours where writing fails; ``then`` says what to do when the cause is mended.

    Without ``where``, the failure says which file it was.
    """
    try:
        yield
    except TranspertError:
        raise
    except (OSError, RuntimeError, ValueError) as failure:
        number = _number_of(failure)
        if number is None and not isinstance(failure, OSError):
            raise
        what, mend = f"writing failed: {_first_line(failure)}", ""
        if number in _FULL:
            what, mend = "the disk is full", "free space and "
        elif number == errno.EFBIG:
            what, mend = "a file would be larger than is allowed here", "raise the limit (ulimit -f) and "
        elif isinstance(failure, NotADirectoryError | FileExistsError):
            what, mend = "there is a file where a folder should be", "choose another name and "
        elif number in _FORBIDDEN:
            mend = "get leave to write there and "
        remedy = f"{mend}{then}."
        place = where or getattr(failure, "filename", None) or "the output"
        raise error(what, where=str(place), remedy=remedy[0].upper() + remedy[1:]) from failure


@contextmanager
def reading(error: type[TranspertError], where: Path, kind: str, remedy: str) -> Iterator[None]:
    """Raise an error of ours where a file of some kind cannot be read, whatever its library raises."""
    try:
        yield
    except TranspertError:
        raise
    except FileNotFoundError as failure:
        raise error("the file does not exist", where=str(where), remedy="Check the path.") from failure
    except PermissionError as failure:
        raise error("the file may not be read", where=str(where), remedy="Get leave to read it.") from failure
    except MemoryError as failure:
        raise error(
            "the file is larger than the memory", where=str(where), remedy="Use a machine with more memory."
        ) from failure
    except Exception as failure:
        what = f"this is no {kind}, or it is damaged: {_first_line(failure)}"
        raise error(what, where=str(where), remedy=remedy) from failure


def check_fits(n_bytes: float, error: type[TranspertError], where: Path) -> None:
    """Refuse what would fill more than the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_bytes > memory:
        raise error(
            f"{n_bytes / 1e9:.1f} GB would be read, and the machine has {memory / 1e9:.1f} GB of memory",
            where=str(where),
            remedy="The file is damaged, or needs a machine with more memory.",
        )


def read_arrays(path: Path, error: type[TranspertError], remedy: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the arrays of an npz file, and list those of objects, which are not read because they could run code."""
    arrays: dict[str, np.ndarray] = {}
    objects: list[str] = []
    with reading(error, path, "npz file", remedy), zipfile.ZipFile(path) as archive:
        check_fits(sum(info.file_size for info in archive.infolist()), error, path)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                header = _HEADERS[np.lib.format.read_magic(file)]
                shape, _, dtype = header(file)
                if dtype.hasobject:
                    objects.append(name)
                    continue
                # what is said of the size is compared with what is there before anything is made of it
                if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
                    raise ValueError(f"the array {name!r} is not as large as it says")
                file.seek(0)
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays, objects


def checksums(folder: Path, names: Iterable[str]) -> Sums:
    """Return size and checksum of files; of all files below a name that is a folder."""
    files = [
        path
        for name in names
        for path in (sorted((folder / name).rglob("*")) if (folder / name).is_dir() else [folder / name])
        if path.is_file()
    ]
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, digest_of_file(path)) for path in files}


def damage(folder: Path, name: str, sums: Sums, *, checksum: bool = True) -> str | None:
    """Say what is wrong with a file: not listed, missing, of another size and, if asked, of another checksum."""
    if name not in sums:
        return "is not listed"
    size, digest = sums[name]
    path = folder / name
    try:
        if not path.is_file():
            return "is missing"
        if path.stat().st_size != size:
            return f"has {path.stat().st_size} bytes instead of {size}"
        if checksum and digest_of_file(path) != digest:
            return "has another checksum"
    except OSError as failure:  # of the disk, or no permission
        return f"cannot be read: {failure}"
    return None


def write_json(path: Path, values: object) -> None:
    """Write JSON beside ``path``, flush it to disk, and move it into place."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages by name."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # this one, in a checkout that is not installed
            found[name] = __version__ if name == "transpert" else "unknown"
    return found


def digest_of_file(path: Path) -> str:
    """Return the BLAKE2b checksum of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _number_of(failure: BaseException) -> int | None:
    """Return the error number of the system, if there is one."""
    found = _NUMBER.search(str(failure))
    return getattr(failure, "errno", None) or (int(found[1]) if found else None)


def _first_line(failure: BaseException) -> str:
    """Return what an error of a library says, in one short line."""
    return next(iter(str(failure).splitlines()), type(failure).__name__)[:200]
