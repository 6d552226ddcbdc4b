"""A batch of paired sets: CSR until it is on the device, dense there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from transpert import _keys
from transpert._signatures import as_annotated
from transpert.errors import OptionError

from ..source import CellSource
from .sampler import SetPlan


@dataclass(frozen=True, slots=True, eq=False)
class CellSets:
    """Sets of perturbed cells, each with a set of controls.

    The counts are the rows of one CSR matrix: the controls of all sets, then the perturbed cells of all sets.

    Parameters
    ----------
    indptr : (2 * S * N + 1,)
        Row starts.
    indices, values : (nnz,)
        Genes and raw counts.
    library_size : (2, S, N)
        Total counts of every cell over all measured genes; controls first.
    groups : (S,)
        Number of the perturbed group of each set.
    positions : (2, S, N)
        Where the cells are in the data; always on the CPU.
    n_genes
        Number of genes, ``G``.
    epoch, step
        Where in the training the batch belongs.
    embedding : (2, S, N, d)
        Embedding of every cell, if there is one.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.data import MemorySource, SetPlan, read_sets
    >>> source = MemorySource.from_matrix(np.array([[2, 0], [1, 3], [0, 4]]))
    >>> plan = SetPlan(0, 0, groups=np.array([1]), control=np.array([[0, 1]]), perturbed=np.array([[2, 2]]))
    >>> sets = read_sets(source, plan)
    >>> sets.shape, sets.library_size.tolist()
    ((1, 2), [[[2.0, 4.0]], [[4.0, 4.0]]])
    >>> sets.dense_counts()[0].tolist()
    [[[2.0, 0.0], [1.0, 3.0]]]
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    library_size: Tensor
    groups: Tensor
    positions: Tensor
    n_genes: int
    epoch: int = 0
    step: int = 0
    embedding: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of sets and of cells in a set, ``(S, N)``."""
        return self.library_size.shape[1], self.library_size.shape[2]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def device(self) -> torch.device:
        """The device of the counts."""
        return self.values.device

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CellSets:
        """Return the batch on another device, still sparse."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> CellSets:
        """Return the batch in page-locked memory, from which a GPU can fetch while it computes."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> CellSets:
        names = ("indptr", "indices", "values", "library_size", "groups", "embedding")
        tensors = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in tensors.items() if tensor is not None}
        return replace(self, **changed)

    def dense_counts(self) -> tuple[Tensor, Tensor]:
        """Return the raw counts of controls and of perturbed cells, each ``(S, N, G)`` float32."""
        return self._pair(_densify(self.indptr, self.indices, self.values, self.n_genes))

    def dense_log1p(self, scale_factor: float = _keys.SCALE_FACTOR) -> tuple[Tensor, Tensor]:
        """Return ``log(1 + counts / library_size * scale_factor)``, controls and perturbed, ``(S, N, G)`` float32.

        The logarithm is taken of the stored values only, on the device of the batch.
        """
        values = _log1p(self.indptr, self.values, scale_factor / self.library_size.reshape(-1))
        return self._pair(_densify(self.indptr, self.indices, values, self.n_genes))

    def dense_embedding(self) -> tuple[Tensor, Tensor]:
        """Return the embedding of controls and of perturbed cells, each ``(S, N, d)``.

        Raises
        ------
        transpert.errors.OptionError
            If the source has no embedding.
        """
        if self.embedding is None:
            raise OptionError("the cells have no embedding", where="CellSets", remedy="Pass embedding= to the source.")
        return self.embedding[0], self.embedding[1]

    def _pair(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        both = rows.view(2, *self.shape, self.n_genes)
        return both[0], both[1]


def _log1p(indptr: Tensor, values: Tensor, factor: Tensor) -> Tensor:
    """Return ``log(1 + values * factor)`` with one factor a row."""
    if values.device.type == "cpu":  # NumPy's vectorised logarithm is some 40 times as fast as torch's on a CPU
        scaled = values.numpy() * np.repeat(factor.numpy(), np.diff(indptr.numpy()))
        return torch.from_numpy(np.log1p(scaled, out=scaled))
    return torch.log1p(values * torch.repeat_interleave(factor, indptr.diff(), output_size=values.numel()))


def _densify(indptr: Tensor, indices: Tensor, values: Tensor, n_columns: int) -> Tensor:
    """Return the dense rows of a CSR matrix, on the device of the values."""
    n_rows = indptr.numel() - 1
    if values.device.type == "cpu":
        shape = (n_rows, n_columns)
        return torch.from_numpy(sparse.csr_array((values.numpy(), indices.numpy(), indptr.numpy()), shape).toarray())
    return _scatter_rows(indptr, indices, values, n_columns)


def _scatter_rows(indptr: Tensor, indices: Tensor, values: Tensor, n_columns: int) -> Tensor:
    n_rows = indptr.numel() - 1
    starts = torch.arange(n_rows, device=values.device) * n_columns
    # naming output_size spares the wait for the device to count the values
    flat = torch.repeat_interleave(starts, indptr.diff(), output_size=values.numel()) + indices
    # no two values share a place, so the result does not depend on the order of the writes
    dense = torch.zeros(n_rows * n_columns, dtype=values.dtype, device=values.device)
    return dense.scatter_(0, flat, values).view(n_rows, n_columns)


@as_annotated()
def read_sets(source: CellSource, plan: SetPlan) -> CellSets:
    """Read the cells of a plan.

    Parameters
    ----------
    source
        Where the cells are.
    plan
        Which cells.

    Returns
    -------
    The sets on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.data import MemorySource, SetPlan, read_sets
    >>> source = MemorySource.from_matrix(np.array([[2, 0], [1, 3], [0, 4]]))
    >>> plan = SetPlan(0, 0, groups=np.array([1]), control=np.array([[1]]), perturbed=np.array([[2]]))
    >>> [counts.tolist() for counts in read_sets(source, plan).dense_counts()]
    [[[[1.0, 3.0]]], [[[0.0, 4.0]]]]
    """
    return next(read_plans(source, [plan]))


def read_plans(source: CellSource, plans: Sequence[SetPlan]) -> Iterator[CellSets]:
    """Read the cells of several plans at once, and yield the sets of each.

    A source on disk answers one large request sooner than several small ones.
    """
    positions = np.concatenate([plan.positions for plan in plans])
    counts = source.read(positions)
    library_size = source.library_size[positions].astype(np.float32)
    embedding = None if source.embedding is None else np.asarray(source.embedding[positions], dtype=np.float32)
    indices, values = counts.indices.astype(np.int32, copy=False), counts.data.astype(np.float32, copy=False)
    start = 0
    for plan in plans:
        stop = start + 2 * plan.control.size
        shape = (2, *plan.control.shape)
        first, last = counts.indptr[start], counts.indptr[stop]
        yield CellSets(
            indptr=torch.from_numpy((counts.indptr[start : stop + 1] - first).astype(np.int32, copy=False)),
            indices=torch.from_numpy(indices[first:last]),
            values=torch.from_numpy(values[first:last]),
            library_size=torch.from_numpy(library_size[start:stop]).view(shape),
            groups=torch.from_numpy(plan.groups),
            positions=torch.from_numpy(positions[start:stop]).view(shape),
            n_genes=source.n_vars,
            epoch=plan.epoch,
            step=plan.step,
            embedding=None if embedding is None else torch.from_numpy(embedding[start:stop]).view(*shape, -1),
        )
        start = stop


class DeviceCells:
    """All cells on one device, still sparse, so that a batch needs no transfer.

    Parameters
    ----------
    source
        Where the cells are; read once, or twice if it does not say in ``nnz`` how many counts it has.
    device
        Where they go.
    rows_per_read
        Cells read at a time.

    Notes
    -----
    The counts are written block by block into tensors of their final size: the host holds one block, and the device
    holds nothing twice.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.data import DeviceCells, MemorySource, SetPlan
    >>> cells = DeviceCells(MemorySource.from_matrix(np.array([[2, 0], [1, 3], [0, 4]])), "cpu")
    >>> plan = SetPlan(0, 0, groups=np.array([1]), control=np.array([[0]]), perturbed=np.array([[2]]))
    >>> control, perturbed = cells.read_sets(plan).dense_counts()
    >>> control.tolist(), perturbed.tolist()
    ([[[2.0, 0.0]]], [[[0.0, 4.0]]])
    """

    def __init__(self, source: CellSource, device: torch.device | str, *, rows_per_read: int = 65_536) -> None:
        self.device, self.n_genes = torch.device(device), source.n_vars
        starts = range(0, source.n_obs, rows_per_read)
        blocks = [np.arange(start, min(start + rows_per_read, source.n_obs)) for start in starts]
        nnz = getattr(source, "nnz", None)
        if nnz is None:
            nnz = sum(source.read(block).nnz for block in blocks)
        self._indices = torch.empty(nnz, dtype=torch.int32, device=self.device)
        self._values = torch.empty(nnz, dtype=torch.float32, device=self.device)
        row_ends = np.zeros(source.n_obs + 1, dtype=np.int64)
        filled = 0
        for block in blocks:
            # nothing of a block is kept here, so that it is gone before the next one is read
            filled = self._fill(source.read(block), filled, row_ends[block[0] + 1 : block[-1] + 2])
        self._indptr = self._put(row_ends)
        self._library_size = self._put(source.library_size.astype(np.float32))
        self._embedding = None if source.embedding is None else self._put(source.embedding.astype(np.float32))

    def _fill(self, counts: sparse.csr_matrix, filled: int, row_ends: np.ndarray) -> int:
        """Append the counts of a block, and return how many there are then."""
        end = filled + counts.nnz
        row_ends[:] = filled + counts.indptr[1:].astype(np.int64)
        self._indices[filled:end].copy_(torch.from_numpy(counts.indices.astype(np.int32, copy=False)))
        self._values[filled:end].copy_(torch.from_numpy(counts.data.astype(np.float32, copy=False)))
        return end

    @staticmethod
    def bytes_needed(source: CellSource, *, sample: int = 4096) -> int:
        """Estimate the bytes that the cells take on a device, from evenly spaced cells."""
        positions = np.unique(np.linspace(0, source.n_obs - 1, min(sample, source.n_obs)).astype(np.int64))
        width = 0 if source.embedding is None else 4 * source.embedding.shape[1]
        return int(source.n_obs * (8 * source.read(positions).nnz / len(positions) + 12 + width))

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def read_sets(self, plan: SetPlan) -> CellSets:
        """Gather the cells of a plan on the device."""
        positions = torch.from_numpy(plan.positions)
        shape = (2, *plan.control.shape)
        rows = positions.to(self.device, non_blocking=True)
        lengths = self._indptr[rows + 1] - self._indptr[rows]
        indptr = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        # the one wait for the device: how many values there are
        shift = torch.repeat_interleave(self._indptr[rows] - indptr[:-1], lengths, output_size=int(indptr[-1]))
        taken = shift + torch.arange(shift.numel(), device=self.device)
        embedding = None if self._embedding is None else self._embedding[rows].view(*shape, -1)
        return CellSets(
            indptr=indptr,
            indices=self._indices[taken],
            values=self._values[taken],
            library_size=self._library_size[rows].view(shape),
            groups=torch.from_numpy(plan.groups).to(self.device, non_blocking=True),
            positions=positions.view(shape),
            n_genes=self.n_genes,
            epoch=plan.epoch,
            step=plan.step,
            embedding=embedding,
        )
