"""Every JSON and TOML that is read is held against a description of what it must say."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ._files import check_fits, reading
from .errors import TranspertError

CHECKSUM = "checksum"
DAMAGED = "It is damaged, or was changed after it was saved: take it from a copy, or train again."


def read_json(path: Path, error: type[TranspertError], remedy: str) -> Any:
    """Read a JSON file; what it says is not yet checked."""
    return _read(path, json.loads, "JSON file", error, remedy)


def read_toml(path: Path, error: type[TranspertError], remedy: str) -> dict[str, Any]:
    """Read a TOML file; what it says is not yet checked."""
    return _read(path, tomllib.loads, "TOML file", error, remedy)


def _read(path: Path, parse: Any, kind: str, error: type[TranspertError], remedy: str) -> Any:
    """Read and parse a text file."""
    with reading(error, path, kind, remedy):
        check_fits(path.stat().st_size, error, path)
        return parse(path.read_text(encoding="utf-8"))


def checked[Kind](values: Any, kind: type[Kind], error: type[TranspertError], where: str, remedy: str) -> Kind:
    """Convert plain data to a type, or raise an error that names the wrong entry."""
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, OverflowError, RecursionError) as wrong:
        raise error(f"an entry is not what it must be: {wrong}", where=where, remedy=remedy) from wrong


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Add a checksum of all entries to plain data."""
    return {**values, CHECKSUM: _digest(values)}


def unsealed(values: Any, error: type[TranspertError], where: str, remedy: str, *, needed: bool) -> dict[str, Any]:
    """Return plain data without their checksum, once it is right; stores and models of earlier versions have none."""
    if not isinstance(values, dict):
        raise error("the file is not one of named entries", where=where, remedy=remedy)
    plain = {key: value for key, value in values.items() if key != CHECKSUM}
    if (needed or CHECKSUM in values) and values.get(CHECKSUM) != _digest(plain):
        raise error("what the file says does not have its checksum", where=where, remedy=remedy)
    return plain


def _digest(values: dict[str, Any]) -> str:
    """Return a checksum of plain data."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
