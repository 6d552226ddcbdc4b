"""The same verbs from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Transport of cell populations under perturbation.", no_args_is_help=True, add_completion=False)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("quickstart"),
    cell_type: Annotated[str, typer.Option(help="Cell type whose stimulated cells are held out.")] = "CD14 Mono",
    preset: Annotated[str, typer.Option(help="Preset of SCALE.")] = "small",
    steps: Annotated[int | None, typer.Option(help="Training steps, in place of the preset's.")] = None,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Train on embedded real cells, predict an unseen cell type, and show how good the prediction is."""
    # heavy imports wait until a command needs them, so that --help is quick
    from transpert.quickstart import run_quickstart

    with _named_errors():
        run_quickstart(out, cell_type=cell_type, preset=preset, steps=steps, accelerator=accelerator, seed=seed)


@app.command()
def evaluate(
    pred: Annotated[Path, typer.Argument(help="Predicted cells, h5ad.", exists=True)],
    truth: Annotated[Path, typer.Argument(help="Real cells, h5ad.", exists=True)],
    perturbation_key: Annotated[str | None, typer.Option(help="Column with the perturbation.")] = None,
    control: Annotated[str | None, typer.Option(help="Label of control cells.")] = None,
    context_key: Annotated[list[str] | None, typer.Option(help="Column of the context; may be repeated.")] = None,
    metrics: Annotated[str, typer.Option(help="Panel of metrics.")] = "default",
    baselines: Annotated[str | None, typer.Option(help="'all', or names separated by commas.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the scores.")] = Path("scores.csv"),
) -> None:
    """Score a prediction against the truth."""
    import anndata

    from transpert import tl

    names = None if baselines is None else "all" if baselines == "all" else baselines.split(",")
    with _named_errors():
        table = tl.evaluate(
            anndata.read_h5ad(pred),
            anndata.read_h5ad(truth),
            perturbation_key=perturbation_key,
            control=control,
            context_keys=context_key,
            metrics=metrics,
            baselines=names,
        )
    table.to_csv(out, index=False)
    typer.echo(tl.score_table(table).round(3).to_string())
    typer.echo(f"Written to {out}.")


class _named_errors:
    """Print errors of transpert as one readable line, and leave with status 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from transpert.errors import TranspertError

        if isinstance(error, TranspertError):
            typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
            raise typer.Exit(1) from error
