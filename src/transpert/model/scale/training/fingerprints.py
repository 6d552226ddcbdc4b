"""What makes two trainings the same, so that a checkpoint of one can be used by the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from transpert.conditions import Embedding
from transpert.data.source import CellSource
from transpert.errors import CheckpointError, list_names
from transpert.groups import Groups

from ..options import ScaleOptions

type Fingerprint = dict[str, Any]

_SAMPLED_CELLS = 2048


def data_fingerprint(
    source: CellSource, groups: Groups, genes: np.ndarray, perturbations: Embedding | None = None
) -> dict[str, str]:
    """Describe the data of a training in a few words that change when it changes."""
    positions = np.unique(np.linspace(0, source.n_obs - 1, min(_SAMPLED_CELLS, source.n_obs)).astype(np.int64))
    sampled = source.read(positions)
    sampled.sort_indices()
    return {
        "cells": source.fingerprint,
        "counts": _digest(sampled.indptr, sampled.indices, sampled.data, source.library_size[positions]),
        "embedding": "none" if source.embedding is None else _digest(np.asarray(source.embedding[positions])),
        "groups": _digest(groups.codes, _letters([*groups.conditions, groups.table.to_csv()])),
        "genes": _digest(_letters(genes)),
        "perturbations": "none"
        if perturbations is None
        else _digest(_letters(perturbations.names), perturbations.values),
    }


def options_fingerprint(options: ScaleOptions) -> dict[str, Any]:
    """Describe the options that decide what a training comes to.

    Where the cells are kept decides nothing, so that a training may go on where there is less memory.
    """
    described = options.to_dict()
    del described["training"]["on_device"]
    return described


def check_fingerprint(state: Mapping[str, Any], expected: Fingerprint, *, where: str) -> None:
    """Check that a checkpoint belongs to a training."""
    written = dict(_flat(state.get("transpert", {}).get("fingerprint", {})))
    # through JSON, as the other has gone
    here = dict(_flat(json.loads(json.dumps(expected))))
    differences = [
        f"{name} was {written.get(name, 'absent')!r} and is {here.get(name, 'absent')!r}"
        for name in sorted({*written, *here})
        if written.get(name, "absent") != here.get(name, "absent")
    ]
    if differences:
        raise CheckpointError(
            f"the checkpoint belongs to another training: {list_names(differences, limit=4, quote=False)}",
            where=where,
            remedy="Train with the options and data of the checkpoint, or in another checkpoint_dir.",
        )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _letters(values: Iterable[object]) -> np.ndarray:
    return np.frombuffer("\n".join(map(str, values)).encode(), dtype=np.uint8)


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
