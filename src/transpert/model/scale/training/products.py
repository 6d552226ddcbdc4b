"""How single precision is multiplied while networks are trained: as fast as rounding allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def fast_products() -> Iterator[None]:
    """Multiply in TF32 on a GPU, and on a CPU by the library with the wider vectors, unless the user has chosen.

    ``"medium"`` hands the products of a CPU to oneDNN. It multiplies in single precision there, with vectors of 512
    bits on CPUs of every maker, whereas MKL does so on Intel's alone. Where the CPU has tiles for half precision
    oneDNN would use these, and nothing is changed.
    """
    before = torch.get_float32_matmul_precision()
    wanted = before
    if before == "highest":
        wanted = "high" if torch.cuda.is_available() else "medium" if _medium_is_single() else before
    if wanted != before:
        torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        if wanted != before:
            torch.set_float32_matmul_precision(before)


@cache
def _medium_is_single() -> bool:
    """Multiply once in ``"medium"``, and see whether the result has what half precision cannot hold."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        value = 1 + 2**-12
        product = torch.full((256, 256), value) @ torch.eye(256)
        return bool((product == value).all())
    finally:
        torch.set_float32_matmul_precision(before)
