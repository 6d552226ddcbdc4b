"""Model folders: JSON for what can be read, safetensors for weights, npz for arrays; no pickle, all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from safetensors.torch import load_file, save_file

from transpert._files import checksums
from transpert.errors import ModelFileError, OptionError, list_names

FORMAT_VERSION = 3  # 1 had no checksums, 2 other inputs for doses and times
_DESCRIPTION, _WEIGHTS, _ARRAYS = "model.json", "weights.safetensors", "arrays.npz"
_ANNDATA, _MUDATA = "adata.h5ad", "mdata.h5mu"
# what every model.json says, beside its format
_ENTRIES = ("class", "registry", "options", "labels", "conditions", "readout", "state", "files")
# names under which pickles go
_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".dill"})
_DAMAGED = "It is damaged, or was changed after it was saved: take it from a copy, or train anew."

type SavedModel = tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, np.ndarray]]


def write_model(
    folder: str | os.PathLike[str],
    description: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    arrays: Mapping[str, np.ndarray],
    *,
    data: AnnData | MuData | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder; it is there in full or not at all."""
    target = Path(folder)
    _check_target(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ModelFileError("a folder above it is a file", where=str(target), remedy="Choose another name.") from error
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        if weights:
            save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, staging / _WEIGHTS)
        np.savez_compressed(staging / _ARRAYS, allow_pickle=False, **arrays)
        if data is not None:
            data.write(staging / (_MUDATA if isinstance(data, MuData) else _ANNDATA))
        made = {"format": FORMAT_VERSION, "transpert": version("transpert"), "files": checksums(staging, ["."])}
        (staging / _DESCRIPTION).write_text(json.dumps({**made, **description}, indent=1), encoding="utf-8")
        staging.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _check_target(target: Path, *, overwrite: bool) -> None:
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


def read_model(folder: str | os.PathLike[str]) -> SavedModel:
    """Read a model folder that :func:`write_model` wrote, onto the CPU."""
    source = Path(folder)
    pickles = [path.name for path in sorted(source.glob("*")) if path.suffix.lower() in _PICKLES]
    found = f"{list_names(pickles, quote=False)} would be a pickle, which can run code and is not opened"
    if not (source / _DESCRIPTION).is_file():
        more = f"; {found}" if pickles else ""
        raise ModelFileError(f"there is no {_DESCRIPTION}{more}", where=str(source), remedy="Is the path right?")
    if pickles:
        raise ModelFileError(
            found, where=str(source), remedy="No model has one: find out where it comes from, and remove it."
        )
    try:
        description = json.loads((source / _DESCRIPTION).read_text(encoding="utf-8"))
        if description.get("format") != FORMAT_VERSION:
            raise ModelFileError(
                f"the model has format {description.get('format')!r}, this version reads {FORMAT_VERSION}",
                where=str(source),
                remedy=f"It was written by transpert {description.get('transpert', 'of unknown version')}.",
            )
        missing = [name for name in _ENTRIES if name not in description]
        if missing:
            raise ModelFileError(f"{_DESCRIPTION} lacks {list_names(missing)}", where=str(source), remedy=_DAMAGED)
        files = description["files"]
        _check_sums(source, {name: files[name] for name in files if name not in (_ANNDATA, _MUDATA)})
        weights = load_file(source / _WEIGHTS) if _WEIGHTS in files else {}
        with np.load(source / _ARRAYS, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"the model cannot be read: {error}", where=str(source), remedy=_DAMAGED) from error
    return description, weights, arrays


def read_data(folder: str | os.PathLike[str], files: Mapping[str, Any]) -> AnnData | MuData | None:
    """Return the cells that were saved with a model, or ``None``."""
    for name, read in ((_ANNDATA, anndata.read_h5ad), (_MUDATA, mudata.read_h5mu)):
        if name in files:
            _check_sums(Path(folder), {name: files[name]})
            return read(Path(folder) / name)
    return None


def _check_sums(folder: Path, files: Mapping[str, Any]) -> None:
    """Refuse files that are not what was written, byte for byte."""
    found = checksums(folder, files)
    damaged = [name for name in files if found.get(name) != tuple(files[name])]
    if damaged:
        raise ModelFileError(
            f"{list_names(damaged)} is missing or does not have its checksum", where=str(folder), remedy=_DAMAGED
        )


def read_device(device: int | str | torch.device) -> torch.device:
    """Read where a network is to go; a number is that of a GPU."""
    try:
        found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise OptionError(f"device {device!r} does not exist", remedy="Give 'cpu', 'cuda', or 'cuda:1'.") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"device {device!r} is a GPU, of which torch sees {torch.cuda.device_count()}", remedy="Give 'cpu'."
        )
    return found
