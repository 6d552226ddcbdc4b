"""What the commands of the shell share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer


class named_errors:
    """Print errors of transpert, and of files and folders, as one readable line, and leave with status 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from transpert.errors import TranspertError

        if isinstance(error, TranspertError | OSError):
            # messages of other libraries inside ours may have several lines
            typer.secho(f"{type(error).__name__}: {' '.join(str(error).split())}", fg="red", err=True)
            raise typer.Exit(1) from error


def read_h5ad(path: Path) -> Any:
    """Read an AnnData file, or name it."""
    import anndata

    from transpert.errors import StoreError

    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise whatever they like
        raise StoreError(
            f"the file is no AnnData, or is damaged: {error}",
            where=str(path),
            remedy="Check the file. A store is a folder.",
        ) from error


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
