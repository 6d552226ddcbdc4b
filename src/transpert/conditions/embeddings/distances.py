"""How far vectors are from known ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree


def nearest_distances(values: np.ndarray, known: np.ndarray, new: np.ndarray, blocks: Sequence[int]) -> list[float]:
    """Return the distance of each new vector to the nearest known one, in units of those between known ones."""
    vectors = known.astype(np.float64)
    # one name has no neighbours among the known: those of the whole table say what is far
    measure = vectors if len(known) > 1 else values.astype(np.float64)
    starts = [0, *np.cumsum(blocks)[:-1].tolist()]
    scale = np.sqrt(np.maximum(np.add.reduceat(measure.var(axis=0), starts), 1e-12))
    scale = np.repeat(scale, blocks)
    nearest = KDTree(vectors / scale).query(new / scale)[0]
    between = KDTree(measure / scale).query(measure / scale, k=2)[0][:, 1]
    return (nearest / max(float(np.median(between)), 1e-12)).tolist()
