"""Where the cells of a set are read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from transpert._counts import check_library_sizes, library_sizes
from transpert._matrices import canonical
from transpert.errors import CountsError, OptionError


def chosen_positions(cells: ArrayLike, n_obs: int, *, where: str) -> np.ndarray:
    """Return the positions that a mask or a list of positions chooses."""
    try:
        chosen = np.asarray(cells) if not hasattr(cells, "obs") else np.array(None)
    except ValueError:  # rows of different lengths
        chosen = np.array(None)
    if chosen.ndim != 1:
        raise OptionError(f"cells are chosen by an array of shape {chosen.shape}", where=where, remedy="Give one axis.")
    if chosen.dtype.kind == "b":
        if len(chosen) != n_obs:
            raise OptionError(
                f"the mask has {len(chosen)} entries for {n_obs} cells", where=where, remedy="Give one for each cell."
            )
        return np.flatnonzero(chosen)
    if not chosen.size:  # an empty list is an array of floats
        return np.zeros(0, dtype=np.int64)
    if chosen.dtype.kind not in "iu":
        raise OptionError(
            f"positions of cells are of type {chosen.dtype}", where=where, remedy="Give whole numbers, or a mask."
        )
    outside = int(np.count_nonzero((chosen < 0) | (chosen >= n_obs)))
    if outside:
        raise OptionError(
            f"{outside} of {len(chosen)} positions are not those of cells",
            where=where,
            remedy=f"The cells are counted from 0 to {n_obs - 1}.",
        )
    return chosen.astype(np.int64, copy=False)


@runtime_checkable
class CellSource(Protocol):
    """Cells that can be read by position.

    Attributes
    ----------
    n_obs, n_vars
        Number of cells and genes.
    library_size : (n_obs,)
        Total counts of each cell over all measured genes.
    embedding : (n_obs, d)
        A dense embedding of the cells, or ``None``.
    cells_per_read
        How many cells are best asked for at once; 1 where it makes no difference.
    fingerprint
        Changes when the cells change; saved with checkpoints.
    """

    @property
    def n_obs(self) -> int: ...  # noqa: D102

    @property
    def n_vars(self) -> int: ...  # noqa: D102

    @property
    def library_size(self) -> np.ndarray: ...  # noqa: D102

    @property
    def embedding(self) -> np.ndarray | None: ...  # noqa: D102

    @property
    def cells_per_read(self) -> int: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def read(self, positions: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of the cells at ``positions``, in that order, as CSR ``(len(positions), G)``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MemorySource:
    """Cells held in memory.

    Parameters
    ----------
    counts : (n_obs, n_vars)
        Raw counts, CSR.
    library_size : (n_obs,)
        Total counts of each cell over all measured genes.
    embedding : (n_obs, d)
        A dense embedding of the cells, such as ``obsm["X_pca"]``.

    Raises
    ------
    transpert.errors.CountsError
        If the arrays differ in their number of cells, or a library size is not above 0, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from transpert.data import MemorySource
    >>> source = MemorySource(sparse.csr_matrix(np.eye(3)), np.ones(3))
    >>> source.read(np.array([2, 0])).toarray().tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """

    counts: sparse.csr_matrix
    library_size: np.ndarray
    embedding: np.ndarray | None = None

    def __post_init__(self) -> None:
        counts = sparse.csr_matrix(canonical(self.counts, where="counts"), dtype=np.float32)
        # scipy copies all indices at every read where row starts and indices differ in type, as they do in many files
        index_type = np.int32 if max(counts.nnz, counts.shape[1]) <= np.iinfo(np.int32).max else np.int64
        counts.indices, counts.indptr = counts.indices.astype(index_type), counts.indptr.astype(index_type)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "library_size", np.asarray(self.library_size, dtype=np.float64))
        for name, array in (("library_size", self.library_size), ("embedding", self.embedding)):
            if array is not None and len(array) != counts.shape[0]:
                raise CountsError(
                    f"{name} has {len(array)} cells but the counts have {counts.shape[0]}",
                    where=name,
                    remedy="Give one row for each cell.",
                )
        check_library_sizes(np.asarray(self.library_size), where="library_size")

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.counts.shape[0]

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return self.counts.shape[1]

    @property
    def nnz(self) -> int:
        """Number of stored counts."""
        return int(self.counts.nnz)

    @property
    def cells_per_read(self) -> int:
        """One, since memory answers small requests as well as large ones."""
        return 1

    @property
    def fingerprint(self) -> str:
        """Size and sum of the counts, which are cheap, and differ for other data."""
        return f"memory-{self.n_obs}x{self.n_vars}-{self.counts.nnz}-{self.counts.data.sum(dtype=np.float64):.0f}"

    def read(self, positions: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of the cells at ``positions``, in that order, CSR float32."""
        return self.counts[positions]

    @classmethod
    def from_matrix(cls, counts: np.ndarray | sparse.spmatrix) -> Self:
        """Make a source from counts of all measured genes, whose sum is the library size."""
        matrix = sparse.csr_matrix(canonical(counts, where="counts"))
        return cls(matrix, library_sizes(matrix))
