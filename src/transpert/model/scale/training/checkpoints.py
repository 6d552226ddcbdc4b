"""Checkpoints on disk: safetensors and JSON with checksums, there in full or not at all, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, override

import msgspec
import numpy as np
from lightning.fabric.plugins import CheckpointIO
from safetensors.torch import load_file, save_file
from torch import Tensor

from transpert._files import reading
from transpert._folders import clear_unfinished, folder_written, remove_folder, used_alone
from transpert._schema import checked, read_json
from transpert.errors import CheckpointError, warn_user

# the newest may be damaged by what killed the machine; the one before it then is not
CHECKPOINTS_KEPT = 2

_PREFIX, _KIND = "step-", "checkpoint"
_STATE, _TENSORS, _SUMS = "state.json", "tensors.safetensors", "SHA256SUMS"
_FORMAT = 1
_GO_ON = 'go on with resume="auto": the checkpoints before it are intact'
_DAMAGED = "It is damaged: go on from an older checkpoint, or train again."
# how values that JSON does not know are written
_TENSOR, _TUPLE, _ITEMS = "$tensor", "$tuple", "$items"


class _Saved(msgspec.Struct):
    """What ``state.json`` says."""

    format: int
    state: dict[str, Any]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step is."""
    return folder / f"{_PREFIX}{step:09d}"


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    found = [path for path in folder.glob(f"{_PREFIX}*") if path.is_dir() and path.name[len(_PREFIX) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(_PREFIX) :]), reverse=True)


def write_checkpoint(target: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; it is there in full or not at all."""
    try:
        with folder_written(target, _KIND, CheckpointError, _GO_ON) as new:
            tensors: dict[str, Tensor] = {}
            plain = {"format": _FORMAT, "state": _pack(state, tensors, "state")}
            save_file(tensors, new / _TENSORS)
            (new / _STATE).write_text(json.dumps(plain), encoding="utf-8")
            sums = "".join(f"{_sha256(new / name)}  {name}\n" for name in (_STATE, _TENSORS))
            (new / _SUMS).write_text(sums, encoding="utf-8")
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint was not written: {error}", where=str(target), remedy=f"{_GO_ON.capitalize()}."
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint and check every byte of it."""
    plain = read_checkpoint(path)
    with reading(CheckpointError, path, _KIND, _DAMAGED):
        return _unpack(plain, load_file(path / _TENSORS))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says of the training it belongs to, without its tensors."""
    _check_sums(path)
    where = path / _STATE
    saved = checked(read_json(where, CheckpointError, _DAMAGED), _Saved, CheckpointError, str(where), _DAMAGED)
    if saved.format != _FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {saved.format}, this version reads {_FORMAT}",
            where=str(path),
            remedy="Go on with the version of transpert that wrote it, or train again.",
        )
    return saved.state


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder that is whole, or ``None`` if there is none at all."""
    damaged: list[str] = []
    for path in find_checkpoints(folder):
        try:
            _check_sums(path)
        except CheckpointError as error:
            damaged.append(f"{path.name}: {error.what}")
            continue
        if damaged:
            warn_user(f"a checkpoint is damaged ({'; '.join(damaged)}); the one before it, {path.name}, is used.")
        return path
    if damaged:
        raise CheckpointError(
            f"no checkpoint is whole ({'; '.join(damaged)})",
            where=str(folder),
            remedy="Remove the folder, or choose another, and train again.",
        )
    return None


@contextmanager
def checkpoints_held(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder of checkpoints, and clear what killed ones left there."""
    with used_alone(folder, "training", CheckpointError, _GO_ON):
        clear_unfinished(folder, f"{_PREFIX}*", _KIND, CheckpointError, _GO_ON)
        yield


def remove_old_checkpoints(folder: Path) -> None:
    """Remove all but the newest checkpoints."""
    for path in find_checkpoints(folder)[CHECKPOINTS_KEPT:]:
        remove_folder(path, _KIND, CheckpointError, _GO_ON)


class SafeCheckpointIO(CheckpointIO):
    """What makes Lightning write and read its checkpoints in this format.

    An error of writing is kept in ``error`` instead of being raised, because only the first of several processes
    writes, and the others would wait for it.
    """

    def __init__(self) -> None:
        self.error: CheckpointError | None = None

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.error = None
        try:
            write_checkpoint(Path(path), checkpoint)
            remove_old_checkpoints(Path(path).parent)
        except CheckpointError as error:
            self.error = error

    @override
    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_state(Path(path))

    @override
    def remove_checkpoint(self, path: Any) -> None:
        remove_folder(Path(path), _KIND, CheckpointError, _GO_ON)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sums(path: Path) -> None:
    if not (path / _SUMS).is_file():
        raise CheckpointError(
            "this is no checkpoint of transpert",
            where=str(path),
            remedy=f"A checkpoint is a folder with {_SUMS}, {_STATE} and {_TENSORS}; pickles are never opened.",
        )
    with reading(CheckpointError, path, _KIND, _DAMAGED):
        lines = (path / _SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        for name in (_STATE, _TENSORS):
            if not (path / name).is_file() or sums.get(name) != _sha256(path / name):
                raise CheckpointError(f"{name} does not have its checksum", where=str(path), remedy=_DAMAGED)


def _pack(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """Turn a nested value into what JSON knows, and collect its tensors."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # a copy on the CPU: what is written neither shares memory nor changes meanwhile
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: name}
    if isinstance(value, list):
        return [_pack(part, tensors, where) for part in value]
    if isinstance(value, tuple):
        return {_TUPLE: [_pack(part, tensors, where) for part in value]}
    if isinstance(value, Mapping):
        packed = [(key, _pack(part, tensors, f"{where}/{key}")) for key, part in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(packed)
        return {_ITEMS: [[_pack(key, tensors, where), part] for key, part in packed]}
    raise CheckpointError(
        f"a {type(value).__name__} cannot be written without a pickle",
        where=where,
        remedy="The state of a callback or logger must be made of tensors, numbers and text.",
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(_unpack(part, tensors) for part in value[_TUPLE])
    if _ITEMS in value:
        return {_unpack(key, tensors): _unpack(part, tensors) for key, part in value[_ITEMS]}
    return {key: _unpack(part, tensors) for key, part in value.items()}
