"""What the manifest and the tables of a store say of its cells; their counts are read elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from transpert import _keys
from transpert._arguments import check_path
from transpert.groups import Design, Groups, make_groups

from ..source import chosen_positions
from .manifest import Manifest
from .runs import CellRun, read_runs
from .tables import Tables


class StoreContents:
    """The cells of a store without their counts."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = check_path(path, name="path")
        self.manifest = Manifest.read(self.path)
        self.manifest.check(self.path, checksum=False)
        self.tables = Tables(self.path, self.manifest)
        self._obs: pd.DataFrame | None = None
        self._annotation: ad.AnnData | None = None

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.manifest.n_obs

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return self.manifest.n_vars

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and genes."""
        return self.n_obs, self.n_vars

    @property
    def design(self) -> Design:
        """Which columns of ``obs`` say what."""
        return self.manifest.design

    @property
    def fingerprint(self) -> str:
        """The same for the same cells in the same order."""
        return self.manifest.fingerprint

    @property
    def genes(self) -> pd.Index:
        """Names of the genes."""
        return self.tables.genes

    @property
    def obs(self) -> pd.DataFrame:
        """The columns of the design and the library size, read once; without names of cells."""
        if self._obs is None:
            self._obs = self.read_obs([*self.design.columns, _keys.LIBRARY_SIZE], names=False)
        return self._obs

    @property
    def annotation(self) -> ad.AnnData:
        """The cells without their counts, with ``obs`` and ``var`` in an AnnData whose matrix is empty; made once.

        What is written into its ``obs`` counts for models that are set up with the store, so a split is made with
        ``tp.pp.split(store.annotation, ...)``. Nothing is written to disk. The cells are called by their position.
        """
        if self._annotation is None:
            obs = self.obs.set_axis(pd.RangeIndex(self.n_obs).astype(str))
            empty = sparse.csr_matrix(self.shape, dtype=np.float32)
            self._annotation = ad.AnnData(empty, obs=obs, var=pd.DataFrame(index=self.genes.rename(None)))
        return self._annotation

    def names(self, positions: ArrayLike) -> np.ndarray:
        """Read the names of some cells: only the blocks of the tables they are in.

        Parameters
        ----------
        positions : (n_obs,) or (n_chosen,)
            A mask or positions.

        Returns
        -------
        The names, in the order of the positions.

        Raises
        ------
        transpert.errors.OptionError
            If the mask has another length, or there is no such position.
        """
        return self.tables.names(chosen_positions(positions, self.n_obs, where="Store.names"))

    @property
    def library_size(self) -> np.ndarray:
        """Total counts of each cell over all measured genes, ``(n_obs,)`` float64."""
        return self.obs[_keys.LIBRARY_SIZE].to_numpy()

    @property
    def obs_columns(self) -> tuple[str, ...]:
        """Names of all columns of ``obs``."""
        return self.tables.obs_columns

    def read_obs(self, columns: Sequence[str] | None = None, *, names: bool = True) -> pd.DataFrame:
        """Read columns of ``obs``; all by default.

        Parameters
        ----------
        columns
            Which columns.
        names
            Read the names of the cells too, as index.

        Raises
        ------
        transpert.errors.StoreError
            If a table is damaged.
        transpert.errors.UnknownNameError
            If there is no such column.
        """
        return self.tables.read_obs(columns, names=names)

    def groups(self, *, mask: np.ndarray | None = None, min_cells: int = 1) -> Groups:
        """Return the groups of cells, as :func:`transpert.groups.make_groups` makes them.

        Parameters
        ----------
        mask : (n_obs,)
            Cells to include; all by default.
        min_cells
            Groups of fewer perturbed cells raise.

        Returns
        -------
        The groups.

        Raises
        ------
        transpert.errors.GroupSizeError
            If a perturbed group has fewer than ``min_cells`` cells.
        """
        return make_groups(self.obs, self.design, mask=mask, min_cells=min_cells)

    def runs(self) -> Iterator[CellRun]:
        """Read the sums over long runs of neighbouring cells that were written with them.

        Raises
        ------
        transpert.errors.StoreError
            If a file is damaged.
        """
        first = 0
        for part in self.manifest.parts:
            if "runs" in part:  # stores of earlier versions have none
                self.manifest.check(self.path, checksum=True, names=[part["runs"]])
                yield from read_runs(self.path / part["runs"], first)
            first += part["n_obs"]
