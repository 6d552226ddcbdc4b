"""What the commands of the shell share."""

from __future__ import annotations

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
