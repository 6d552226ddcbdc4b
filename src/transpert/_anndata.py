"""Parts of an AnnData or MuData, whose own types leave open what they are."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata import read_h5ad as read_anndata
from anndata.experimental.backed import Dataset2D
from mudata import MuData

from transpert import _keys
from transpert._files import check_fits, reading
from transpert.errors import OptionError, TranspertError, UnknownNameError, check_known


def check_kind(
    data: object,
    kinds: tuple[type, ...] = (AnnData,),
    *,
    name: str,
    wanted: str = "an AnnData",
    several: bool = False,
) -> None:
    """Refuse cells that come as something else, such as a list of AnnData."""
    if not isinstance(data, kinds):
        more = ", or several by name: {'mine': prediction}" if several else ""
        raise OptionError(f"{name} is of type {type(data).__name__}", remedy=f"Give {wanted}{more}.")
    if isinstance(data, AnnData | MuData):
        _check_columns(data.obs.columns)


def frame(annotation: pd.DataFrame | Dataset2D) -> pd.DataFrame:
    """Return ``obs`` or ``var`` as a DataFrame; that of a lazy AnnData is read."""
    table = annotation if isinstance(annotation, pd.DataFrame) else annotation.to_memory()
    _check_columns(table.columns)
    return table


def in_memory(adata: AnnData, *, copied: bool = False) -> AnnData:
    """Return cells in memory: what is in a file or lazy is read, anything else copied where that is asked for."""
    if adata.isbacked or not isinstance(adata.obs, pd.DataFrame):
        return adata.to_memory()
    return adata.copy() if copied else adata


def _check_columns(columns: pd.Index) -> None:
    """Refuse several columns of the same name."""
    if not columns.is_unique:
        raise UnknownNameError(
            "column",
            map(str, columns[columns.duplicated()].unique()),
            [],
            where="obs or var, where it occurs more than once",
            remedy="Keep one of each: adata.obs = adata.obs.loc[:, ~adata.obs.columns.duplicated()], and so for var.",
        )


def metadata_of(adata: AnnData) -> Mapping[str, Any]:
    """Return what ``uns["transpert"]`` says; nothing where something else is kept under this name."""
    found = adata.uns.get(_keys.UNS, {})
    return own_metadata(found)


def own_table(values: object, columns: Collection[str]) -> pd.DataFrame | None:
    """Return a table with these columns, that of a lazy AnnData read; nothing where it is none."""
    table = frame(values) if isinstance(values, pd.DataFrame | Dataset2D) else None
    return None if table is None or not set(columns) <= set(table.columns) else table


def own_entry(
    adata: AnnData, name: str, *, tables: Mapping[str, Collection[str]], numbers: Collection[str] = (), remedy: str
) -> dict[str, Any] | None:
    """Return an entry of ``uns["transpert"]`` if its tables have their columns, and its numbers are some."""
    found = metadata_of(adata).get(name)
    if found is None:
        return None
    values = dict(found) if isinstance(found, Mapping) else {}
    entry = {part: own_table(values.get(part), columns) for part, columns in tables.items()}
    lost = [part for part, table in entry.items() if table is None]
    for part in numbers:
        value = np.asarray(values.get(part))
        lost += [part] if value.ndim or value.dtype.kind not in "fiu" or not np.isfinite(value) else []
    if lost:
        raise OptionError(
            f"{', '.join(lost)} of {name} is no longer what transpert wrote there",
            where=f"uns[{_keys.UNS!r}][{name!r}]",
            remedy=remedy,
        )
    return {**values, **entry}


def check_writable(data: object, name: str = "") -> None:
    """Refuse to write beside what somebody else keeps in ``uns["transpert"]``, or over it."""
    if not isinstance(data, AnnData) or _keys.UNS not in data.uns:
        return
    found = data.uns[_keys.UNS]
    taken = isinstance(found, Mapping) and not _is_ours(found.get(name))
    if taken or not isinstance(found, Mapping) or (len(found) and not any(map(_is_ours, found.values()))):
        raise OptionError(
            f"something that transpert did not write is kept there: {str(found)[:60]!r}",
            where=f"uns[{_keys.UNS!r}]",
            remedy=f"Move it: adata.uns['mine'] = adata.uns.pop({_keys.UNS!r}).",
        )


def _is_ours(value: Any) -> bool:
    """Whether an entry of the metadata may be of this package: a design, a table, or several of them."""
    return value is None or isinstance(value, Mapping | pd.DataFrame)


def own_metadata(found: Any) -> Mapping[str, Any]:
    """Return metadata that this package may have written: words by name, the design among them."""
    if not isinstance(found, Mapping) or not isinstance(found.get("design", {}), Mapping):
        return {}
    return found


def are_of_prediction(columns: Collection[str]) -> bool:
    """Whether columns of ``obs`` are those of a prediction of this package; other data has a ``source`` too."""
    return all(column in columns for column in (_keys.SOURCE, _keys.MODEL, _keys.CONTROL_ID))


def predicted_cells(obs: pd.DataFrame) -> np.ndarray:
    """Return which cells were predicted by this package, ``(n_obs,)`` bool.

    Their ``library_size`` is that of the control cell that they were made from, by which their values were normalised:
    they can have more counts.
    """
    if not are_of_prediction(obs.columns):
        return np.zeros(len(obs), dtype=bool)
    return (obs[_keys.SOURCE].astype(str) == _keys.PREDICTED).to_numpy(dtype=bool)


@contextmanager
def restored_on_failure(data: object) -> Iterator[None]:
    """Take back what was written into an AnnData or MuData if what follows fails."""
    parts: list[Any] = [data] if isinstance(data, AnnData | MuData) else []
    if isinstance(data, MuData):
        parts += data.mod.values()
    before = [(part, part.obs.copy(deep=False), dict(part.uns), set(part.obsm)) for part in parts]
    try:
        yield
    except BaseException:
        for part, obs, uns, obsm in before:
            part.obs = obs
            part.uns.clear()
            part.uns.update(uns)
            for name in set(part.obsm) - obsm:
                del part.obsm[name]
        raise


def layer_names(adata: AnnData) -> list[str]:
    """Return the names of the layers; anndata lists ``X`` among them, as ``None``."""
    return [name for name in adata.layers.keys() if name is not None]


def slot_name(layer: str | None) -> str:
    """Return what ``X`` or a layer is called in messages."""
    return "X" if layer is None else f"layers[{layer!r}]"


def matrix_of(adata: AnnData, layer: str | None, *, where: str = "layers") -> tuple[Any, str]:
    """Return ``X`` or a layer, and what it is called in messages."""
    if layer is not None:
        check_known("layer", [layer], layer_names(adata), where=where)
    return adata.X if layer is None else adata.layers[layer], slot_name(layer)


def modality_of(data: AnnData | MuData, modality: str | None) -> AnnData:
    """Return one modality of a MuData to read, with the columns of the MuData that it lacks; an AnnData as it is.

    Matrices are shared with the modality and not copied. Nothing is to be written into what is returned:
    :func:`modality_to_write` is for that.
    """
    adata = modality_to_write(data, modality)
    shared = [] if adata is data else [column for column in data.obs if column not in adata.obs]
    if not shared:
        return adata
    obs = frame(adata.obs).join(frame(data.obs)[shared])
    slots: dict[str, Any] = {"obsm": dict(adata.obsm.items()), "varm": dict(adata.varm.items())}
    return AnnData(
        adata.X,
        obs=obs,
        var=frame(adata.var),
        uns=dict(adata.uns),
        layers={name: adata.layers[name] for name in layer_names(adata)},
        **slots,
    )


def modality_to_write(data: AnnData | MuData, modality: str | None) -> AnnData:
    """Return one modality of a MuData itself; an AnnData as it is."""
    check_kind(data, (AnnData, MuData), name="the data", wanted="an AnnData or a MuData")
    if not isinstance(data, MuData):
        return data
    check_known("modality", [modality], data.mod, where="mdata.mod")
    return data[modality]


def writable_name(name: str) -> str:
    """Return a name under which a file can hold something."""
    return name.replace("/", "\u2215")


def read_h5ad(path: str | os.PathLike[str], error: type[TranspertError]) -> AnnData:
    """Read an h5ad file, or raise an error of ours that names it and the remedy."""
    where = Path(path)
    with reading(error, where, "h5ad file", "Write it again with adata.write_h5ad(path)."):
        with h5py.File(where, "r") as file:
            sizes: list[float] = []
            file.visititems(lambda _, item: sizes.append(item.size * item.dtype.itemsize) if _is_array(item) else None)
            check_fits(sum(sizes), error, where)  # what is said of sizes is believed by whoever makes room for it
        return read_anndata(where)


def _is_array(item: Any) -> bool:
    """Whether something in an HDF5 file is an array with a size."""
    return isinstance(item, h5py.Dataset) and item.size is not None
