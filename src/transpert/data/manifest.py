"""What a store consists of: its parts, their checksums, its groups and its versions, as one JSON file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from transpert.errors import StoreError, list_names
from transpert.groups import Design

__all__ = ["Manifest", "checksums", "write_json"]

FORMAT = 1
MANIFEST = "manifest.json"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a store.

    Parameters
    ----------
    design
        Which columns of ``obs`` say what.
    n_obs, n_vars
        Number of cells and genes.
    parts
        One entry a part, in the order of the cells: ``name``, ``n_obs``, ``nnz``, ``content`` (a
        checksum of the counts), ``runs`` (the file with sums over its cells).
    obs_files
        The tables of cells, in the order of the cells.
    groups
        One entry a group: its labels and ``n_cells``.
    sources
        The files the cells came from: ``name``, ``n_obs``, ``n_genes``.
    seed
        Seed of the shuffling inside the groups.
    files
        Size in bytes and BLAKE2b checksum of every file, by its path in the store.
    versions
        The packages that wrote the store.
    format
        Version of the layout.
    """

    design: Design
    n_obs: int
    n_vars: int
    parts: list[dict[str, Any]]
    obs_files: list[str]
    groups: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    seed: int
    files: dict[str, list]
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """A hash of the counts and the tables: the same for the same cells in the same order."""
        tables = sorted((name, entry[1]) for name, entry in self.files.items() if name.endswith(".parquet"))
        text = json.dumps([tables, [part["content"] for part in self.parts]])
        return f"store-{self.n_obs}x{self.n_vars}-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"

    def write(self, folder: Path) -> None:
        """Write the manifest in one step: a reader sees the old one or the new one."""
        write_json(folder / MANIFEST, {**asdict(self), "design": self.design.to_dict()})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a store.

        Raises
        ------
        transpert.errors.StoreError
            If there is none, or it is of another version of the layout.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise StoreError(
                "this is no store: it has no manifest",
                where=str(folder),
                remedy="Build one with transpert.data.build_store; an unfinished build ends in '.partial'.",
            )
        try:
            values = json.loads(path.read_text())
            if values["format"] != FORMAT:
                raise StoreError(
                    f"the store has layout {values['format']}, this version reads {FORMAT}",
                    where=str(folder),
                    remedy="Build the store again.",
                )
            return cls(**{**values, "design": Design.from_dict(values["design"])})
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError("the manifest cannot be read", where=str(path), remedy="Restore the file.") from error

    def damaged(self, folder: Path, *, checksum: bool, below: str = "") -> list[str]:
        """Return what is wrong with the files: missing, of another size and, if asked, of another checksum."""
        found = []
        for name, (size, digest) in self.files.items():
            if not name.startswith(below):
                continue
            path = folder / name
            if not path.is_file():
                found.append(f"{name} is missing")
            elif path.stat().st_size != size:
                found.append(f"{name} has {path.stat().st_size} bytes instead of {size}")
            elif checksum and _digest(path) != digest:
                found.append(f"{name} has another checksum")
        return found

    def check_part(self, folder: Path, part: int) -> None:
        """Raise :class:`~transpert.errors.StoreError` if a file of a part has another checksum."""
        self.check(folder, checksum=True, below=f"{self.parts[part]['name']}/")

    def check(self, folder: Path, *, checksum: bool, below: str = "") -> None:
        """Raise :class:`~transpert.errors.StoreError` if files, or those below a folder, are damaged."""
        found = self.damaged(folder, checksum=checksum, below=below)
        if found:
            raise StoreError(
                f"{len(found)} of {len(self.files)} files are damaged: {list_names(found, quote=False, limit=4)}",
                where=str(folder),
                remedy="Restore them from a copy, or build the store again.",
            )


def checksums(folder: Path, names: Iterable[str]) -> dict[str, list]:
    """Return size and checksum of files; of all files below a name that is a folder."""
    files = [
        path
        for name in names
        for path in (sorted((folder / name).rglob("*")) if (folder / name).is_dir() else [folder / name])
        if path.is_file()
    ]
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, _digest(path)] for path in files}


def write_json(path: Path, values: object) -> None:
    """Write JSON beside ``path``, flush it to disk, and move it into place."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
