"""What the commands of the shell share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


@contextmanager
def named_errors() -> Iterator[None]:
    """Print errors of transpert, and of files and folders, as one readable line, and leave with status 1."""
    from transpert._files import writing
    from transpert.errors import StoreError, TranspertError

    try:
        with _plain_notes(), writing(StoreError, None, "repeat the command"):
            yield
    except TranspertError as error:
        # messages of other libraries inside ours may have several lines
        typer.secho(f"{type(error).__name__}: {' '.join(str(error).split())}", fg="red", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _plain_notes() -> Iterator[None]:
    """Print what is assumed as one line, once, without the place in a program that a shell does not show."""
    from transpert.errors import AssumptionWarning

    said: set[str] = set()
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, AssumptionWarning):
                before(message, category, *where, **more)
            elif str(message) not in said:
                said.add(str(message))
                typer.secho(f"Note: {' '.join(str(message).split())}", fg="yellow", err=True)

        warnings.showwarning = show
        yield


def read_h5ad(path: Path) -> Any:
    """Read an AnnData file, or name it."""
    from transpert import _anndata
    from transpert.errors import StoreError

    return _anndata.read_h5ad(path, StoreError)


def write_file(path: Path, write: Callable[[Path], Any], *, check: Callable[[], Any] = lambda: None) -> None:
    """Write a file that is there in full or not at all."""
    from transpert._folders import file_written
    from transpert.errors import StoreError

    with file_written(path, StoreError, "repeat the command", check=check) as new:
        write(new)


def write_table(path: Path, table: Any) -> None:
    """Write the rows of a table as CSV."""
    write_file(path, lambda new: table.to_csv(new, index=False))


def write_figure(path: Path) -> None:
    """Write the current figure, and close it."""
    import matplotlib.pyplot as plt

    write_file(path, lambda new: plt.savefig(new, dpi=150, bbox_inches="tight"))
    plt.close("all")
