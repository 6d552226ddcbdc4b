"""Files that cannot be read or written are named with a remedy, and nothing is made of what they claim."""

from __future__ import annotations

import errno
import io
import zipfile

import numpy as np
import pytest

from transpert._files import check_fits, read_arrays, reading, writing
from transpert.errors import ConditionError, StoreError


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError(errno.ENOSPC, "No space"), r"the disk is full .*Free space and run it again\."),
        (OSError(errno.EDQUOT, "Quota"), r"the disk is full"),
        (OSError(errno.EFBIG, "too large"), r"larger than is allowed.*Raise the limit \(ulimit -f\) and run it again"),
        (OSError(errno.EACCES, "denied"), r"Get leave to write there and run it again"),
        (RuntimeError("I/O error (os error 28)"), "the disk is full"),
        (OSError("Unable to write (errno = 28, error message = 'No space')"), "the disk is full"),
        (OSError("odd"), r"writing failed: odd .*Run it again\."),
    ],
)
def test_a_failed_writing_says_why(tmp_path, failure, message) -> None:
    with pytest.raises(StoreError, match=message), writing(StoreError, tmp_path, "run it again"):
        raise failure


@pytest.mark.parametrize("failure", [StoreError("ours"), ValueError("a mistake of a programmer"), KeyError("x")])
def test_other_errors_stay_what_they_are(tmp_path, failure) -> None:
    with pytest.raises(type(failure)) as caught, writing(StoreError, tmp_path, "run it again"):
        raise failure
    assert caught.value is failure


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (FileNotFoundError(), "the file does not exist"),
        (PermissionError(), "may not be read"),
        (MemoryError(), "larger than the memory"),
        (RecursionError("deep"), "no table, or it is damaged: deep"),
        (KeyError(), "no table, or it is damaged: KeyError"),
    ],
)
def test_a_failed_reading_says_why(tmp_path, failure, message) -> None:
    with pytest.raises(StoreError, match=message) as caught, reading(StoreError, tmp_path, "table", "Write it again."):
        raise failure
    assert caught.value.remedy


def test_what_is_larger_than_the_memory_is_refused(tmp_path) -> None:
    check_fits(1e6, StoreError, tmp_path)
    with pytest.raises(StoreError, match="1000000.0 GB would be read"):
        check_fits(1e15, StoreError, tmp_path)


def test_arrays_are_read_and_objects_are_not(tmp_path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(6).reshape(2, 3), none=np.zeros((0, 4)), odd=np.array([{}], dtype=object))
    arrays, objects = read_arrays(path, ConditionError, "Write it again.")
    assert arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and arrays["none"].shape == (0, 4) and objects == ["odd"]


def with_header(shape, dtype="<f8", version=(1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(16)


@pytest.mark.parametrize("shape", [(10**15,), (3,), (-2,), (2**40, 2**40), ()])
def test_an_array_that_claims_another_size_is_refused_before_it_is_made(tmp_path, shape) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", with_header(shape))
    with pytest.raises(ConditionError, match="no npz file, or it is damaged"):
        read_arrays(tmp_path / "a.npz", ConditionError, "Write it again.")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(18) + b"more", with_header((2,))])
def test_what_is_no_npz_file_is_named(tmp_path, content) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    try:
        assert read_arrays(tmp_path / "a.npz", ConditionError, "Write it again.") == ({}, [])
    except ConditionError as error:
        assert error.remedy == "Write it again."
    with pytest.raises(ConditionError, match="does not exist"):
        read_arrays(tmp_path / "none.npz", ConditionError, "Write it again.")
