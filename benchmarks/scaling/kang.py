"""Where do we saturate on Kang? ``python -m benchmarks.scaling.kang KANG.h5ad OUT``; a killed study goes on.

Cells x schemes: three schemes, six sizes, three seeds, SCALE and three baselines; CD14 monocytes are never seen.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import anndata
import numpy as np

import transpert as tp
from transpert.groups import Design

MODELS = {
    "MeanShift": (tp.MeanShift, {}),
    "MeanFoldChange": (tp.MeanFoldChange, {}),
    "KernelTransport": (tp.KernelTransport, {}),
    "SCALE": (
        tp.SCALE,
        {"preset": "tiny", "training": tp.model.TrainingOptions(steps=100, steps_per_epoch=50)},
    ),
}
AXES = {"cells": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]}


def read(path: str, n_genes: int = 500, n_cells: int = 200) -> anndata.AnnData:
    """The most variable genes, and at most so many cells of each type and condition."""
    adata = anndata.read_h5ad(path)
    adata = adata[~adata.obs["cell_type"].isin(["Eryth", "pDC"])].copy()
    adata.obs["library_size"] = adata.obs["n_counts_total"].astype(float)
    adata.layers["counts"] = adata.X.copy()
    adata.X = tp.pp.log1p_per_10k(adata.X, adata.obs["library_size"].to_numpy())
    mean = np.asarray(adata.X.mean(axis=0)).ravel()
    spread = np.asarray(adata.X.multiply(adata.X).mean(axis=0)).ravel() - mean**2
    adata = adata[:, np.sort(np.argsort(-spread)[:n_genes])].copy()
    order = np.random.default_rng(0).permutation(adata.n_obs)
    turn = adata.obs.iloc[order].groupby(["cell_type", "perturbation"], observed=True).cumcount()
    adata = adata[np.sort(order[(turn < n_cells).to_numpy()])].copy()
    tp.pp.split(adata, holdout={"cell_type": ["CD14 Mono", "B", "CD8 T"]})
    return adata


def main(path: str, out: str) -> None:
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    study = tp.tl.scaling_study(
        read(path),
        Design("perturbation", "control", ("cell_type",), split_key="split"),
        models=MODELS,
        axes=AXES,
        schemes=["random", "reweighted", "sketch"],
        seeds=3,
        out=out,
        n_jobs=2,
        progress=False,
    )
    print(f"{time.perf_counter() - start:.0f} s, unfinished {study.unfinished}")
    study.table.to_csv(Path(out) / "table.csv", index=False)
    means = study.table.groupby(["metric", "model", "scheme", "cells"])["normalised"].mean().unstack()
    print(means.round(3).to_string())
    for metric in ("pearson_delta", "overlap_at_n"):
        print(metric, study.saturation(metric=metric).round(3).to_string(), sep="\n")
    print(study.subsets.groupby(["scheme", "cells"])[["n_cells", "shannon", "vendi"]].mean().round(2).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
