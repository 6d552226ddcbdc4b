"""The commands ``transpert export ...``: predictions as other tools take them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from transpert.cli._console import named_errors, read_h5ad
from transpert.cli._options import Columns, takes_options

export_app = typer.Typer(help="Predictions as other tools take them.", no_args_is_help=True)


@export_app.command()
@takes_options
def vcc(
    pred: Annotated[Path, typer.Argument(help="Predicted cells with raw counts: h5ad, or a zarr folder.", exists=True)],
    out: Annotated[Path, typer.Argument(help="The package to write, .vcc.")],
    *,
    genes: Annotated[Path, typer.Option(help="gene_names.csv of the challenge.", exists=True)],
    perturbations: Annotated[Path | None, typer.Option(help="pert_counts.csv of the challenge.", exists=True)] = None,
    contexts: Annotated[str, typer.Option(help="Contexts to be predicted, separated by commas.")] = "A,B,C",
    n_cells: Annotated[int, typer.Option(help="Cells of each target and context.")] = 400,
    columns: Columns,
    layer: Annotated[str | None, typer.Option(help="Layer with raw counts; counts where there is one.")] = None,
    unmeasured: Annotated[
        str, typer.Option(help="Genes that the prediction lacks: refuse, zero, or controls.")
    ] = "refuse",
    controls: Annotated[
        Path | None, typer.Option(help="Control cells, for --unmeasured controls.", exists=True)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a package that exists.")] = False,
) -> None:
    """Write a package of the Virtual Cell Challenge 2026, checked against each of its rules."""
    from transpert import tl

    with named_errors():
        package = tl.to_vcc(
            pred,
            out,
            genes=genes,
            perturbations=perturbations,
            contexts=[name.strip() for name in contexts.split(",")],
            n_cells=n_cells,
            design=columns.design_of(pred, layer),
            layer=layer,
            unmeasured=unmeasured,  # type: ignore[arg-type]  # to_vcc says which values there are
            controls=None if controls is None else read_h5ad(controls),
            seed=seed,
            overwrite=overwrite,
        )
        typer.echo(f"Written to {package}. Check it with vcc prep, and send it with vcc submit.")
