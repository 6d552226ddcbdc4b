"""The most variable genes, which networks read and write in place of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from transpert.transport import PooledStatistics


@dataclass(frozen=True, slots=True, eq=False)
class GeneSelection:
    """Some of all genes.

    Parameters
    ----------
    positions : (K,)
        Where they are, ascending.
    n_genes
        How many there are in all.
    """

    positions: np.ndarray
    n_genes: int

    def __post_init__(self) -> None:
        positions = self.positions
        if positions.dtype.kind not in "iu" or positions.min() < 0 or positions.max() >= self.n_genes:
            raise ValueError(f"there are {self.n_genes} genes, and others are selected")

    @classmethod
    def most_variable(cls, statistics: PooledStatistics, n_top: int) -> Self:
        """Choose the genes whose log1p values differ most among the training cells, whatever was done to these."""
        _, spread = statistics.mean_and_spread()
        return cls(np.sort(np.argsort(-spread, kind="stable")[:n_top]), len(spread))

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the selected of values of all genes ``(..., G)``."""
        return values[..., self.positions]

    def put_back(self, values: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return values ``(..., K)`` among those of the other genes, which are taken from ``(..., G)``."""
        full = np.broadcast_to(others, (*values.shape[:-1], self.n_genes)).astype(values.dtype)
        full[..., self.positions] = values
        return full
