"""The commands ``transpert store ...``: build a store, add to it, look into it, check it, take a part of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transpert.cli._console import named_errors
from transpert.cli._options import AllColumns, takes_options
from transpert.errors import OptionError, UnknownNameError, check_known

if TYPE_CHECKING:
    import numpy as np

    from transpert.data import Store

store_app = typer.Typer(help="Cells on disk, in the order in which training reads them.", no_args_is_help=True)

_StorePath = Annotated[Path, typer.Argument(help="Folder of the store.")]


@store_app.command()
@takes_options
def build(
    paths: Annotated[list[Path], typer.Argument(help="Files with cells (h5ad or zarr), and the store to make, last.")],
    *,
    columns: AllColumns,
    layer: Annotated[str | None, typer.Option(help="Layer with raw counts; X by default.")] = None,
    library_size_key: Annotated[str | None, typer.Option(help="Column with the total counts of a cell.")] = None,
    genes: Annotated[
        Path | None, typer.Option(help="File with the genes to keep, one name a line.", exists=True)
    ] = None,
    obs_column: Annotated[
        list[str] | None,
        typer.Option(help="Further column to keep; may be repeated. All that the files share by default."),
    ] = None,
    cells_per_part: Annotated[int | None, typer.Option(help="Cells of a part; bounds the memory by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the shuffling inside groups.")] = 0,
) -> None:
    """Write files into a store. The same command goes on where it was interrupted."""
    from transpert.data import build_store
    from transpert.groups import Design

    with named_errors():
        if len(paths) < 2:
            raise OptionError(
                "name at least one file with cells, and last the store to make",
                where="store build",
                remedy="For example: transpert store build a.h5ad b.h5ad cells.zarr.",
            )
        *files, out = paths
        store = build_store(
            files,
            out,
            Design(**columns.named()),
            layer=layer,
            genes=None if genes is None else _lines(genes),
            obs_columns=obs_column or None,
            library_size_key=library_size_key,
            cells_per_part=cells_per_part,
            seed=seed,
            progress=True,
        )
        typer.echo(_description(store))


@store_app.command()
def append(
    path: _StorePath,
    files: Annotated[list[Path], typer.Argument(help="Files with cells (h5ad or zarr).")],
    layer: Annotated[str | None, typer.Option(help="Layer with raw counts; X by default.")] = None,
    library_size_key: Annotated[
        str | None, typer.Option(help="Column with the total counts of a cell; as when the store was built by default.")
    ] = None,
    allow_repeated: Annotated[bool, typer.Option(help="Add cells that the store seems to have already.")] = False,
) -> None:
    """Add the cells of files to a store: all of them or none."""
    from transpert.data import Store

    with named_errors():
        store = Store(path)
        longer = store.append(
            files, layer=layer, library_size_key=library_size_key, allow_repeated=allow_repeated, progress=True
        )
        typer.echo(_description(longer))


@store_app.command()
def info(path: _StorePath) -> None:
    """Say what a store holds."""
    from transpert.data import Store

    with named_errors():
        typer.echo(_description(Store(path)))


@store_app.command()
def verify(path: _StorePath) -> None:
    """Compare every file of a store with its checksum."""
    from transpert.data import Store

    with named_errors():
        store = Store(path)
        store.verify()
        typer.echo(f"All {len(store.manifest.files)} files of {path} are as they were written.")


@store_app.command()
def subset(
    path: _StorePath,
    out: Annotated[Path, typer.Argument(help="The store to make.")],
    where: Annotated[
        list[str], typer.Option(help="COLUMN=VALUE or COLUMN=VALUE,VALUE; cells must fulfil all of them.")
    ],
    seed: Annotated[int, typer.Option(help="Seed of the shuffling inside groups.")] = 0,
) -> None:
    """Write some cells of a store into a store of their own. The same command goes on where it was interrupted."""
    from transpert.data import Store

    with named_errors():
        store = Store(path)
        typer.echo(_description(store.subset(_chosen(store, where), out, seed=seed, progress=True)))


def _lines(path: Path) -> list[str]:
    """The lines of a text file that hold something."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError("the file is no text", where=str(path), remedy="Write one name a line.") from error
    return [line.strip() for line in lines if line.strip()]


def _chosen(store: Store, conditions: list[str]) -> np.ndarray:
    """The cells that fulfil all conditions."""
    import numpy as np

    chosen = np.ones(store.n_obs, dtype=bool)
    for condition in conditions:
        column, equals, values = condition.partition("=")
        if not equals:
            raise OptionError(f"{condition!r} is no condition", where="--where", remedy="Write it as COLUMN=VALUE.")
        check_known("column", [column], store.obs_columns, where="--where")
        labels = store.read_obs([column], names=False)[column].astype(str)
        unknown = sorted(set(values.split(",")) - set(labels.unique()))
        if unknown:
            raise UnknownNameError("value", unknown, sorted(labels.unique()), where=f"obs[{column!r}]")
        chosen &= labels.isin(values.split(",")).to_numpy()
    if not chosen.any():
        raise OptionError("no cell fulfils all conditions", where="--where", remedy="Leave one of them out.")
    return chosen


def _description(store: Store) -> str:
    """Describe a store in a few lines."""
    manifest, design = store.manifest, store.design
    groups = manifest.groups
    n_bytes = sum(size for size, _ in manifest.files.values())
    n_counts = sum(part["nnz"] for part in manifest.parts)
    n_controls = sum(group["n_cells"] for group in groups if group["is_control"])
    contexts = ", ".join(design.context_keys) or "one"
    return "\n".join(
        [
            f"{store.path}: {store.n_obs:,} cells x {store.n_vars:,} genes",
            f"  perturbation: {design.perturbation_key}, control {design.named_controls} ({n_controls:,} cells)",
            f"  context: {contexts}; batch: {design.batch_key or 'none'}; "
            f"dose: {design.dose_key or 'none'}; time: {design.time_key or 'none'}",
            f"  {len({group['context'] for group in groups}):,} contexts, "
            f"{len({group['perturbation'] for group in groups if not group['is_control']}):,} perturbations, "
            f"{len(groups):,} groups",
            f"  {len(manifest.parts):,} parts, {n_bytes / 1e9:.3g} GB, {n_bytes / max(n_counts, 1):.2f} bytes a count",
            f"  from {', '.join(source['name'] for source in manifest.sources[:5])}"
            + (f" and {len(manifest.sources) - 5} more" if len(manifest.sources) > 5 else ""),
            f"  {store.fingerprint}",
        ]
    )
