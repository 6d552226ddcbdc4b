"""Cells on disk: grouped, shuffled inside the groups, and read in whole slices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from transpert import _keys
from transpert._folders import Unfinished, unfinished_work
from transpert._seeds import check_seed
from transpert.errors import ControlError, OptionError, StoreError
from transpert.groups import Design, Groups, make_groups

from ..source import chosen_positions
from .append import append_cells
from .build import GO_ON, check_target, progress_bars, write_cells
from .build_input import BuildInput, Cells, collect_obs, open_readers, read_input
from .manifest import Manifest
from .runs import CellRun, read_runs
from .source import StoreSource
from .tables import Tables


class Store:
    """Cells on disk, grouped by context, condition and batch.

    Parameters
    ----------
    path
        The folder of the store.

    Raises
    ------
    transpert.errors.StoreError
        If the folder is no store, its manifest is damaged, or a file is missing or has another size than when it was
        written.

    Notes
    -----
    The counts are zarr v3 arrays with sharding, one CSR matrix a part, in the encoding of AnnData. The cells of a
    group lie next to each other in random order; the controls of a context come first. See :func:`build_store`.

    Opening reads the manifest and looks at the sizes of the files. The tables are compared with their checksums when
    they are first read, and so are the counts of a part.

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     design = tp.groups.Design("perturbation", "control")
    ...     built = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
    ...     store = tp.data.Store(f"{folder}/cells.zarr")
    ...     store.shape == adata.shape, store.genes[:2].tolist(), store.obs["perturbation"].value_counts().to_dict()
    (True, ['gene_0', 'gene_1'], {'P0': 10, 'control': 10})
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        self.manifest.check(self.path, checksum=False)
        self.tables = Tables(self.path, self.manifest)
        self._obs: pd.DataFrame | None = None
        self._annotation: ad.AnnData | None = None

    @classmethod
    def open(cls, path: str | os.PathLike) -> Self:
        """Open a store; the same as ``Store(path)``."""
        return cls(path)

    # --- what it holds --------------------------------------------------------------------------------------
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
        """The cells without their counts: ``obs`` and ``var`` in an AnnData whose matrix is empty; made once.

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

    def source(self) -> StoreSource:
        """Return the cells for a :class:`~transpert.data.SetDataModule`."""
        return StoreSource(self)

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

    def to_anndata(self, positions: ArrayLike | None = None) -> ad.AnnData:
        """Read cells into memory; all by default.

        Parameters
        ----------
        positions : (n_obs,) or (n_chosen,)
            A mask or positions; cells come in the order of the positions.

        Returns
        -------
        The raw counts in ``X``, CSR float32.

        Raises
        ------
        transpert.errors.OptionError
            If the mask has another length, or there is no such position.
        transpert.errors.StoreError
            If a file is damaged.

        Examples
        --------
        >>> import tempfile, transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     design = tp.groups.Design("perturbation", "control")
        ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
        ...     controls = store.to_anndata(store.obs["perturbation"] == "control")
        ...     controls.obs["perturbation"].unique().tolist(), store.to_anndata([2, 0]).shape
        (['control'], (2, 5))
        """
        everything = np.arange(self.n_obs)
        chosen = everything if positions is None else chosen_positions(positions, self.n_obs, where="Store.to_anndata")
        obs = self.read_obs().iloc[chosen]
        return ad.AnnData(self.source().read(chosen), obs=obs, var=pd.DataFrame(index=self.genes.rename(None)))

    # --- what can be done with it -----------------------------------------------------------------------------
    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises
        ------
        transpert.errors.StoreError
            If a file is missing or damaged; the first ones are named.

        Examples
        --------
        >>> import tempfile, transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     design = tp.groups.Design("perturbation", "control")
        ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
        ...     store.verify()  # says nothing: every file is as it was written
        """
        self.manifest.check(self.path, checksum=True)

    def append(
        self,
        files: Cells | Sequence[Cells],
        *,
        layer: str | None = None,
        library_size_key: str | None = None,
        allow_repeated: bool = False,
        progress: bool = False,
    ) -> Store:
        """Add cells; either all of them or none.

        Parameters
        ----------
        files
            A file or an AnnData object, or several, with all genes of the store and all its columns.
        layer
            Layer with the raw counts; ``X`` by default.
        library_size_key
            Column with the total counts; by default the one of the last build or append, and if that had none, as in
            :func:`build_store`.
        allow_repeated
            Add cells also if the store seems to have them already.
        progress
            Show a progress bar.

        Returns
        -------
        The store with the new cells, at the end. The cells that were there keep their positions and names. Where a
        new name is there already, ``-`` and the number of the file are appended to all new ones.

        Raises
        ------
        transpert.errors.StoreError
            If all cells of a file are in the store already: their names are, and a file of the same name, or one with
            the same names in the same order and as many counts, was added before. If the store has changed since it was
            opened, the disk is full, or a file cannot be read; the store stays as it is.
        transpert.errors.GeneError, transpert.errors.CountsError, transpert.errors.UnknownNameError
            If the files lack genes or columns of the store, or hold no counts.

        Examples
        --------
        >>> import tempfile, transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=5, n_cells=10)
        >>> first, second = (adata[adata.obs["context"] == name].copy() for name in ("context_0", "context_1"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     design = tp.groups.Design("perturbation", "control", ("context",))
        ...     store = tp.data.build_store([first], f"{folder}/cells.zarr", design, layer="counts")
        ...     longer = store.append([second], layer="counts")
        ...     longer.n_obs == adata.n_obs, longer.groups().contexts
        (True, ('context_0', 'context_1'))
        """
        readers = open_readers(files, layer, where="Store.append")
        with progress_bars(progress) as report:
            append_cells(self, readers, library_size_key=library_size_key, allow_repeated=allow_repeated, report=report)
        return Store(self.path)

    def subset(self, cells: ArrayLike, out: str | os.PathLike, *, seed: int = 0, progress: bool = False) -> Store:
        """Write some of the cells into a store of their own.

        Parameters
        ----------
        cells : (n_obs,) or (n_chosen,)
            A mask or positions.
        out
            The new store.
        seed
            Seed of the shuffling inside groups.
        progress
            Show a progress bar.

        Returns
        -------
        The new store.

        Raises
        ------
        transpert.errors.OptionError
            If no cell is chosen, the mask has another length, or there is no such position.
        transpert.errors.ControlError
            If no control is chosen.
        transpert.errors.StoreError
            If ``out`` exists, a file is damaged, or the disk is full.

        Examples
        --------
        >>> import tempfile, transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=5, n_cells=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     design = tp.groups.Design("perturbation", "control", ("context",))
        ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
        ...     part = store.subset(store.obs["context"] == "context_0", f"{folder}/part.zarr")
        ...     part.groups().contexts
        ('context_0',)
        """
        check_seed(seed)
        check_target(Path(out))
        chosen = chosen_positions(cells, self.n_obs, where="Store.subset")
        if not len(chosen):
            raise OptionError("no cell is chosen", where="Store.subset", remedy="Choose at least the controls.")
        mask = np.zeros(self.n_obs, dtype=bool)
        mask[chosen] = True
        reader = _StoreReader(self)
        obs, names = collect_obs([reader], self.design.columns, None)
        groups = make_groups(obs, self.design, mask=mask)
        if not groups.table["is_control"].any():
            raise ControlError(
                "none of the chosen cells is a control",
                where="Store.subset",
                remedy=f"Choose cells labelled {self.design.named_controls} too: a store without them cannot be used.",
            )
        chosen_cells = BuildInput([reader], self.genes, obs, names, _keys.LIBRARY_SIZE)
        with progress_bars(progress) as report:

            def write(work: Unfinished) -> Manifest:
                written = write_cells(chosen_cells, self.design, work, seed=seed, groups=groups, report=report)
                return replace(written, library_size_key=self.manifest.library_size_key)

            return _finish(out, write)


