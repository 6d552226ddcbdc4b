"""What the commands of the shell share."""

from __future__ import annotations

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
