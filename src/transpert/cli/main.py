"""The same verbs from a shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from transpert._files import versions
from transpert.cli._console import named_errors, read_h5ad, write_table
from transpert.cli._options import AllColumns, ConditionColumns, Files, Layers, Scoring, takes_options
from transpert.cli.export import export_app
from transpert.cli.settings import read_settings
from transpert.cli.steps import add_steps
from transpert.cli.store import store_app
from transpert.errors import OptionError, list_names

app = typer.Typer(help="Transport of cell populations under perturbation.", no_args_is_help=True)
add_steps(app)
app.add_typer(store_app, name="store")
app.add_typer(export_app, name="export")


def _print_version(asked: bool) -> None:
    """Print the version and stop."""
    from transpert import __version__

    if asked:
        typer.echo(f"transpert {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Predict what a population of cells becomes under a perturbation.

    Exit status: 0 when all went well, 1 when the data or the machine do not allow what was asked, 2 when the command
    itself is wrong.
    """


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
    from transpert.cli.quickstart import run_quickstart

    with named_errors():
        from transpert.model.processes import check_accelerator

        check_accelerator(accelerator)
        run_quickstart(out, cell_type=cell_type, preset=preset, steps=steps, accelerator=accelerator, seed=seed)


@app.command()
@takes_options
def evaluate(
    pred: Annotated[
        Path, typer.Argument(help="Predicted cells: h5ad, or a zarr folder; or settings, TOML.", exists=True)
    ],
    truth: Annotated[Path | None, typer.Argument(help="Real cells: h5ad, or a zarr folder.", exists=True)] = None,
    *,
    columns: ConditionColumns,
    metrics: Annotated[
        str, typer.Option(help="default, cell-eval, vcc2026, calibrated, all; or names separated by commas.")
    ] = "default",
    baselines: Annotated[str | None, typer.Option(help="'all', or names separated by commas.")] = None,
    ceiling: Annotated[bool, typer.Option(help="Score one half of the real cells against the other.")] = True,
    scoring: Scoring,
    layers: Layers,
    n_bootstrap: Annotated[int, typer.Option(help="Resamples of the perturbations; 0 for no intervals.")] = 1_000,
    workers: Annotated[int, typer.Option(help="Processes to score in; more than 1 needs the extra dask.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    files: Files,
) -> None:
    """Score a prediction against the truth."""
    from transpert import tl
    from transpert.cli import job

    if truth is None:
        with named_errors():
            if pred.suffix != ".toml":
                raise OptionError("the real cells are missing", where="evaluate", remedy="Name them second.")
            settings = read_settings(pred)
            with job.alone(settings):
                typer.echo(tl.score_table(job.evaluate(settings)).round(3).to_string())
        return
    names = None if baselines is None else "all" if baselines == "all" else baselines.split(",")
    chosen = [name.strip() for name in metrics.split(",")] if "," in metrics else metrics.strip()
    with named_errors(), _workers(workers) as client:
        for file in (files.out, files.audit):
            _check_folder(file)
        options = tl.EvaluationOptions(**vars(scoring), client=client)
        shared: dict[str, Any] = {"design": columns.design_of(pred, layers.layer), "layer": layers.layer}
        asked: dict[str, Any] = {"metrics": chosen, "n_bootstrap": n_bootstrap, "options": options, "seed": seed}
        table = tl.evaluate(
            pred,
            truth,
            **shared,
            **asked,
            baselines=names,
            ceiling=ceiling,
            counts_layer=layers.counts_layer,
            library_size_key=layers.library_size_key,
        )
        write_table(files.out, table)
        typer.echo(tl.score_table(table).round(3).to_string())
        typer.echo(f"Written to {files.out}.")
        if files.audit is not None:
            write_table(files.audit, tl.audit(pred, truth, **shared, **asked))
            typer.echo(f"Audit written to {files.audit}.")
        if files.cell_eval is not None:
            written = tl.to_cell_eval(pred, truth, files.cell_eval, **shared)
            typer.echo(f"For cell-eval: {written[0]} and {written[1]}.")


def _check_folder(file: Path | None) -> None:
    """Refuse a file that cannot be written, before there are results to lose."""
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise OptionError(
            f"{'this is a folder' if file.is_dir() else 'the folder does not exist'}, so nothing can be written there",
            where=str(file),
            remedy="Name a file in a folder that exists.",
        )


@contextmanager
def _workers(number: int) -> Iterator[Any]:
    """Processes to score in, or None."""
    if number <= 1:
        yield None
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        from transpert.errors import DependencyError

        raise DependencyError(
            "--workers needs dask", remedy="Install it with: pip install 'transpert[dask]'."
        ) from error
    with LocalCluster(n_workers=number, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as c:
        yield c


@app.command()
@takes_options
def profile(
    cells: Annotated[Path, typer.Argument(help="A store, or an h5ad file with raw counts.", exists=True)],
    preset: Annotated[str, typer.Option(help="Preset of SCALE.")] = "small",
    steps: Annotated[int, typer.Option(help="Steps to time.")] = 30,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto.")] = "auto",
    *,
    columns: AllColumns,
    layer: Annotated[str | None, typer.Option(help="Layer with raw counts; X by default (h5ad).")] = None,
) -> None:
    """Say where a training on these cells spends its time, and what to change; a store names its columns itself."""
    from transpert.model import SCALE, profile_training

    with named_errors():
        from transpert.model.processes import check_accelerator

        check_accelerator(accelerator)
        if cells.is_dir():
            model = SCALE(_set_up_store(cells, columns, layer), preset=preset)
        else:
            adata = read_h5ad(cells)
            SCALE.setup_anndata(adata, layer=layer, **columns.named())
            model = SCALE(adata, preset=preset)
        typer.echo(str(profile_training(model, n_steps=steps, accelerator=accelerator)))


def _set_up_store(path: Path, columns: AllColumns, layer: str | None) -> Any:
    """Register a store, which says itself what its columns mean."""
    from transpert.data import Store
    from transpert.model import SCALE

    store, split_key = Store(path), columns.split_key
    for_files = {name for name in columns.named() if name != "split_key"} - {"perturbation_key"}
    ignored = [f"--{name.removesuffix('s').replace('_', '-')}" for name in sorted(for_files)]
    ignored += [] if layer is None else ["--layer"]
    if ignored:
        raise OptionError(
            f"a store says itself what its columns mean, but there is {list_names(ignored, quote=False)}",
            where=str(path),
            remedy="Leave these options out.",
        )
    if split_key is not None:  # maybe a column that the design of the store does not name
        store.annotation.obs[split_key] = store.read_obs([split_key], names=False)[split_key].to_numpy()
    SCALE.setup_store(store, split_key=split_key)
    return store


@app.command()
def info() -> None:
    """Print the versions that a report of an error needs."""
    import platform

    import torch

    for name, version in versions("transpert", "scvi-tools", "anndata", "lightning", "torch").items():
        typer.echo(f"{name} {version}")
    typer.echo(f"Python {platform.python_version()} on {platform.platform()}")
    typer.echo(f"GPU: {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}")
