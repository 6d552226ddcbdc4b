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

FORMAT = 1
MANIFEST = "manifest.json"
CHECKSUM = "checksum"
_READ_BYTES = 1 << 20
_RESTORE = "Restore what is damaged from a copy, or build the store again."


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a store."""

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
    library_size_key: str | None = None
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """A hash of the counts and the tables: the same for the same cells in the same order."""
        tables = sorted((name, entry[1]) for name, entry in self.files.items() if name.endswith(".parquet"))
        text = json.dumps([tables, [part["content"] for part in self.parts]])
        return f"store-{self.n_obs}x{self.n_vars}-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"

    def write(self, folder: Path) -> None:
        """Write the manifest in one step: a reader sees the old one or the new one."""
        values = {**asdict(self), "design": self.design.to_dict()}
        write_json(folder / MANIFEST, {**values, CHECKSUM: _digest_of_values(values)})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a store."""
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
            expected = values.pop(CHECKSUM, None)  # stores of earlier versions have none
            if expected is not None and expected != _digest_of_values(values):
                raise ValueError("it has another checksum")
            return cls(**{**values, "design": Design.from_dict(values["design"])})
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError("the manifest cannot be read", where=str(path), remedy=_RESTORE) from error

    def files_by_part(self) -> dict[str, list[str]]:
        """Return the names of the files of every part, by the name of the part."""
        found: dict[str, list[str]] = {part["name"]: [] for part in self.parts}
        for name in self.files:
            part = "/".join(name.split("/")[:2])
            if part in found:
                found[part].append(name)
        return found

    def damaged(self, folder: Path, *, checksum: bool, names: Iterable[str] | None = None) -> list[str]:
        """Return what is wrong with files: missing, of another size and, if asked, of another checksum."""
        checked = self.files if names is None else names
        return [f"{name} {wrong}" for name in checked if (wrong := self._wrong(folder, name, checksum)) is not None]

    def _wrong(self, folder: Path, name: str, checksum: bool) -> str | None:
        """What is wrong with one file."""
        if name not in self.files:
            return "is not in the manifest"
        size, digest = self.files[name]
        path = folder / name
        try:
            if not path.is_file():
                return "is missing"
            if path.stat().st_size != size:
                return f"has {path.stat().st_size} bytes instead of {size}"
            if checksum and _digest(path) != digest:
                return "has another checksum"
        except OSError as error:  # of the disk, or no permission
            return f"cannot be read: {error}"
        return None

    def check(self, folder: Path, *, checksum: bool, names: Iterable[str] | None = None) -> None:
        """Raise :class:`~transpert.errors.StoreError` if files are damaged; all files of the store by default."""
        found = self.damaged(folder, checksum=checksum, names=names)
        if found:
            raise StoreError(
                f"{len(found)} of {len(self.files)} files are damaged: {list_names(found, quote=False, limit=4)}",
                where=str(folder),
                remedy=_RESTORE,
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


def _digest_of_values(values: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
