"""Add cells to a store: all of them or none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._folders import Unfinished, force_to_disk, remove, unfinished_work
from transpert.errors import StoreError, UnknownNameError, warn_user
from transpert.groups import Groups, make_groups

from ..readers.readers import IN_MEMORY, CountReader
from .build import GO_ON, PLAN, ROOT, Report, group_records, write_cells
from .build_input import BuildInput, read_input
from .contents import StoreContents
from .manifest import GENES, Manifest, Source
from .tables import Tables, concatenate


def append_cells(
    store: StoreContents,
    readers: Sequence[CountReader],
    *,
    library_size_key: str | None,
    allow_repeated: bool,
    report: Report,
) -> None:
    """Write cells behind those of a store; :meth:`transpert.data.Store.append` says what is refused."""
    with unfinished_work(store.path, "store", StoreError, GO_ON) as work:
        _check_current(store)  # under the lock: nobody else adds cells from here on
        cells = _read_more(store, readers, library_size_key)
        cells = _with_new_names(cells, store.tables, store.manifest, allow_repeated=allow_repeated)
        old = store.obs[list(store.design.columns)]
        joined = pd.DataFrame({name: concatenate([old[name], cells.obs[name]]) for name in old})
        everything = make_groups(joined, store.design)
        added = make_groups(joined, store.design, mask=np.arange(len(joined)) >= store.n_obs)
        manifest = write_cells(
            cells, store.design, work,
            seed=store.manifest.seed + len(store.manifest.obs_files), groups=_shifted(added, store.n_obs),
            first_part=len(store.manifest.parts), store=store.fingerprint, report=report,
        )  # fmt: skip
        _join_folders(store.path, work, manifest, _joint(store.manifest, manifest, everything))


def _check_current(store: StoreContents) -> None:
    """Refuse a store to which another process has added cells, which would be overwritten."""
    if Manifest.read(store.path).fingerprint != store.fingerprint:
        raise StoreError(
            "the store has changed since it was opened", where=str(store.path), remedy="Open it again: Store(path)."
        )


def _read_more(store: StoreContents, readers: Sequence[CountReader], library_size_key: str | None) -> BuildInput:
    """Read the annotation of the new cells, with the columns and genes of the store."""
    known = store.manifest.library_size_key
    if library_size_key is None and known is not None:
        for reader in readers:
            if known not in reader.obs_columns:
                raise UnknownNameError(
                    "column",
                    [known],
                    reader.obs_columns,
                    where=f"obs of {reader.name}",
                    remedy="It holds the library sizes of the cells that are there. Name another in library_size_key=.",
                )
    columns = [name for name in store.obs_columns if name != _keys.LIBRARY_SIZE]
    return read_input(
        readers,
        store.design,
        genes=list(store.genes),
        obs_columns=columns,
        library_size_key=known if library_size_key is None else library_size_key,
    )


def _with_new_names(cells: BuildInput, tables: Tables, manifest: Manifest, *, allow_repeated: bool) -> BuildInput:
    """Refuse cells that the store has, and give new cells unique names."""
    known = tables.known_names(cells.obs.index)
    if not allow_repeated:
        _refuse_repeated(cells, known, manifest.sources)
    if not known.any():
        return cells
    warn_user(
        f"The store has cells with {np.count_nonzero(known)} of the new names; '-' and the number of the file are "
        "appended to all new names."
    )
    number = np.repeat(np.arange(len(cells.readers)) + len(manifest.sources), np.diff(cells.bounds))
    index = cells.obs.index
    while tables.known_names(index).any():  # again where a number makes a name that is there too
        index = index + "-" + pd.Index(number.astype(str), dtype="str")
    return replace(cells, obs=cells.obs.set_axis(index))


def _refuse_repeated(cells: BuildInput, known: np.ndarray, sources: Sequence[Source]) -> None:
    contents = {(source.get("names"), source.get("nnz")) for source in sources}
    files = {source["name"] for source in sources}
    for source, start, stop in zip(cells.sources(), cells.bounds[:-1], cells.bounds[1:], strict=True):
        # all objects in memory have the same name
        same_file = source["name"] in files - {IN_MEMORY} and known[start:stop].all()
        if same_file or (source["names"], source["nnz"]) in contents:
            raise StoreError(
                f"all {source['n_obs']} cells are in the store already",
                where=source["name"],
                remedy="Leave the file out. If these are other cells with the same names, pass allow_repeated=True.",
            )


def _shifted(groups: Groups, n_skipped: int) -> Groups:
    """The same groups, without the first cells, none of which they contain."""
    return Groups(
        groups.design, groups.table, groups.conditions, groups.codes[n_skipped:],
        groups._order - n_skipped, groups._offsets,
    )  # fmt: skip


def _joint(old: Manifest, new: Manifest, groups: Groups) -> Manifest:
    """The manifest of the old cells with the new ones behind them."""
    added = {name: entry for name, entry in new.files.items() if name not in (GENES, ROOT)}
    return Manifest(
        design=old.design,
        n_obs=old.n_obs + new.n_obs,
        n_vars=old.n_vars,
        parts=[*old.parts, *new.parts],
        obs_files=[*old.obs_files, *new.obs_files],
        groups=group_records(groups),
        sources=[*old.sources, *new.sources],
        seed=old.seed,
        files={**added, **old.files},
        versions=new.versions,
        library_size_key=new.library_size_key,
    )


def _join_folders(store: Path, work: Unfinished, new: Manifest, joint: Manifest) -> None:
    """Move new parts into a store, where they count once the manifest lists them."""
    force_to_disk(work.new)
    (work.folder / PLAN).unlink()  # first: what has no plan is not gone on with
    (store / "runs").mkdir(exist_ok=True)
    for name in [*new.obs_files, *(name for part in new.parts for name in (part["name"], part["runs"]))]:
        if (store / name).exists():  # left by an append that never reached its manifest
            remove(store / name)
        os.rename(work.new / name, store / name)
    joint.write(store)
    work.discard()
