"""Predictions on disk: parts that are there in full or not at all, put together into one AnnData in bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from scipy import sparse

from transpert._anndata import frame
from transpert._files import checksums, write_json, writing
from transpert._folders import Unfinished, held
from transpert._schema import checked, read_json
from transpert.data.store.build import GO_ON
from transpert.errors import StoreError, list_names, warn_user

# what a part consists of
_CELLS, _SUMS = "cells.zarr", "checksums.json"
_ANEW = "Delete the folder of the unfinished prediction and repeat the call."


class _BusyError(StoreError):
    """Another process puts the parts together."""


class PredictionParts:
    """The parts of an unfinished prediction, in a folder beside its result."""

    def __init__(self, target: Path, plan: Mapping[str, Any], n_parts: int, *, rank: int = 0) -> None:
        self._work = Unfinished(target, "prediction")
        self.target, self.folder = self._work.target, self._work.folder
        self.n_parts, self._rank = n_parts, rank
        self._whole: set[int] = set()  # parts that were written by this process, or whose every byte it has checked
        self._check_target()
        plan = json.loads(json.dumps({**plan, "n_parts": n_parts}))
        with writing(StoreError, self.folder, GO_ON):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._work.begin(StoreError)
            # one file for each process: they may begin at the same moment
            write_json(self.folder / f"plan-{rank}.json", self._checked(plan))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from computing the parts of this one."""
        with held(self.folder / f"rank-{self._rank}", StoreError):
            yield

    def _check_target(self) -> None:
        """Refuse to predict where there is something."""
        if self.target.exists():
            raise StoreError(
                "there is something already", where=str(self.target), remedy="Choose another name, or delete it."
            )

    def _checked(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """Refuse to go on with parts of something else."""
        for path in self.folder.glob("plan-*.json"):
            found = checked(read_json(path, StoreError, _ANEW), dict[str, Any], StoreError, str(path), _ANEW)
            if found != plan:
                differences = sorted(key for key in {*found, *plan} if found.get(key) != plan.get(key))
                raise StoreError(
                    f"an unfinished prediction differs in {list_names(differences)}",
                    where=str(self.folder),
                    remedy="Repeat the call that began it, with the same model, or delete the folder.",
                )
        return plan

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}"

    def has(self, number: int) -> bool:
        """Whether a part is there."""
        return self._part(number).exists()

    def _damaged(self, numbers: Iterable[int]) -> list[int]:
        """Return the parts whose files differ from what was written."""
        damaged = []
        for number in numbers:
            if number in self._whole or not self.has(number):
                continue
            if _is_whole(self._part(number)):
                self._whole.add(number)
            else:
                damaged.append(number)
        return damaged

    def to_do(self, world_size: int = 1) -> list[int]:
        """Return the parts that are left to this process; damaged ones are removed, and are among them."""
        own = range(self._rank, self.n_parts, world_size)
        damaged = self._damaged(own)
        if damaged:
            warn_user(
                f"{len(damaged)} parts of the unfinished prediction {self.folder} are damaged, and are computed again: "
                f"{list_names(damaged, quote=False)}."
            )
        with writing(StoreError, self.folder, GO_ON):
            for number in damaged:
                shutil.rmtree(self._part(number))
        return [number for number in own if not self.has(number)]

    def write(self, number: int, cells: AnnData) -> None:
        """Write a part with the checksums of its files; it gets its name when it is complete."""
        beside = self.folder / f"writing-{self._rank}"
        with writing(StoreError, self.folder, GO_ON):
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            cells.write_zarr(beside / _CELLS)
            write_json(beside / _SUMS, checksums(beside, [_CELLS]))
            os.replace(beside, self._part(number))
        self._whole.add(number)

    @property
    def missing(self) -> list[int]:
        """The parts that are not there."""
        return [number for number in range(self.n_parts) if not self.has(number)]

    def finish(self) -> Path | None:
        """Put the parts together, one after the other, and remove them; ``None`` while another process does so."""
        try:
            with writing(StoreError, self.folder, GO_ON), held(self.target, StoreError, _BusyError):
                if not self.target.exists():  # else another process was faster
                    self._check_parts()
                    shutil.rmtree(self._work.new, ignore_errors=True)  # of a process that was killed
                    _join([self._part(number) / _CELLS for number in range(self.n_parts)], self._work.new)
                    self._work.publish()
        except _BusyError:
            return None
        return self.target

    def _check_parts(self) -> None:
        damaged = self._damaged(range(self.n_parts))
        if damaged:
            raise StoreError(
                f"parts of the prediction are damaged: {list_names([self._part(n).name for n in damaged])}",
                where=str(self.folder),
                remedy="Delete these folders and repeat the call, in all processes: it computes them again.",
            )


