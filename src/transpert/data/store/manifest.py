"""What a store consists of: its parts, their checksums, its groups and its versions, as one JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, NotRequired, Self, TypedDict

from msgspec import Meta

from transpert._files import Count, Sums, damage, write_json
from transpert._schema import checked, read_json, sealed, unsealed
from transpert.errors import StoreError, list_names
from transpert.groups import Design

FORMAT = 1
MANIFEST = "manifest.json"
GENES = "genes.parquet"
_RESTORE = "Restore what is damaged from a copy, or build the store again."


class Part(TypedDict):
    """One part of a store: its folder, its size, a checksum of its counts, and the file with sums over its cells."""

    name: Annotated[str, Meta(pattern=r"^parts/\d{5,}$")]
    n_obs: Count
    nnz: Count
    content: str
    runs: NotRequired[Annotated[str, Meta(pattern=r"^runs/\d{5,}\.npz$")]]


class GroupRecord(TypedDict):
    """One group of a store: its labels and its size."""

    context: str
    batch: str
    perturbation: str
    dose: float | str | None
    time: float | str | None
    is_control: bool
    n_cells: Count


class Source(TypedDict):
    """One file that cells came from; stores of earlier versions know less of it."""

    name: str
    n_obs: Count
    n_genes: NotRequired[Count]
    nnz: NotRequired[Count]
    names: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a store."""

    design: Design
    n_obs: Count
    n_vars: Count
    parts: list[Part]
    obs_files: list[Annotated[str, Meta(pattern=r"^obs-\d{5,}\.parquet$")]]
    groups: list[GroupRecord]
    sources: list[Source]
    seed: int
    files: Sums
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
        write_json(folder / MANIFEST, sealed(values))

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
        values = read_json(path, StoreError, _RESTORE)
        if isinstance(values, dict) and values.get("format") != FORMAT:
            raise StoreError(
                f"the store has layout {values.get('format')}, this version reads {FORMAT}",
                where=str(folder),
                remedy="Build the store again.",
            )
        # stores of earlier versions have no checksum
        values = unsealed(values, StoreError, str(path), _RESTORE, needed=False)
        manifest = checked(values, cls, StoreError, str(path), _RESTORE)
        manifest._check(path)
        return manifest

    def _check(self, path: Path) -> None:
        """Refuse a manifest whose entries do not fit together."""
        needed = [GENES, *self.obs_files]
        for part in self.parts:
            arrays = ("", "data/", "indices/", "indptr/")
            needed += [f"{part['name']}/{array}zarr.json" for array in arrays]
            needed += [part["runs"]] if "runs" in part else []
        absent = [name for name in needed if name not in self.files]
        n_obs = sum(part["n_obs"] for part in self.parts)
        if absent or not self.obs_files or n_obs != self.n_obs:
            what = (
                f"lists {list_names(absent)} nowhere" if absent else f"has parts of {n_obs} and says {self.n_obs} cells"
            )
            raise StoreError(f"the manifest {what}", where=str(path), remedy=_RESTORE)

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
        found = ((name, damage(folder, name, self.files, checksum=checksum)) for name in checked)
        return [f"{name} {wrong}" for name, wrong in found if wrong is not None]

    def check(self, folder: Path, *, checksum: bool, names: Iterable[str] | None = None) -> None:
        """Raise :class:`~transpert.errors.StoreError` if files are damaged; all files of the store by default."""
        found = self.damaged(folder, checksum=checksum, names=names)
        if found:
            raise StoreError(
                f"{len(found)} of {len(self.files)} files are damaged: {list_names(found, quote=False, limit=4)}",
                where=str(folder),
                remedy=_RESTORE,
            )
