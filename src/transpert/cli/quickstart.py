"""The quickstart: hold out one stimulated cell type, train, predict, score, draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import scanpy as sc
from anndata import AnnData
from rich.console import Console
from rich.table import Table

from transpert import datasets, pl, pp, tl
from transpert.cli._console import write_figure, write_file, write_table
from transpert.model import SCALE, TrainingOptions

_DECIMALS = {"pearson_delta": 3, "overlap_at_n": 3, "n_sig_ratio": 2, "direction_match": 3, "energy_distance": 2}
_HEADERS = {
    "pearson_delta": "PDCorr",
    "overlap_at_n": "DE overlap",
    "n_sig_ratio": "n sig",
    "direction_match": "direction",
    "energy_distance": "E-dist",
}


def run_quickstart(
    out: Path,
    *,
    cell_type: str = "CD14 Mono",
    preset: str = "small",
    steps: int | None = None,
    accelerator: str = "auto",
    seed: int = 0,
    console: Console | None = None,
) -> pd.DataFrame:
    """Predict a cell type that was never seen stimulated, and show how good the prediction is."""
    console = console or Console()
    start = time.perf_counter()
    adata = datasets.kang18()
    console.print(
        f"[bold]Kang et al. 2018[/]: {adata.n_obs:,} blood cells x {adata.n_vars:,} genes, control and interferon beta"
    )
    pp.split(adata, holdout={"cell_type": cell_type})
    out.mkdir(parents=True, exist_ok=True)  # now, and not when there are results to lose
    n_held_out = int((adata.obs["split"] == "test").sum())
    console.print(f"Held out: all {n_held_out} stimulated cells of [bold]{cell_type}[/]. Training SCALE on the rest.")
    SCALE.setup_anndata(
        adata,
        layer="counts",
        perturbation_key="perturbation",
        control="control",
        context_keys=["cell_type"],
        split_key="split",
    )
    training = None if steps is None else TrainingOptions(steps=steps)
    model = SCALE(adata, preset=preset, training=training, seed=seed)
    model.train(accelerator=accelerator)
    console.print(model.summary(), highlight=False)
    pred = model.predict(contexts={"cell_type": cell_type}, perturbations=["IFNB"], seed=seed)
    table = tl.evaluate(pred, adata, metrics=list(_DECIMALS), baselines="all", seed=seed)
    write_table(out / "scores.csv", table)
    tl.rank_genes_groups(pred)
    write_file(out / "prediction.h5ad", pred.write_h5ad)
    model.save(out / "model", overwrite=True)
    console.print("Drawing three pictures and a page ...")
    for name, draw in _pictures(pred, adata, cell_type).items():
        draw()
        write_figure(out / name)
    page = pl.report(pred, adata, out / "report.html", scores=table, command="transpert quickstart", seed=seed)
    console.print(_table(table, cell_type))
    console.print(
        "PDCorr, DE overlap, direction: higher is better. E-dist: lower is better.\n"
        "n sig is the number of genes predicted significant over the real number: 1 is best.\n"
        "The ceiling is one half of the real cells scored against the other.\n"
        f"{time.perf_counter() - start:.0f} s in all; results are in [bold]{out}[/], all on one page: [bold]{page}[/]."
    )
    return table


def _pictures(pred: AnnData, adata: AnnData, cell_type: str) -> dict[str, Callable[[], object]]:
    def umap() -> None:
        together = tl.embed_together(pred, adata, max_cells=1_000)
        colours = {"control": "#BBBBBB", "observed": "#0072B2", "predicted": "#D55E00"}
        sc.pl.umap(together, color="source", palette=colours, title=f"{cell_type}, interferon beta", show=False)

    def dotplot() -> None:
        sc.pl.rank_genes_groups_dotplot(pred, n_genes=12, standard_scale="var", dendrogram=False, show=False)

    def effects() -> None:
        truth = adata[adata.obs["cell_type"] == cell_type].copy()
        pl.effects_scatter(pred, truth, show=False)

    return {"umap.png": umap, "dotplot.png": dotplot, "effects.png": effects}


def _table(scores: pd.DataFrame, cell_type: str) -> Table:
    means = tl.score_table(scores).sort_values("pearson_delta", na_position="first")
    table = Table(title=f"{cell_type}, never seen stimulated")
    table.add_column("model", no_wrap=True)
    for metric in _DECIMALS:
        table.add_column(_HEADERS[metric], justify="right", no_wrap=True)
    for name, row in means.iterrows():
        values = ["-" if pd.isna(row[m]) else f"{row[m]:.{d}f}" for m, d in _DECIMALS.items()]
        table.add_row(str(name), *values, style={"SCALE": "bold green", "ceiling": "dim"}.get(str(name), ""))
    return table
