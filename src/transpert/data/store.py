"""Cells on disk: grouped, shuffled inside the groups, and read in whole slices."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import annbatch
import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from annbatch.abc import Sampler
from rich.progress import Progress, TaskID
from scipy import sparse

from transpert import _keys
from transpert.errors import OptionError, StoreError
from transpert.groups import Design, Groups, make_groups

from .manifest import Manifest
from .readers import CountReader, open_reader, zarrs_pipeline
from .runs import CellRun, read_runs
from .store_build import (
    GENE,
    GENES,
    Report,
    align_genes,
    clean_up,
    collect_obs,
    disk_errors,
    group_records,
    library_column,
    partial_folder,
    write_cells,
)

if TYPE_CHECKING:
    from annbatch.types import LoadRequest

__all__ = ["Store", "StoreSource", "build_store"]

type Cells = str | os.PathLike | ad.AnnData | CountReader


class Store:
    """Cells on disk, grouped by context, condition and batch.

    Parameters
    ----------
    path
        The folder of the store.

    Raises
    ------
    transpert.errors.StoreError
        If the folder is no store, or a file is missing or has another size than when it was written.

    Notes
    -----
    The counts are zarr v3 arrays with sharding, one CSR matrix a part, in the encoding of AnnData. The cells of a
    group lie next to each other in random order; the controls of a context come first. See :func:`build_store`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        self.manifest.check(self.path, checksum=False)
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
        return pd.Index(pd.read_parquet(self.path / GENES)[GENE])

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

    def names(self, positions: np.ndarray) -> np.ndarray:
        """Read the names of some cells; the tables on disk are read in blocks, of which only those needed."""
        positions = np.asarray(positions, dtype=np.int64)
        found = np.empty(len(positions), dtype=object)
        start = 0
        for file in self.manifest.obs_files:
            table = pq.ParquetFile(self.path / file)
            index = [name for name in table.schema_arrow.names if name.startswith("__index_level")]
            for block in range(table.num_row_groups):
                stop = start + table.metadata.row_group(block).num_rows
                here = np.flatnonzero((positions >= start) & (positions < stop))
                if len(here):
                    names = table.read_row_group(block, columns=index).column(0)
                    found[here] = names.take(pa.array(positions[here] - start)).to_pylist()
                start = stop
        return found

    @property
    def library_size(self) -> np.ndarray:
        """Total counts of each cell over all measured genes, ``(n_obs,)`` float64."""
        return self.obs[_keys.LIBRARY_SIZE].to_numpy()

    @property
    def obs_columns(self) -> tuple[str, ...]:
        """Names of all columns of ``obs``."""
        names = pq.read_schema(self.path / self.manifest.obs_files[0]).names
        return tuple(name for name in names if not name.startswith("__index_level"))

    def read_obs(self, columns: Sequence[str] | None = None, *, names: bool = True) -> pd.DataFrame:
        """Read columns of ``obs``; all by default.

        Parameters
        ----------
        columns
            Which columns.
        names
            Read the names of the cells too, as index.
        """
        wanted = list(self.obs_columns if columns is None else columns)
        tables = []
        for file in self.manifest.obs_files:
            table = pd.read_parquet(self.path / file, columns=wanted)
            tables.append(table if names else table.reset_index(drop=True))
        joined = {name: _concatenate([table[name] for table in tables]) for name in wanted}
        index = tables[0].index.append([table.index for table in tables[1:]]) if names else None
        return pd.DataFrame(joined, index=index)

    def groups(self, *, mask: np.ndarray | None = None, min_cells: int = 1) -> Groups:
        """Return the groups of cells, as :func:`transpert.groups.make_groups` makes them."""
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
                self.manifest.check(self.path, checksum=True, below=part["runs"])
                yield from read_runs(self.path / part["runs"], first)
            first += part["n_obs"]

    def to_anndata(self, positions: np.ndarray | None = None) -> ad.AnnData:
        """Read cells into memory; all by default."""
        chosen = np.arange(self.n_obs) if positions is None else np.asarray(positions)
        obs = self.read_obs().iloc[chosen]
        return ad.AnnData(self.source().read(chosen), obs=obs, var=pd.DataFrame(index=self.genes.rename(None)))

    # --- what can be done with it -----------------------------------------------------------------------------
    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises
        ------
        transpert.errors.StoreError
            If a file is missing or damaged; the first ones are named.
        """
        self.manifest.check(self.path, checksum=True)

    def append(self, files: Sequence[Cells], *, layer: str | None = None, library_size_key: str | None = None) -> Store:
        """Add cells; either all of them or none.

        Parameters
        ----------
        files
            Files or AnnData objects with all genes of the store and all columns of the design.
        layer
            Layer with the raw counts; ``X`` by default.
        library_size_key
            Column with the total counts; by default as in :func:`build_store`.

        Returns
        -------
        The store with the new cells, at the end. The cells that were there keep their positions.

        Raises
        ------
        transpert.errors.StoreError
            If the disk is full or a file cannot be read; the store stays as it is.
        """
        readers = [open_reader(file, layer) for file in files]
        genes = align_genes(readers, list(self.genes))
        library_size_key = library_column(readers, library_size_key)
        required = [*self.design.columns, *([library_size_key] if library_size_key else [])]
        columns = [name for name in self.obs_columns if name != _keys.LIBRARY_SIZE]
        obs = collect_obs(readers, required, columns)
        old = self.obs[list(self.design.columns)]
        joined = pd.DataFrame({name: _concatenate([old[name], obs[name]]) for name in old})
        everything = make_groups(joined, self.design)
        is_new = np.arange(len(joined)) >= self.n_obs
        added = make_groups(joined, self.design, mask=is_new)
        folder = partial_folder(self.path)
        manifest = write_cells(
            readers, obs, genes, self.design, folder,
            seed=self.manifest.seed + len(self.manifest.obs_files), groups=_shifted(added, self.n_obs),
            library_size_key=library_size_key, first_part=len(self.manifest.parts),
        )  # fmt: skip
        old_files = self.manifest.files
        joint = Manifest(
            design=self.design,
            n_obs=self.n_obs + manifest.n_obs,
            n_vars=self.n_vars,
            parts=[*self.manifest.parts, *manifest.parts],
            obs_files=[*self.manifest.obs_files, *manifest.obs_files],
            groups=group_records(everything),
            sources=[*self.manifest.sources, *manifest.sources],
            seed=self.manifest.seed,
            files={**{name: entry for name, entry in manifest.files.items() if name != GENES}, **old_files},
            versions=manifest.versions,
        )
        with disk_errors(self.path):
            clean_up(folder)
            (self.path / "runs").mkdir(exist_ok=True)
            for name in [*manifest.obs_files, *(part[key] for part in manifest.parts for key in ("name", "runs"))]:
                target = self.path / name
                shutil.rmtree(target, ignore_errors=True)  # left by an append that never reached its manifest
                os.replace(folder / name, target)
            joint.write(self.path)
            shutil.rmtree(folder)
        return Store(self.path)

    def subset(self, cells: np.ndarray, out: str | os.PathLike, *, seed: int = 0, progress: bool = False) -> Store:
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
        """
        mask = np.zeros(self.n_obs, dtype=bool)
        mask[cells] = True
        reader = _StoreReader(self)
        obs = collect_obs([reader], self.design.columns, None)
        groups = make_groups(obs, self.design, mask=mask)
        with _progress(progress) as report:
            return _finish(out, lambda folder: write_cells(
                [reader], obs, self.genes, self.design, folder,
                seed=seed, groups=groups, library_size_key=_keys.LIBRARY_SIZE, report=report,
            ))  # fmt: skip


