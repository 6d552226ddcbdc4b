"""Unseen cell type: every cell type of Kang et al. (2018) held out in turn; SCALE beside the baselines.

    python benchmarks/leave_one_out.py DATA.h5ad [--types B NK ...] [--out RESULTS.csv] [--page PAGE.md]

DATA has raw counts in ``X`` and ``perturbation`` (control, IFNB), ``cell_type`` and a column with library sizes in
``obs``. Genes are chosen on the training cells of each split; nothing is tuned on the held-out type. A type that is in
the results file already is not run again.
"""

from __future__ import annotations

import argparse
import logging
import platform
import sys
import time
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from markdown_table import markdown_table
from scipy import sparse

import transpert as tp

METRICS = ["pearson_delta", "overlap_at_n", "n_sig_ratio", "direction_match", "mse_delta", "energy_distance"]
BASELINES = ["MeanShift", "MeanFoldChange", "RidgeTransport", "KernelTransport"]


def larger_types(obs: pd.DataFrame, n: int = 10) -> list[str]:
    """The cell types with most cells in the smaller of the two conditions."""
    sizes = obs.groupby(["cell_type", "perturbation"], observed=True).size().unstack(fill_value=0).min(axis=1)
    return sorted(sizes.sort_values(ascending=False).index[:n])


def prepare(adata: anndata.AnnData, cell_type: str, library: str, n_genes: int) -> anndata.AnnData:
    """Hold out a type and keep the genes that vary most in what is left."""
    adata = adata.copy()
    adata.layers["counts"] = sparse.csr_matrix(adata.X, dtype=np.float32)
    adata.X = tp.pp.log1p_per_10k(adata.layers["counts"], adata.obs[library].to_numpy())
    tp.pp.split(adata, holdout={"cell_type": cell_type})
    train = adata[adata.obs["split"] == "train"].copy()
    sc.pp.highly_variable_genes(train, n_top_genes=n_genes)
    return adata[:, train.var["highly_variable"]].copy()


def run_type(adata: anndata.AnnData, cell_type: str, arguments: argparse.Namespace) -> pd.DataFrame:
    """Train and score every method with one type held out."""
    data = prepare(adata, cell_type, arguments.library, arguments.genes)
    setup = {
        "perturbation_key": "perturbation",
        "context_keys": ["cell_type"],
        "split_key": "split",
        "layer": "counts",
        "library_size_key": arguments.library,
    }
    tp.SCALE.setup_anndata(data, **setup)
    model = tp.SCALE(data, preset=arguments.preset, seed=arguments.seed)
    start = time.perf_counter()
    model.train(enable_progress_bar=False)
    seconds = time.perf_counter() - start
    # as many cells as were measured, so that tests on both have the same power
    n_cells = int((data.obs["split"] == "test").sum())
    pred = model.predict({"cell_type": cell_type}, n_cells=n_cells, seed=arguments.seed, progress=False)
    scores = tp.tl.evaluate(
        pred,
        data,
        metrics=METRICS,
        baselines=BASELINES,
        library_size_key=arguments.library,
        seed=arguments.seed,
        progress=False,
    )
    rows = scores[scores["context"] != "mean"][["model", "context", "metric", "value"]]
    table = rows.pivot(index=["context", "model"], columns="metric", values="value").reset_index()
    return table.assign(gate=model.gate, seconds=seconds, seed=arguments.seed)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--types", nargs="*", help="types to hold out; the ten larger ones by default")
    parser.add_argument("--library", default="n_counts_total", help="column with library sizes")
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/leave_one_out.csv"))
    parser.add_argument("--page", type=Path, help="also write the tables into this page")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    adata = anndata.read_h5ad(arguments.data)
    done = pd.read_csv(arguments.out) if arguments.out.exists() else pd.DataFrame(columns=["context"])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    types = arguments.types or larger_types(adata.obs)
    for cell_type in types:
        if cell_type in set(done["context"]):
            continue
        table = run_type(adata, cell_type, arguments)
        done = pd.concat([done, table], ignore_index=True) if len(done) else table
        done.to_csv(arguments.out, index=False)
        print(table.round(3).to_string(index=False), flush=True)
    done = done[done["context"].isin(types)]
    print(f"\n{date.today()}, {platform.machine()}, {', '.join(_versions())}\n{' '.join(['python', *sys.argv])}")
    print(done.pivot(index="context", columns="model", values="pearson_delta").round(3).to_string())
    print(done.groupby("model")[[*METRICS, "gate", "seconds"]].mean().round(3).to_string())
    if arguments.page is not None:
        arguments.page.write_text(page(done), encoding="utf-8")


def page(done: pd.DataFrame) -> str:
    """Write the means and the table by cell type in Markdown."""
    shown = {"pearson_delta": "PDCorr", "overlap_at_n": "DE overlap", "n_sig_ratio": "n sig ratio"}
    shown |= {"energy_distance": "E-distance"}
    means = done.groupby("model")[list(shown)].mean().rename(columns=shown).sort_values("PDCorr")
    scale, anchor = (done[done["model"] == name].set_index("context") for name in ("SCALE", "KernelTransport"))
    columns = {}
    for metric, name in shown.items():
        columns[f"SCALE {name}"], columns[f"anchor {name}"] = scale[metric], anchor[metric]
    by_type = pd.DataFrame({**columns, "gate": scale["gate"]}).rename_axis("cell type")
    lines = [
        "# Unseen cell types",
        "",
        "Each of the larger cell types of Kang et al. (2018), 13,963 cells, held out in turn: its stimulated cells are",
        "never seen. 2,000 genes chosen on the training cells, library size over all genes, count read-out, as many",
        "predicted cells as were measured, for every method. One seed.",
        "",
        f"Measured on {date.today()} on 2 cores of {platform.machine()}, {', '.join(_versions())}, with",
        "`python benchmarks/leave_one_out.py DATA.h5ad`.",
        "",
        f"Means over {done['context'].nunique()} cell types:",
        "",
        *markdown_table(means.rename_axis("method")),
        "",
        "SCALE and the anchor alone (`KernelTransport`), with the gate, the weight of the networks:",
        "",
        *markdown_table(by_type),
        "",
    ]
    return "\n".join(lines)


def _versions() -> list[str]:
    return [f"{name} {version(name)}" for name in ("transpert", "scvi-tools", "anndata", "torch", "illico")]


if __name__ == "__main__":
    main()
