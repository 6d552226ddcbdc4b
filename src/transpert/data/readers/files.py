"""An AnnData in a file or folder: its annotation, and the rows of its matrices that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import zarr

from transpert._anndata import slot_name
from transpert._files import reading
from transpert._matrices import check_there
from transpert.errors import CountsError, StoreError, check_known

_SHARED_CATEGORIES = "__categories"  # where files of anndata 0.7 keep the categories of all columns
_REMEDY = "Give an .h5ad file or zarr folder that anndata wrote; write it again if it is damaged."


class CellFile:
    """An ``.h5ad`` file or a zarr folder, which is opened when it is needed, also in another process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def errors_named(self, what: str = "AnnData") -> AbstractContextManager[None]:
        """Name whatever h5py, zarr and their codecs raise."""
        return reading(StoreError, self.path, what, _REMEDY)

    @cached_property
    def _group(self) -> Any:
        """The root; h5py and zarr share an interface, but no type."""
        with self.errors_named():
            group: Any = zarr.open_group(self.path, mode="r") if self.path.is_dir() else h5py.File(self.path, "r")
            for part in ("obs", "var"):
                group[part]
            return group

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        with self.errors_named():
            return tuple(self._group.get("layers", {}))

    def has(self, layer: str | None) -> bool:
        """Whether there are values; without them X is not in the file, or is a note that there are none."""
        return self._encoding(layer) != "null"

    def _encoding(self, layer: str | None) -> str:
        with self.errors_named():
            element = self._element(layer)
            return "null" if element is None else element.attrs.get("encoding-type", "array")

    def _element(self, layer: str | None) -> Any:
        if layer is not None:
            check_known("layer", [layer], self.layers, where=str(self.path))
        return self._group.get("X") if layer is None else self._group["layers"][layer]

    def matrix(self, layer: str | None) -> Any:
        """Return a matrix, of which rows are read when they are asked for."""
        encoding, where = self._encoding(layer), f"{slot_name(layer)} of {self.path}"
        if encoding == "null":
            check_there(None, where=where)
        if encoding not in ("csr_matrix", "array"):
            raise CountsError(
                f"the values are stored as {encoding}, of which single cells cannot be read",
                where=where,
                remedy=f"Write them as CSR: adata.{slot_name(layer)} = adata.{slot_name(layer)}.tocsr().",
            )
        with self.errors_named():
            element = self._element(layer)
            matrix = element if encoding == "array" else ad.io.sparse_dataset(element)
            named = {"obs": self._n_obs, "var": len(self.genes)}
            for (slot, n_rows), expected in zip(named.items(), matrix.shape, strict=True):
                if n_rows != expected:
                    raise StoreError(
                        f"{slot} has {n_rows} rows, the counts are of {expected}",
                        where=str(self.path),
                        remedy="Write the file again with AnnData.",
                    )
        return matrix

    def rows(self, layer: str | None, rows: np.ndarray) -> Any:
        """Read rows of a matrix, given in ascending order, as they are."""
        with self.errors_named("AnnData with values"):
            if layer not in self._opened:
                self._opened[layer] = self.matrix(layer)
            return take_rows(self._opened[layer], rows)

    @cached_property
    def _opened(self) -> dict[str | None, Any]:
        """Matrices of which rows were read."""
        return {}

    @cached_property
    def _n_obs(self) -> int:
        """How many cells have a name, which are not read for this."""
        names = self._group["obs"][self._attribute("obs", "_index")]
        stored = names if hasattr(names, "shape") else names["values" if "values" in names else "codes"]
        return int(stored.shape[0])

    @cached_property
    def genes(self) -> pd.Index:
        """Names of the genes."""
        return self.names("var")

    def names(self, slot: str) -> pd.Index:
        """Return the names of cells or genes."""
        with self.errors_named():
            names: Any = ad.io.read_elem(self._group[slot][self._attribute(slot, "_index")])
            return pd.Index(names).astype(str)

    def columns(self, slot: str = "obs") -> tuple[str, ...]:
        """Return the names of the columns of the annotation."""
        with self.errors_named():
            return tuple(map(str, self._attribute(slot, "column-order")))

    def _attribute(self, slot: str, name: str) -> Any:
        attributes = self._group[slot].attrs
        if name not in attributes:
            raise StoreError(
                f"{slot} is no table of AnnData: it lacks {name!r}",
                where=str(self.path),
                remedy="Read the file with anndata.read_h5ad, and write it again.",
            )
        return attributes[name]

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of the annotation; the index holds the names of the cells."""
        names = self.names("obs")
        with self.errors_named("table of cells"):
            group = self._group["obs"]
            if _SHARED_CATEGORIES in group:  # a column alone is read as the numbers of its categories
                table: Any = ad.io.read_elem(group)
                return table[list(columns)].set_axis(names)
            values = {column: ad.io.read_elem(group[column]) for column in columns}
            return pd.DataFrame(values, index=names)

    def uns(self, name: str) -> Any:
        """Read an entry of what is unstructured; an empty one where there is none."""
        with self.errors_named():
            found = self._group.get("uns", {})
            return ad.io.read_elem(found[name]) if name in found else {}


def take_rows(matrix: Any, rows: np.ndarray) -> Any:
    """Take rows, given in ascending order, of any kind of matrix."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        block = matrix[int(rows[0]) : int(rows[-1]) + 1]
    elif isinstance(matrix, zarr.Array):
        block = matrix.oindex[rows]
    elif isinstance(matrix, ad.abc.CSRDataset):
        # runs of neighbours are read at once where they are asked for by a mask
        asked = np.zeros(matrix.shape[0], dtype=bool)
        asked[rows] = True
        block = matrix[asked]
    else:
        block = matrix[rows]
    return block.compute() if hasattr(block, "compute") else block