def build_store(
    files: Sequence[Cells],
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
        ``.h5ad`` files, zarr folders or AnnData objects, with raw counts by row (CSR or dense).
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
        Column with the total counts; by default ``library_size`` where all files have it, else the sum over all
        genes of the file, kept or not.
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
        If ``out`` exists, a file cannot be read, or the disk is full.
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
    if not len(files):
        raise OptionError("no files were given", where="build_store")
    _refuse_existing(Path(out))
    readers = [open_reader(file, layer) for file in files]
    shared = align_genes(readers, genes)
    library_size_key = library_column(readers, library_size_key)
    required = [*design.columns, *([library_size_key] if library_size_key else [])]
    obs = collect_obs(readers, required, obs_columns)
    groups = make_groups(obs, design)
    with _progress(progress) as report:
        return _finish(out, lambda folder: write_cells(
            readers, obs, shared, design, folder, seed=seed, groups=groups,
            library_size_key=library_size_key, cells_per_part=cells_per_part, report=report,
        ))  # fmt: skip


@contextmanager
def _progress(shown: bool) -> Iterator[Report]:
    """Show the steps of a build as bars."""
    with Progress(disable=not shown) as bar:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield report


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise StoreError(
            "there is something already",
            where=str(out),
            remedy="Choose another name, or add cells with Store(path).append(files).",
        )


def _finish(out: str | os.PathLike, write: Callable[[Path], Manifest]) -> Store:
    """Write a store beside ``out`` and give it its name at the end."""
    target = Path(out)
    _refuse_existing(target)
    folder = partial_folder(target)
    manifest = write(folder)
    with disk_errors(folder):
        manifest.write(folder)
        clean_up(folder)
        os.replace(folder, target)
    return Store(target)


def _shifted(groups: Groups, n_skipped: int) -> Groups:
    """The same groups, without the first cells, none of which they contain."""
    return Groups(
        groups.design, groups.table, groups.conditions, groups.codes[n_skipped:],
        groups._order - n_skipped, groups._offsets,
    )  # fmt: skip


def _concatenate(columns: list[pd.Series]) -> pd.Series | pd.Categorical:
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        return pd.api.types.union_categoricals([column.array for column in columns], ignore_order=True)
    return pd.concat(columns, ignore_index=True).array


class StoreSource:
    """The cells of a store, read by position.

    Parameters
    ----------
    store
        The store.

    Notes
    -----
    Runs of neighbouring positions are read at once; a :class:`~transpert.data.SetSampler` with ``slice_size=64``
    asks for such runs.

    The files of a part are compared with their checksums when the part is first read: the fast codecs decode parts of
    a chunk, and then do not look at the checksum that zarr keeps with it.
    """

    cells_per_read = 8192

    def __init__(self, store: Store) -> None:
        self.n_obs, self.n_vars = store.shape
        self.library_size, self.embedding = store.library_size, None
        self.fingerprint, self._path = store.fingerprint, store.path
        self._lock = threading.Lock()
        self._manifest, self._unverified = store.manifest, set(range(len(store.manifest.parts)))
        groups: list[Any] = [zarr.open_group(store.path / part["name"], mode="r") for part in store.manifest.parts]
        widths = [group["data"].dtype for group in groups]
        # annbatch overflows where one request spans parts with counts of different width: one reader for each width
        self._readers = {width: _Reader() for width in dict.fromkeys(widths)}
        sizes = np.array([part["n_obs"] for part in store.manifest.parts])
        self._ends, self._start_in_reader = np.cumsum(sizes), np.zeros(len(sizes), dtype=np.int64)
        self._reader_of = np.array([list(self._readers).index(width) for width in widths])
        with zarrs_pipeline():
            for number, (width, group) in enumerate(zip(widths, groups, strict=True)):
                self._start_in_reader[number] = self._readers[width].add(group)
            for reader in self._readers.values():
                reader.read(np.zeros(1, dtype=np.int64))  # opens the arrays, while the fast codecs are chosen

    def read(self, positions: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of the cells at ``positions``, in that order, CSR float32.

        Raises
        ------
        transpert.errors.StoreError
            If a shard is damaged.
        """
        positions = np.asarray(positions, dtype=np.int64)
        with self._lock:  # one request at a time: the readers hold it
            self._verify(positions)
            try:
                return self._read(positions).astype(np.float32)
            except Exception as error:  # zarr and its codecs raise whatever they like
                raise StoreError(
                    f"cells cannot be read: {error}",
                    where=str(self._path),
                    remedy="Store(path).verify() names the damaged files; restore them.",
                ) from error

    def _verify(self, positions: np.ndarray) -> None:
        """Compare parts that are read for the first time with their checksums."""
        if not self._unverified:
            return
        for part in self._unverified.intersection(np.unique(self._parts_of(positions)).tolist()):
            self._manifest.check_part(self._path, part)
            self._unverified.discard(part)

    def _parts_of(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._ends, positions, side="right")

    def _read(self, positions: np.ndarray) -> sparse.csr_matrix:
        readers = list(self._readers.values())
        if len(readers) == 1:
            return readers[0].read(positions)
        part = self._parts_of(positions)
        starts = np.concatenate([[0], self._ends[:-1]])
        within = positions - starts[part] + self._start_in_reader[part]
        asked = [np.flatnonzero(self._reader_of[part] == number) for number in range(len(readers))]
        found = [reader.read(within[rows]) for reader, rows in zip(readers, asked, strict=True) if len(rows)]
        return sparse.vstack(found, format="csr")[np.argsort(np.concatenate(asked))]


class _Reader:
    """Reads cells out of parts whose counts have the same width, through annbatch."""

    def __init__(self) -> None:
        self._request, self._n_obs = _Request(), 0
        self._loader = annbatch.Loader(batch_sampler=self._request, preload_to_gpu=False, to=None)

    def add(self, part: zarr.Group) -> int:
        """Add a part, and return the position of its first cell."""
        matrix = ad.io.sparse_dataset(part)
        self._loader.add_dataset(matrix)
        self._n_obs += matrix.shape[0]
        return self._n_obs - matrix.shape[0]

    def read(self, positions: np.ndarray) -> sparse.csr_matrix:
        """Return the cells at positions among those of the parts."""
        self._request.positions = positions
        return sparse.csr_matrix(next(iter(self._loader))["X"])


class _Request(Sampler):
    """Hands one list of positions to annbatch."""

    batch_size = None
    shuffle = False

    def __init__(self) -> None:
        self.positions = np.zeros(0, dtype=np.int64)

    def n_batches(self, n_obs: int) -> int:
        return 1

    def validate(self, n_obs: int) -> None:
        """Accept: the positions come from a plan for this store."""

    def _sample(self, n_obs: int) -> Iterator[LoadRequest]:
        yield {"requests": self.positions, "splits": [np.arange(len(self.positions))]}


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
