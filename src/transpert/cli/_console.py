"""What the commands of the shell share."""

from __future__ import annotations

from collections.abc import Iterator
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
        with writing(StoreError, None, "run the command again"):
            yield
    except TranspertError as error:
        # messages of other libraries inside ours may have several lines
        typer.secho(f"{type(error).__name__}: {' '.join(str(error).split())}", fg="red", err=True)
        raise typer.Exit(1) from error


def read_h5ad(path: Path) -> Any:
    """Read an AnnData file, or name it."""
    from transpert import _anndata
    from transpert.errors import StoreError

    return _anndata.read_h5ad(path, StoreError)
