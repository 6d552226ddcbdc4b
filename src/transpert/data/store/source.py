"""The counts of a store, read by position."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import annbatch
import anndata as ad
import numpy as np
import zarr
from annbatch.abc import Sampler
from scipy import sparse

from transpert.errors import StoreError, TranspertError

from ..readers.readers import zarrs_pipeline
from ..source import chosen_positions
from .contents import StoreContents

if TYPE_CHECKING:
    from annbatch.types import LoadRequest


class StoreSource:
    """The cells of a store, read by position.

    Parameters
    ----------
    store
        The store.

    Raises
    ------
    transpert.errors.StoreError
        If what describes the arrays of a part is damaged.

    Notes
    -----
    Runs of neighbouring positions are read at once; a :class:`~transpert.data.SetSampler` with ``slice_size=64``
    asks for such runs.

    The files of a part are compared with their checksums when the part is first read: the fast codecs decode parts of
    a chunk, and then do not look at the checksum that zarr keeps with it. What is read of every part beforehand, its
    metadata and where its rows start, is compared beforehand.

    Examples
    --------
    >>> import tempfile, numpy as np, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     design = tp.groups.Design("perturbation", "control")
    ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
    ...     source = tp.data.StoreSource(store)  # what store.source() returns
    ...     source.read(np.array([7, 0])).shape, source.library_size.shape == (store.n_obs,)
    ((2, 5), True)
    """

    cells_per_read = 8192

    def __init__(self, store: StoreContents) -> None:
        self.n_obs, self.n_vars = store.shape
        self.library_size, self.embedding = store.library_size, None
        self.fingerprint, self._path = store.fingerprint, store.path
        self._lock = threading.Lock()
        self._manifest, self._parts = store.manifest, store.manifest.parts
        self._files = store.manifest.files_by_part()
        self._unverified = set(range(len(self._parts)))
        self.nnz = sum(part["nnz"] for part in self._parts)
        sizes = np.array([part["n_obs"] for part in self._parts])
        self._ends, self._start_in_reader = np.cumsum(sizes), np.zeros(len(sizes), dtype=np.int64)
        self._verify_what_is_read_first()
        with self._named_errors(), zarrs_pipeline():
            self._open()

    def _open(self) -> None:
        """Open all parts, while the fast codecs are chosen."""
        groups: list[Any] = [zarr.open_group(self._path / part["name"], mode="r") for part in self._parts]
        widths = [group["data"].dtype for group in groups]
        # annbatch overflows where one request spans parts with counts of different width: one reader for each width
        self._readers = {width: _Reader() for width in dict.fromkeys(widths)}
        self._reader_of = np.array([list(self._readers).index(width) for width in widths])
        for number, (width, group) in enumerate(zip(widths, groups, strict=True)):
            self._start_in_reader[number] = self._readers[width].add(group)
        for number, reader in enumerate(self._readers.values()):
            with self._named_errors(int(np.flatnonzero(self._reader_of == number)[0])):
                reader.read(np.zeros(1, dtype=np.int64))  # opens the arrays of all its parts

    def read(self, positions: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of the cells at ``positions``, in that order, CSR float32.

        Raises
        ------
        transpert.errors.OptionError
            If a position is not that of a cell.
        transpert.errors.StoreError
            If a shard is damaged.
        """
        positions = chosen_positions(positions, self.n_obs, where="StoreSource.read")
        if not len(positions):
            return sparse.csr_matrix((0, self.n_vars), dtype=np.float32)
        with self._lock:  # one request at a time: the readers hold it
            self._verify(positions)
            with self._named_errors():
                return self._read(positions).astype(np.float32)

    def _verify_what_is_read_first(self) -> None:
        """Compare the metadata of all parts, and the row starts, which annbatch keeps in memory."""
        for files in self._files.values():
            first = [name for name in files if name.endswith("/zarr.json") or "/indptr/" in name]
            self._manifest.check(self._path, checksum=True, names=first)

    def _verify(self, positions: np.ndarray) -> None:
        """Compare parts that are read for the first time with their checksums."""
        if not self._unverified:
            return
        for part in self._unverified.intersection(np.unique(self._parts_of(positions)).tolist()):
            self._verify_part(part)
            self._unverified.discard(part)

    def _verify_part(self, part: int) -> None:
        self._manifest.check(self._path, checksum=True, names=self._files[self._parts[part]["name"]])

    @contextmanager
    def _named_errors(self, part: int | None = None) -> Iterator[None]:
        """Name damaged files; those of a part first, if one is given."""
        try:
            yield
        except TranspertError:
            raise
        except Exception as error:  # zarr and its codecs raise whatever they like
            if part is not None:
                self._verify_part(part)
            raise StoreError(
                f"cells cannot be read: {' '.join(str(error).split())}",
                where=str(self._path),
                remedy="Store(path).verify() names the damaged files; restore them.",
            ) from error

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