def build_store(
    files: Cells | Sequence[Cells],
    out: str | os.PathLike,
    design: Design,
    *,
    layer: str | None = None,
    genes: Sequence[str] | None = None,
    obs_columns: Sequence[str] | None = None,
    library_size_key: str | None = None,
    cells_per_part: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Store:
    """Write cells into a store: grouped by context, condition and batch, shuffled inside the groups.

    Memory is bounded: a block of cells while reading, one part while writing, and the annotation of all cells. The
    same call goes on where it was interrupted.

    Parameters
    ----------
    files
        A file or an AnnData object, or several: ``.h5ad`` files, zarr folders or AnnData objects in memory, with raw
        counts by row (CSR or dense).
    out
        The folder to make; until it is complete it is called ``<out>.partial``.
    design
        Which columns of ``obs`` say what.
    layer
        Layer with the raw counts; ``X`` by default.
    genes
        Genes to keep, by name; by default those that all files have.
    obs_columns
        Columns to keep besides those of the design; by default those that all files have.
    library_size_key
        Column with the total counts, which cannot be less than the counts that are kept; by default
        ``library_size`` where all files have it, else the sum over all genes of the file, kept or not.
    cells_per_part
        Cells of a part; by default chosen so that a part has some 12 million counts.
    seed
        Seed of the shuffling.
    progress
        Show a progress bar.

    Returns
    -------
    The store.

    Raises
    ------
    transpert.errors.StoreError
        If ``out`` exists, its folder does not, a file cannot be read, or the disk is full.
    transpert.errors.OptionError, transpert.errors.BackedDataError
        If there are no files, no genes, a column of the design is called ``library_size``, or an AnnData is backed.
    transpert.errors.GeneError, transpert.errors.CountsError, transpert.errors.UnknownNameError
        If the files do not fit together or hold no counts.

    Examples
    --------
    >>> import tempfile, anndata as ad, numpy as np, pandas as pd
    >>> from transpert.data import build_store
    >>> from transpert.groups import Design
    >>> obs = pd.DataFrame({"perturbation": ["A", "control", "A"]}, index=["c1", "c2", "c3"])
    >>> adata = ad.AnnData(np.array([[1, 0], [2, 3], [0, 4]], dtype="float32"), obs=obs)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = build_store([adata], f"{folder}/cells.zarr", Design("perturbation", "control"))
    ...     store.shape, store.obs["perturbation"].tolist()
    ((3, 2), ['control', 'A', 'A'])
    """
    check_seed(seed)
    check_target(Path(out))
    readers = open_readers(files, layer, where="build_store")
    cells = read_input(readers, design, genes=genes, obs_columns=obs_columns, library_size_key=library_size_key)
    groups = make_groups(cells.obs, design)
    with progress_bars(progress) as report:
        return _finish(out, lambda work: write_cells(
            cells, design, work, seed=seed, groups=groups, cells_per_part=cells_per_part, report=report,
        ))  # fmt: skip


def _finish(out: str | os.PathLike, write: Callable[[Unfinished], Manifest]) -> Store:
    """Write a store beside ``out`` and give it its name at the end."""
    target = Path(out)
    with unfinished_work(target, "store", StoreError, GO_ON) as work:
        check_target(target)  # again, under the lock
        write(work).write(work.new)
        work.publish()
    return Store(target)


class _StoreReader:
    """A store as the input of another build."""

    def __init__(self, store: Store) -> None:
        self._store, self._source = store, store.source()
        self.name, self.genes, self.n_obs = store.path.name, store.genes, store.n_obs
        self.obs_columns = store.obs_columns
        self.nnz = sum(part["nnz"] for part in store.manifest.parts)

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        return self._store.read_obs(columns)

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        return self._source.read(np.arange(start, stop))

    def signature(self) -> list:
        return [self._store.fingerprint]

    def empty_cells(self) -> int:
        return 0  # cells with counts in none of the kept genes have a library size all the same
