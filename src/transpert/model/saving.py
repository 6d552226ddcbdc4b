"""Model folders: JSON for what can be read, safetensors for weights, npz for arrays; no pickle, all or nothing."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anndata
import msgspec
import mudata
import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from safetensors.torch import load_file, save_file

from transpert import __version__
from transpert._arguments import check_choice, check_path
from transpert._files import Sums, checksums, damage, read_arrays, reading, write_json
from transpert._folders import folder_written, read_steadily
from transpert._schema import CHECKSUM, DAMAGED, checked, read_json, sealed, unsealed
from transpert.conditions import Condition
from transpert.errors import ModelFileError, OptionError, TranspertError, list_names, warn_user
from transpert.transport import ReadoutOptions

FORMAT_VERSION = 3
_WITHOUT_SEAL = 2  # what model.json says was in no checksum
_DESCRIPTION, _WEIGHTS, _ARRAYS = "model.json", "weights.safetensors", "arrays.npz"
_ANNDATA, _MUDATA = "adata.h5ad", "mdata.h5mu"
# names under which pickles go
_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".dill"})


class _Setup(msgspec.Struct):
    """What is known of every registration of data; the model checks the arguments themselves."""

    setup_args: dict[str, Any]
    setup_method_name: Literal["setup_anndata", "setup_mudata"] = "setup_anndata"


class Description(msgspec.Struct, kw_only=True):
    """What ``model.json`` says."""

    model: str = msgspec.field(name="class")
    registry: dict[str, Any]
    options: dict[str, Any]
    labels: list[str]
    conditions: list[Condition]
    readout: ReadoutOptions
    state: dict[str, Any]
    files: Sums
    store: str | None = None
    uncertainty: dict[str, Any] | None = None
    trained_parts: list[str] | None = None  # models of earlier versions do not say it


class SavedModel(NamedTuple):
    """A model as it was saved: its description, weights and arrays, and its cells if they were asked for."""

    description: Description
    weights: dict[str, torch.Tensor]
    arrays: dict[str, np.ndarray]
    data: AnnData | MuData | None


def write_model(
    folder: str | os.PathLike[str],
    description: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    arrays: Mapping[str, np.ndarray],
    *,
    data: AnnData | MuData | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder; it is there in full or not at all, and so is the model that it replaces."""
    target = check_path(folder, name="dir_path")
    then = "save the model again: one that was there before is as it was"

    def check() -> None:
        _check_target(target, overwrite=overwrite)

    check()
    with folder_written(target, "model", ModelFileError, then, check=check) as new:
        if weights:
            save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, new / _WEIGHTS)
        np.savez_compressed(new / _ARRAYS, allow_pickle=False, **arrays)
        if data is not None:
            data.write(new / (_MUDATA if isinstance(data, MuData) else _ANNDATA))
        made = {"format": FORMAT_VERSION, "transpert": __version__, "files": checksums(new, ["."])}
        write_json(new / _DESCRIPTION, sealed(json.loads(json.dumps({**made, **description}))))


def check_amounts_known(saved: SavedModel, where: str) -> None:
    """Refuse networks of earlier versions that read doses or times, which they did in their unit."""
    amounts = [amount for made in saved.description.conditions for amount in (*made.doses, made.time)]
    if saved.weights and saved.description.trained_parts is None and any(amount is not None for amount in amounts):
        raise ModelFileError(
            "the model reads doses and times in another way than this version",
            where=where,
            remedy="Train it again, or load it with the version that saved it.",
        )


def _check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but a model, and a model without ``overwrite``."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ModelFileError("there is a file of this name", where=str(target), remedy="Choose another name.")
    if not overwrite:
        raise ModelFileError("the folder exists", where=str(target), remedy="Pass overwrite=True or another folder.")
    if any(target.iterdir()) and not (target / _DESCRIPTION).exists():
        raise ModelFileError(
            "the folder holds something other than a model", where=str(target), remedy="Choose another name."
        )


def read_model(folder: str | os.PathLike[str], *, with_data: bool = False) -> SavedModel:
    """Read a model folder that :func:`write_model` wrote, onto the CPU."""
    return read_steadily(Path(folder), "model", lambda source: _read(source, with_data=with_data))


def _read(source: Path, *, with_data: bool) -> SavedModel:
    """Read a model folder of which every file has its checksum."""
    _refuse_pickles(source)
    description = _read_description(source / _DESCRIPTION)
    files = description.files
    needed = [_ARRAYS, *([_WEIGHTS] if _WEIGHTS in files or (source / _WEIGHTS).exists() else [])]
    data = next((name for name in (_ANNDATA, _MUDATA) if name in files), None) if with_data else None
    needed += [data] if data else []
    damaged = [name for name in needed if damage(source, name, files) is not None]
    if damaged:
        raise ModelFileError(
            f"{list_names(damaged)} is missing or does not have its checksum", where=str(source), remedy=DAMAGED
        )
    arrays, objects = read_arrays(source / _ARRAYS, ModelFileError, DAMAGED)
    if objects or "genes" not in arrays:
        raise ModelFileError("the arrays are not those of a model", where=str(source / _ARRAYS), remedy=DAMAGED)
    with reading(ModelFileError, source, "model", DAMAGED):
        weights = load_file(source / _WEIGHTS) if _WEIGHTS in files else {}
        read: Any = mudata.read_h5mu if data == _MUDATA else anndata.read_h5ad
        return SavedModel(description, weights, arrays, read(source / data) if data else None)


