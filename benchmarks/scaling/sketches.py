"""Share of a rare type in sketches over its share in all cells: ``python -m benchmarks.scaling.sketches KANG.h5ad``.

A cell type is thinned to 1 % of the cells, and a sketch of 5 % of all cells is drawn in 20 principal components.
"""

from __future__ import annotations

import sys

import anndata
import numpy as np
from sklearn.decomposition import TruncatedSVD

import transpert as tp
from transpert.scaling import sketch_order

RARE, SKETCH, SEEDS = 0.01, 0.05, 5


def times_random(points: np.ndarray, types: np.ndarray, rare: str, seed: int) -> float:
    """Share of a thinned type in a sketch, over its share in all cells."""
    rng = np.random.default_rng(seed)
    others = np.flatnonzero(types != rare)
    few = rng.permutation(np.flatnonzero(types == rare))[: round(RARE / (1 - RARE) * len(others))]
    rows = np.concatenate([others, few])
    order = sketch_order(points[rows], rng)[: round(SKETCH * len(rows))]
    own = types[rows] == rare
    return float(own[order].mean() / own.mean())


def main(path: str) -> None:
    adata = anndata.read_h5ad(path)
    values = tp.pp.log1p_per_10k(adata.X, adata.obs["n_counts_total"].to_numpy(dtype=float))
    points = TruncatedSVD(20, random_state=0).fit_transform(values)
    types = adata.obs["cell_type"].astype(str).to_numpy()
    for rare in np.unique(types):
        if (types == rare).mean() > RARE:
            found = [times_random(points, types, rare, seed) for seed in range(SEEDS)]
            print(f"{rare}: {np.mean(found):.1f} times its random share ({np.min(found):.1f} to {np.max(found):.1f})")
    rng = np.random.default_rng(0)
    apart = np.where(np.arange(4_000) < 400, "rare", "common")
    for distance in (2.0, 4.0, 6.0):
        points = rng.normal(size=(4_000, 10)) + np.where(apart[:, None] == "rare", distance, 0.0)
        found = [times_random(points, apart, "rare", seed) for seed in range(SEEDS)]
        print(f"simulated, {distance:g} standard deviations apart in 10 dimensions: {np.mean(found):.1f} times")


if __name__ == "__main__":
    main(sys.argv[1])
