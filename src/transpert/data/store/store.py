"""Cells on disk: grouped, shuffled inside the groups, and read in whole slices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from transpert import _keys
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert._folders import Unfinished, unfinished_work
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.errors import ControlError, OptionError, StoreError
from transpert.groups import Design, make_groups

from ..source import chosen_positions
from .append import append_cells
from .build import GO_ON, check_target, progress_bars, write_cells
from .build_input import BuildInput, Cells, collect_obs, open_readers, read_input
from .contents import StoreContents
from .manifest import Manifest
from .source import StoreSource


@fill_docstring
class Store(StoreContents):
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
    %(small_cells)s
    ...     built = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
    ...     store = tp.data.Store(f"{folder}/cells.zarr")
    ...     store.shape == adata.shape, store.genes[:2].tolist(), store.obs["perturbation"].value_counts().to_dict()
    (True, ['gene_0', 'gene_1'], {'P0': 10, 'control': 10})
    """

    @classmethod
    def open(cls, path: str | os.PathLike) -> Self:
        """Open a store; the same as ``Store(path)``."""
        return cls(path)

    def source(self) -> StoreSource:
        """Return the cells for a :class:`~transpert.data.SetDataModule`."""
        return StoreSource(self)

    @as_annotated()
    @fill_docstring
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
        %(small_cells)s
        ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
        ...     controls = store.to_anndata(store.obs["perturbation"] == "control")
        ...     controls.obs["perturbation"].unique().tolist(), store.to_anndata([2, 0]).shape
        (['control'], (2, 5))
        """
        everything = np.arange(self.n_obs)
        chosen = everything if positions is None else chosen_positions(positions, self.n_obs, where="Store.to_anndata")
        obs = self.read_obs().iloc[chosen]
        return ad.AnnData(self.source().read(chosen), obs=obs, var=pd.DataFrame(index=self.genes.rename(None)))

    @fill_docstring
    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises
        ------
        transpert.errors.StoreError
            If a file is missing or damaged; the first ones are named.

        Examples
        --------
        %(small_cells)s
        ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
        ...     store.verify()  # says nothing: every file is as it was written
        """
        self.manifest.check(self.path, checksum=True)

    @as_annotated(but=("files",))
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

    @as_annotated()
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
    check_arguments(locals())
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
