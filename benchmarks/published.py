"""Published correlations of shifts for Kang et al. (2018), one of eight cell types held out, beside ours.

    python benchmarks/published.py KANG.h5ad [--scale] [--out TABLE.md]

Correlation: Pearson, over genes, of the mean shift in log1p counts per 10k that was predicted and that was measured,
both from the controls of the held-out type. The published values are those of scPerturBench for the same experiment.
What differs: their cells and labels are those of another release (their `T` is not told apart further; ours are the
annotation of Seurat, whose naive and memory CD4 cells, and resting and activated B cells, are pooled here), their genes
are their own selection, and a prediction of theirs is averaged over as many cells as they predict.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from leave_one_out import prepare
from markdown_table import markdown_table

import transpert as tp

TYPES = {
    "B": ("B", "B Activated"), "CD14": ("CD14 Mono",), "CD16": ("CD16 Mono",),
    "CD4": ("CD4 Naive T", "CD4 Memory T"), "CD8": ("CD8 T",), "DC": ("DC",), "NK": ("NK",), "T": ("T activated",),
}  # fmt: skip
PUBLISHED = pd.DataFrame(
    {"trVAE": {"CD14": 0.975, "CD16": 0.972, "CD4": 0.953, "CD8": 0.946, "DC": 0.881, "NK": 0.924, "T": 0.808,
               "B": 0.827, "mean": 0.911}, "inVAE": {"mean": 0.910}, "scGen": {"mean": 0.870},
     "CellOT": {"mean": 0.856}}
)  # fmt: skip
BASELINES = (tp.MeanShift, tp.MeanFoldChange, tp.KernelTransport)


def shift(cells: anndata.AnnData, treated: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return the mean of some cells less that of others, ``(G,)``."""
    one, zero = (np.asarray(cells.X[rows].mean(axis=0)).ravel() for rows in (treated, control))
    return one - zero


def correlations(adata: anndata.AnnData, held_out: str, kinds: tuple[type, ...], library: str) -> dict[str, float]:
    """Hold out a type, and return the correlation of every model."""
    data = prepare(adata, held_out, library, adata.n_vars)
    here = (data.obs["cell_type"] == held_out).to_numpy()
    control = (data.obs["perturbation"] == "control").to_numpy()
    measured = shift(data, here & ~control, here & control)
    found = {}
    for kind in kinds:
        kind.setup_anndata(
            data, perturbation_key="perturbation", context_keys="cell_type", split_key="split", layer="counts",
            library_size_key=library,
        )  # fmt: skip
        model = kind(data)
        model.train(**({"enable_progress_bar": False} if kind is tp.SCALE else {}))
        pred = model.predict(held_out, n_cells=1000, progress=False)
        predicted = (pred.obs["source"] == "predicted").to_numpy()
        found[kind.__name__] = float(np.corrcoef(shift(pred, predicted, ~predicted), measured)[0, 1])
        model.deregister_manager(data)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scale", action="store_true", help="train SCALE too")
    parser.add_argument("--library", default="n_counts_total", help="column of obs with library sizes")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    adata = anndata.read_h5ad(arguments.data)
    pooled = {name: group for group, names in TYPES.items() for name in names}
    adata = adata[adata.obs["cell_type"].isin(list(pooled))].copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).map(pooled)
    kinds = (*BASELINES, tp.SCALE) if arguments.scale else BASELINES
    rows = {}
    for cell_type in TYPES:
        rows[cell_type] = correlations(adata, cell_type, kinds, arguments.library)
        print(cell_type, rows[cell_type], file=sys.stderr, flush=True)
    ours = pd.DataFrame(rows).T
    ours.loc["mean"] = ours.mean()
    table = PUBLISHED.reindex(ours.index).join(ours).rename_axis("held out")
    size = f"{adata.n_obs:,} cells, {adata.n_vars:,} genes"
    note = f"{date.today()}, transpert {version('transpert')}, {size}, `python benchmarks/published.py`"
    text = "\n".join([*markdown_table(table), "", note, ""])
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