def _is_whole(part: Path) -> bool:
    """Whether the files of a part are those that were written, byte for byte."""
    path = part / _SUMS
    try:
        written = checked(read_json(path, StoreError, _ANEW), dict[str, tuple[int, str]], StoreError, str(path), _ANEW)
        return bool(written) and checksums(part, [_CELLS]) == written
    except (OSError, ValueError):  # missing, unreadable, or something else
        return False


def _join(parts: Sequence[Path], out: Path) -> None:
    """Write the parts one after the other into one zarr folder."""
    categories = _all_categories(parts)
    for number, part in enumerate(parts):
        cells = _with_categories(anndata.read_zarr(part), categories)
        if number == 0:
            # not with write_zarr, which notes all shapes in one place before they are final
            root = zarr.open_group(out, mode="w-", zarr_format=3)
            anndata.io.write_elem(root, "/", cells)
            _widen_row_starts(root)
        else:
            _append(root, cells)
    with warnings.catch_warnings():
        # zarr 3 has no rule for it yet; anndata does the same
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(root.store)


def _all_categories(parts: Sequence[Path]) -> dict[str, pd.Index]:
    """The categories of every column over all parts, in alphabetical order."""
    found: dict[str, set[str]] = {}
    for part in parts:
        obs: Any = zarr.open_group(part, mode="r")["obs"]
        for name, column in obs.groups():
            if column.attrs["encoding-type"] != "categorical":
                continue
            names: Any = anndata.io.read_elem(column["categories"])
            found.setdefault(name, set()).update(map(str, names))
    return {name: pd.Index(sorted(values)) for name, values in found.items()}


def _with_categories(cells: AnnData, categories: Mapping[str, pd.Index]) -> AnnData:
    """Give the columns of a part the categories of all parts."""
    obs = frame(cells.obs)
    for name, known in categories.items():
        values = obs[name].map(str, na_action="ignore")
        strange = sorted(set(values.dropna()) - set(known))
        if strange:
            raise StoreError(
                f"a part of the prediction has values that are no categories: {list_names(strange)}",
                where=f"obs[{name!r}]",
                remedy=_ANEW,
            )
        obs[name] = pd.Categorical(values, categories=known)
    return cells


def _widen_row_starts(root: zarr.Group) -> None:
    """Row starts of 64 bits: together the parts may have more counts than 32 bits can number."""
    for matrix in _matrices(root).values():
        starts = matrix["indptr"][:]
        del matrix["indptr"]
        anndata.io.write_elem(matrix, "indptr", starts.astype(np.int64))


def _matrices(root: zarr.Group) -> dict[str, Any]:
    layers: Any = root["layers"]
    return {"X": root["X"], **{name: layers[name] for name in layers}}


def _append(root: zarr.Group, cells: AnnData) -> None:
    """Append the cells of a part to a zarr folder."""
    for name, matrix in _matrices(root).items():
        rows = cells.X if name == "X" else cells.layers[name]
        stored: Any = anndata.io.sparse_dataset(matrix)
        stored.append(sparse.csr_matrix(rows))
    obsm: Any = root["obsm"]
    for name, array in obsm.arrays():
        array.append(cells.obsm[name])
    obs: Any = root["obs"]
    index = obs.attrs["_index"]
    for name in (index, *obs.attrs["column-order"]):
        values: Any = cells.obs_names if name == index else cells.obs[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            _extend(obs[name]["codes"], values.cat.codes)
        elif isinstance(obs[name], zarr.Group):  # strings with a mask of those that are missing
            _extend(obs[name]["values"], values)
            _extend(obs[name]["mask"], values.isna())
        else:
            _extend(obs[name], values)


def _extend(array: zarr.Array, values: Any) -> None:
    array.append(np.asarray(values).astype(array.dtype))


def digest_of(*parts: Mapping[str, np.ndarray] | Any) -> str:
    """Return a checksum of arrays and plain data."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, Mapping) and all(isinstance(value, np.ndarray) for value in part.values()):
            for name, array in sorted(part.items()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(array).data)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()
