"""Train on everything: seconds and peak memory of ``model.train()`` on a whole data set.

    python benchmarks/training.py DATA.h5ad [--preset small] [--context cell_type] [--library n_counts_total]

DATA has raw counts in ``X`` and ``perturbation`` (control and others), a context and library sizes in ``obs``. Reading
and registering the data are not counted in the seconds, but are in the memory.
"""

from __future__ import annotations

import argparse
import logging
import platform
import resource
import sys
import time
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
from scipy import sparse

import transpert as tp


def main() -> None:
    """Train once, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--context", default="cell_type")
    parser.add_argument("--library", default="n_counts_total")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    adata = anndata.read_h5ad(arguments.data)
    adata.layers["counts"] = sparse.csr_matrix(adata.X, dtype=np.float32)
    adata.X = tp.pp.log1p_per_10k(adata.layers["counts"], adata.obs[arguments.library].to_numpy())
    tp.SCALE.setup_anndata(
        adata,
        perturbation_key="perturbation",
        context_keys=[arguments.context],
        layer="counts",
        library_size_key=arguments.library,
    )
    model = tp.SCALE(adata, preset=arguments.preset, seed=arguments.seed)
    start = time.perf_counter()
    model.train(enable_progress_bar=False)
    seconds = time.perf_counter() - start
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{date.today()}, {platform.machine()}, transpert {version('transpert')}, torch {version('torch')}: "
        f"{adata.n_obs:,} cells x {adata.n_vars:,} genes, preset {arguments.preset}, gate {model.gate:.2f}: "
        f"{seconds:.0f} s, peak memory {gigabytes:.2f} GB\npython {' '.join(sys.argv)}"
    )


if __name__ == "__main__":
    main()