def _refuse_pickles(source: Path) -> None:
    """Refuse a folder that is no model, or that has files which can run code."""
    pickles = [path.name for path in sorted(source.glob("*")) if path.suffix.lower() in _PICKLES]
    found = f"{list_names(pickles, quote=False)} would be a pickle, which can run code and is not opened"
    if not (source / _DESCRIPTION).is_file():
        more = f"; {found}" if pickles else ""
        raise ModelFileError(f"there is no {_DESCRIPTION}{more}", where=str(source), remedy="Is the path right?")
    if pickles:
        raise ModelFileError(
            found, where=str(source), remedy="No model has one: find out where it comes from, and remove it."
        )


def _read_description(path: Path) -> Description:
    """Read and check ``model.json``."""
    values = read_json(path, ModelFileError, DAMAGED)
    found = values.get("format") if isinstance(values, dict) else None
    without_seal = found == _WITHOUT_SEAL and CHECKSUM not in values
    if found != FORMAT_VERSION and not without_seal:
        raise ModelFileError(
            f"the model has format {found!r}, this version reads {_WITHOUT_SEAL} and {FORMAT_VERSION}",
            where=str(path.parent),
            remedy="Load it with the version of transpert that wrote it, or train again.",
        )
    values = unsealed(values, ModelFileError, str(path), DAMAGED, needed=not without_seal)
    if without_seal:
        warn_user(
            f"{path} was written before descriptions had a checksum, and is taken as it is; save the model again."
        )
    description = checked(values, Description, ModelFileError, str(path), DAMAGED)
    checked(description.registry, _Setup, ModelFileError, str(path), DAMAGED)
    return description


def check_arguments(setup: Callable[..., Any], arguments: Mapping[str, Any], folder: object) -> None:
    """Refuse arguments of a registration that the method which is called with them does not have."""
    strange = sorted(set(arguments) - set(inspect.signature(setup).parameters))
    if strange:
        raise ModelFileError(f"the registry has {list_names(strange)}", where=str(folder), remedy=DAMAGED)


def check_depths(options: Any, n_weights: int, folder: object) -> None:
    """Refuse options of more layers, or more networks, than there are weights to fill them."""
    for name, value in options.items() if isinstance(options, dict) else ():
        if name in ("depth", "folds") and isinstance(value, int) and value > n_weights:
            raise ModelFileError(
                f"{name} is {value}, and there are {n_weights} weights", where=str(folder), remedy=DAMAGED
            )
        check_depths(value, n_weights, folder)


def fill(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give the networks that were made without memory their weights, which must have their shapes and types."""
    expected = {name: (value.shape, value.dtype) for name, value in module.state_dict().items()}
    found = {name: (value.shape, value.dtype) for name, value in weights.items()}
    if expected != found:
        strange = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        raise ValueError(f"the weights {list_names(strange)} are absent, or not as large as it says")
    module.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)


@contextmanager
def building(folder: object) -> Iterator[None]:
    """Make networks without memory, so that nothing is allocated for sizes that the weights do not have."""
    try:
        with torch.device("meta"):
            yield
    except TranspertError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"the model does not fit its description: {error}", where=str(folder), remedy=DAMAGED
        ) from error


def below(start: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take out the arrays whose names have such a start, by the rest of their names."""
    return {key.removeprefix(start): arrays.pop(key) for key in list(arrays) if key.startswith(start)}


def read_device(device: int | str | torch.device | None, accelerator: str = "auto") -> torch.device:
    """Read where a network is to go; a number is that of a GPU, and ``"auto"`` leaves it to the accelerator."""
    check_choice(accelerator, ("auto", "cpu", "cuda", "gpu"), name="accelerator")
    if device is None or (isinstance(device, str) and device == "auto"):
        on_gpu = accelerator in ("cuda", "gpu") or (accelerator == "auto" and torch.cuda.is_available())
        device = "cuda" if on_gpu else "cpu"
    try:
        if not isinstance(device, int | str | torch.device) or isinstance(device, bool):
            raise TypeError(device)
        found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise OptionError(f"device {device!r} does not exist", remedy="Give 'cpu', 'cuda', or 'cuda:1'.") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"device {device!r} is a GPU, of which torch sees {torch.cuda.device_count()}", remedy="Give 'cpu'."
        )
    return found
