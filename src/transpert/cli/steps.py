"""The commands of a whole job, ``init`` to ``report``, ``run`` for all of them, and those that use a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transpert.cli._console import named_errors, read_h5ad, write_file
from transpert.cli.settings import read_settings, written
from transpert.errors import MetricInputError, OptionError

if TYPE_CHECKING:
    from transpert.tl import ScalingStudy

_File = Annotated[Path, typer.Argument(help="The settings, TOML; transpert init writes them.", exists=True)]
_Changes = Annotated[
    list[str] | None, typer.Option("--set", help="SECTION.NAME=VALUE, in place of that of the file; may be repeated.")
]
_JOB = "A whole job from one file"
_FEWEST_SIZES = 4  # that a curve is fitted to
_TOO_FEW = f"A curve needs at least {_FEWEST_SIZES} sizes; the scores are written."


def init(
    cells: Annotated[Path, typer.Argument(help="Cells with raw counts, h5ad.", exists=True)],
    out: Annotated[Path, typer.Option(help="Where to write the settings.")] = Path("transpert.toml"),
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
) -> None:
    """Look at a file with cells, and write commented settings for a whole job."""
    from transpert.cli.first_look import look

    with named_errors():

        def check() -> None:
            if out.exists() and not overwrite:
                what, remedy = "the file exists already", "Pass --overwrite, or another --out."
                raise OptionError(what, where=str(out), remedy=remedy)

        check()
        text = written(*look(cells))
        write_file(out, lambda new: new.write_text(text, encoding="utf-8"), check=check)
        typer.echo(f"Written to {out}. Check what is marked as a guess, then: transpert run {out}")


def split(file: _File, changes: _Changes = None) -> None:
    """Normalise the cells, hold some out, and print what leaks."""
    from transpert.cli import job

    with named_errors():
        settings = read_settings(file, changes or ())
        with job.alone(settings):
            adata = job.split(settings)
        typer.echo(adata.obs["split"].value_counts().to_string())
        typer.echo(adata.uns["split"]["leakage"].to_string(index=False))


def train(file: _File, changes: _Changes = None) -> None:
    """Train SCALE on the cells that are not held out."""
    from transpert.cli import job

    with named_errors():
        settings = read_settings(file, changes or ())
        from transpert.model.processes import check_accelerator

        check_accelerator(settings.train.accelerator)
        with job.alone(settings):
            summary = job.train(settings)
        if job.is_first():
            typer.echo(summary)


def predict(file: _File, changes: _Changes = None) -> None:
    """Predict the populations that the file names, by default those that were held out."""
    from transpert.cli import job

    with named_errors():
        settings = read_settings(file, changes or ())
        with job.alone(settings):
            pred = job.predict(settings)
        typer.echo(f"{pred.n_obs:,} cells x {pred.n_vars:,} genes predicted.")


def report(
    pred: Annotated[Path, typer.Argument(help="The settings, TOML; or predicted cells, h5ad.", exists=True)],
    truth: Annotated[Path | None, typer.Argument(help="Real cells, h5ad, beside predicted cells.", exists=True)] = None,
    out: Annotated[Path, typer.Option(help="Where to write the page of two files.")] = Path("report.html"),
    changes: _Changes = None,
) -> None:
    """Write one page about a prediction: what was asked, scores, pictures, versions."""
    from transpert import pl
    from transpert.cli import job

    with named_errors():
        if truth is not None:
            page = pl.report(read_h5ad(pred), read_h5ad(truth), out, command=_command())
        elif pred.suffix == ".toml":
            settings = read_settings(pred, changes or ())
            with job.alone(settings):
                page = job.report(settings, _command())
        else:
            raise OptionError("the real cells are missing", where="report", remedy="Name them after the prediction.")
        typer.echo(f"Written to {page}.")


def run(file: _File, changes: _Changes = None) -> None:
    """Do all of it: split, train, predict, evaluate, report."""
    from transpert import tl
    from transpert.cli import job

    with named_errors():
        settings = read_settings(file, changes or ())
        from transpert.model.processes import check_accelerator

        check_accelerator(settings.train.accelerator)
        with job.alone(settings):
            job.split(settings)
            typer.echo(job.train(settings))
            job.predict(settings)
            typer.echo(tl.score_table(job.evaluate(settings)).round(3).to_string())
            typer.echo(f"Written to {job.report(settings, _command())}.")


def rank(file: _File, changes: _Changes = None) -> None:
    """Rank perturbations by a signature, a target population or a set of genes, as [rank] says."""
    from transpert.cli import job

    with named_errors():
        settings = read_settings(file, changes or ())
        with job.alone(settings):
            typer.echo(job.rank(settings).head(20).round(3).to_string(index=False))
        typer.echo(f"Written to {Path(settings.output.folder) / job.RANKING}.")


def scaling(file: _File, changes: _Changes = None) -> None:
    """Train models on parts of the cells, and say where more stops helping, as [scaling] says."""
    from transpert.cli import job

    with named_errors():
        settings = read_settings(file, changes or ())
        with job.alone(settings):
            study = job.scaling(settings)
        sizes = study.table[f"n_{study.axes[0]}"].nunique()
        typer.echo(_saturation(study) if sizes >= _FEWEST_SIZES else _TOO_FEW)
        typer.echo(f"Written to {settings.output.folder}: scaling.csv and scaling.png.")


def _saturation(study: ScalingStudy) -> str:
    """Say where more stops helping, or why scores do not say it; they are written all the same."""
    try:
        return study.saturation().round(3).to_string(index=False)
    except MetricInputError as error:
        return str(error)


def _command() -> str:
    """Return the command line as it was typed."""
    return " ".join(["transpert", *sys.argv[1:]])


def add_steps(app: typer.Typer) -> None:
    """Add the commands of a whole job."""
    for step in (init, run, split, train, predict, report, rank, scaling):
        app.command(rich_help_panel=_JOB)(step)
