"""What a TOML file of cell-load holds out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import pandas as pd

from transpert import _keys
from transpert._schema import checked, read_toml
from transpert.errors import StoreError, UnknownNameError, check_known, list_names
from transpert.groups import Design

SPLITS = {"train": _keys.TRAIN, "val": _keys.VALIDATION, "test": _keys.TEST}


class CellLoadSettings(msgspec.Struct, forbid_unknown_fields=True):
    """What a TOML file of cell-load says; a section of another name would be what somebody wanted held out."""

    datasets: dict[str, Annotated[str, msgspec.Meta(min_length=1)]]
    training: dict[str, str] = {}
    zeroshot: dict[str, str] = {}
    fewshot: dict[str, dict[str, list[str]]] = {}


def read_settings(path: Path) -> CellLoadSettings:
    """Read and check a TOML file."""
    remedy = "It has [datasets], [training], [zeroshot] and [fewshot], as cell-load describes them."
    settings = checked(read_toml(path, StoreError, remedy), CellLoadSettings, StoreError, str(path), remedy)
    held_out = sorted(name for name, split in settings.training.items() if split in ("val", "test"))
    if held_out:
        raise StoreError(
            f"[training] says something other than 'train' of {list_names(held_out)}, and would train on all of it",
            where=str(path),
            remedy="Hold cell types out in [zeroshot], or perturbations in [fewshot].",
        )
    return settings


def used_datasets(settings: CellLoadSettings, path: Path) -> list[str]:
    """Return the data sets that are used; refuse names and splits that do not exist."""
    keys = [*settings.training, *settings.zeroshot, *settings.fewshot]
    used = list(dict.fromkeys(key.split(".", 1)[0] for key in keys))
    check_known("data set", used, settings.datasets, where=str(path))
    if not used:
        raise StoreError("no data set is used", where=str(path), remedy="Name them in [training].")
    splits = [*settings.training.values(), *settings.zeroshot.values()]
    splits += [split for lists in settings.fewshot.values() for split in lists]
    strange = sorted(set(splits) - set(SPLITS))
    if strange:
        raise UnknownNameError("split", strange, SPLITS, where=str(path))
    return used


class HeldOut:
    """What a TOML file holds out of one data set; names that none of its files has are refused."""

    def __init__(self, dataset: str, settings: CellLoadSettings, design: Design, n_files: int, path: Path) -> None:
        self._design, self._n_files, self._where = design, n_files, f"{path}, data set {dataset!r}"
        self._zeroshot = _of_dataset(settings.zeroshot, dataset)
        self._fewshot = _of_dataset(settings.fewshot, dataset)
        self._found: dict[Path, pd.DataFrame] = {}  # the pairs of cell type and label of each file

    def split(self, obs: pd.DataFrame, file: Path) -> np.ndarray:
        """Return the split of the cells of a file, ``(n_obs,)``; refuse unknown names after the last one."""
        split = np.full(len(obs), _keys.TRAIN, dtype=object)
        if not self._design.context_keys:
            return split
        cell_type = obs[self._design.context_keys[0]].astype(str).to_numpy()
        label = obs[self._design.perturbation_key].astype(str).to_numpy()
        self._found[file] = pd.DataFrame({"cell_type": cell_type, "label": label}).drop_duplicates()
        if len(self._found) == self._n_files:
            self._check_names()
        perturbed = ~self._design.control_cells(obs)
        for name, into in self._zeroshot.items():
            split[perturbed & (cell_type == name)] = SPLITS[into]
        for name, lists in self._fewshot.items():
            for into, labels in lists.items():
                split[perturbed & (cell_type == name) & np.isin(label, labels)] = SPLITS[into]
        return split

    def _check_names(self) -> None:
        """Refuse what matches no cell: the cells that were meant would be trained on."""
        found = pd.concat(self._found.values()).drop_duplicates()
        cell_types = sorted(found["cell_type"].dropna().unique())
        absent = [name for name in [*self._zeroshot, *self._fewshot] if name not in cell_types]
        if absent:
            raise UnknownNameError("cell type", list(dict.fromkeys(absent)), cell_types, where=self._where)
        for cell_type, lists in self._fewshot.items():
            known = sorted(found.loc[found["cell_type"] == cell_type, "label"].dropna())
            absent = sorted({label for labels in lists.values() for label in labels} - set(known))
            if absent:
                raise UnknownNameError("perturbation", absent, known, where=f"{self._where}, {cell_type!r}")


def _of_dataset[Value](section: Mapping[str, Value], dataset: str) -> dict[str, Value]:
    """The entries ``"dataset.celltype"`` of a section, by cell type."""
    entries = ((key.partition("."), value) for key, value in section.items())
    return {cell_type: value for (name, _, cell_type), value in entries if name == dataset}
