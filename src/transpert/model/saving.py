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

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from transpert.errors import ModelFileError

__all__ = ["FORMAT_VERSION", "SavedModel", "read_model", "write_model"]

FORMAT_VERSION = 1
_DESCRIPTION, _WEIGHTS, _ARRAYS = "model.json", "weights.safetensors", "arrays.npz"
_PICKLES = ("*.pt", "*.pkl", "*.pickle", "*.ckpt")

type SavedModel = tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, np.ndarray]]


def write_model(
    folder: str | os.PathLike[str],
    description: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    arrays: Mapping[str, np.ndarray],
    *,
    overwrite: bool = False,
) -> None:
    """Write a model folder; it is there in full or not at all.

    Parameters
    ----------
    folder
        Where to write.
    description
        Plain data: class, options, registry.
    weights
        Tensors of the network; may be empty.
    arrays
        Arrays without objects.
    overwrite
        Replace a model that is there already. Anything else that is there is left alone and raises.

    Raises
    ------
    transpert.errors.ModelFileError
        If the folder exists.
    """
    target = Path(folder)
    if target.exists() and not overwrite:
        raise ModelFileError("the folder exists", where=str(target), remedy="Pass overwrite=True or another folder.")
    if target.exists() and any(target.iterdir()) and not (target / _DESCRIPTION).exists():
        raise ModelFileError("the folder holds something other than a model", where=str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        text = json.dumps({"format": FORMAT_VERSION, "transpert": version("transpert"), **description}, indent=1)
        (staging / _DESCRIPTION).write_text(text, encoding="utf-8")
        if weights:
            save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, staging / _WEIGHTS)
        np.savez_compressed(staging / _ARRAYS, allow_pickle=False, **arrays)
        staging.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def read_model(folder: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> SavedModel:
    """Read a model folder that :func:`write_model` wrote.

    Returns
    -------
    The description, the weights and the arrays.

    Raises
    ------
    transpert.errors.ModelFileError
        If the folder is not a model, of another format, damaged, or holds pickles, which are never opened.
    """
    source = Path(folder)
    if not (source / _DESCRIPTION).is_file():
        pickles = sorted(path.name for pattern in _PICKLES for path in source.glob(pattern))
        found = f"; {', '.join(pickles)} would be a pickle, which can run code and is not opened" if pickles else ""
        raise ModelFileError(f"there is no {_DESCRIPTION}{found}", where=str(source), remedy="Is the path right?")
    try:
        description = json.loads((source / _DESCRIPTION).read_text(encoding="utf-8"))
        if description.get("format") != FORMAT_VERSION:
            raise ModelFileError(
                f"the model has format {description.get('format')!r}, this version reads {FORMAT_VERSION}",
                where=str(source),
                remedy=f"It was written by transpert {description.get('transpert', 'of unknown version')}.",
            )
        weights = load_file(source / _WEIGHTS, device=str(device)) if (source / _WEIGHTS).exists() else {}
        with np.load(source / _ARRAYS, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"the model cannot be read: {error}", where=str(source)) from error
    return description, weights, arrays
