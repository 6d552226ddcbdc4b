"""Write cells grouped and shuffled into the parts of a store: in bounded memory, and resumable.

The cells of the files are first scattered, in the order they are read, to one temporary file for each part; each
such file is then put in order and written as a part. Both steps note how far they came, so that the same call goes
on after an interruption. The store appears under its name when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import zarr
from rich.progress import Progress, TaskID
from scipy import sparse
from zarr.codecs import BloscCodec, Crc32cCodec

from transpert import _keys
from transpert._anndata import are_of_prediction, predicted_cells
from transpert._counts import check_library_sizes, library_sizes, read_counts
from transpert._files import Sums, checksums, write_json
from transpert._folders import Unfinished
from transpert._matrices import narrowed
from transpert._schema import checked, read_json
from transpert.errors import CountsError, OptionError, StoreError, TranspertError
from transpert.groups import Design, Groups

from ..readers.readers import CountReader, zarrs_pipeline
from .build_input import BuildInput
from .manifest import GENES, GroupRecord, Manifest, Part
from .runs import write_runs
from .tables import GENE

ROOT = "zarr.json"  # of the folder itself, for those who open it with zarr
_COUNTS_PER_BLOCK = 3_000_000  # counts held at a time while files are read
_COUNTS_PER_PART = 6_000_000  # counts of a part, which is held whole while it is put in order
_CELLS_PER_CHUNK = 32  # cells that are compressed together: the least that a read decodes
_BYTES_PER_COUNT = 6  # gene and value in a temporary file; a compressed part takes less
_SEGMENT = np.dtype(np.int64)


_BEGIN_ANEW = "Delete the folder, and build again."
PLAN = "plan.json"
GO_ON = "run the same call again: what is done is not lost"

type Report = Callable[[str, int, int], None]


def ignore(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One build: what goes where."""

    readers: Sequence[CountReader]
    genes: pd.Index
    work: Unfinished
    dest: np.ndarray  # where every cell goes; -1 for cells that are left out
    n_obs: int
    cells_per_part: int
    first_part: int
    library_size: np.ndarray | None  # given, in the order of the readers
    library_column: str  # where they were given, for messages
    codes: np.ndarray  # the group of every cell of the store, in its order

    @property
    def folder(self) -> Path:
        return self.work.new

    @property
    def scatter(self) -> Path:
        return self.work.folder / "scatter"

    @property
    def n_parts(self) -> int:
        return -(-self.n_obs // self.cells_per_part)

    def part_name(self, part: int) -> str:
        return f"parts/{self.first_part + part:05d}"

    def runs_name(self, part: int) -> str:
        return f"runs/{self.first_part + part:05d}.npz"

    def part_size(self, part: int) -> int:
        return min(self.cells_per_part, self.n_obs - part * self.cells_per_part)

    def bucket(self, part: int) -> Path:
        return self.scatter / f"{part:05d}.bin"

    def record(self, part: int) -> Path:
        return self.scatter / f"{part:05d}.json"


@dataclass(frozen=True, slots=True)
class _Progress:
    """How many cells were scattered, and how large the file of every part then was."""

    cells: int
    sizes: list[int]


@dataclass(frozen=True, slots=True)
class _Finished:
    """A part that is written: its entry in the manifest, and the checksums of its files."""

    part: Part
    files: Sums


# --- before anything is written -----------------------------------------------------------------------------
def check_target(out: Path) -> None:
    """Refuse a place for a store where there is something, or where no folder can be made."""
    if out.exists():
        raise StoreError(
            "there is something already",
            where=str(out),
            remedy="Choose another name, or add cells with Store(path).append(files).",
        )
    check_parent(out)


def check_parent(out: Path) -> None:
    """Raise :class:`~transpert.errors.StoreError` if the folder that is to hold ``out`` does not exist."""
    parent = out.absolute().parent
    if not parent.is_dir():
        raise StoreError("the folder does not exist", where=str(parent), remedy="Make it, or choose another place.")


def grouped_order(groups: Groups, seed: int) -> np.ndarray:
    """Return the positions of the grouped cells, group after group, shuffled inside each."""
    shuffled = np.random.default_rng(seed).permutation(len(groups.codes))
    order = shuffled[np.argsort(groups.codes[shuffled], kind="stable")]
    return order[np.count_nonzero(groups.codes < 0) :]


def group_records(groups: Groups) -> list[GroupRecord]:
    """Return the labels and sizes of the groups as plain data."""
    columns = ["context", "batch", "perturbation", "dose", "time", "is_control", "n_cells"]
    table = groups.table[columns].astype(object)
    return cast(list[GroupRecord], table.where(table.notna(), None).to_dict("records"))


# --- the build --------------------------------------------------------------------------------------------------
def write_cells(
    cells: BuildInput,
    design: Design,
    work: Unfinished,
    *,
    seed: int,
    groups: Groups,
    cells_per_part: int | None = None,
    first_part: int = 0,
    store: str | None = None,
    report: Report = ignore,
) -> Manifest:
    """Write the cells of ``groups`` into ``work.new``, for a store that has this fingerprint; return their manifest."""
    if cells_per_part is not None and cells_per_part < 1:
        raise OptionError(f"cells_per_part is {cells_per_part}", remedy="Give a whole number of at least 1.")
    _check_cells(cells.readers)
    order = grouped_order(groups, seed)
    dest = np.full(len(cells.obs), -1, dtype=np.int64)
    dest[order] = np.arange(len(order))
    n_counts = sum(reader.nnz for reader in cells.readers)
    per_cell = max(1.0, n_counts / max(1, len(cells.obs)))
    job = _Job(
        cells.readers, cells.genes, work, dest, len(order),
        cells_per_part or max(1, int(_COUNTS_PER_PART / per_cell)), first_part,
        cells.library_size(), f"obs[{cells.library_size_key!r}]", groups.codes[order],
    )  # fmt: skip
    _check_space(job, n_counts)
    begun = {"store": store, "design": design.to_dict(), "seed": int(seed), "library_size_key": cells.library_size_key}
    _begin(job, begun)
    try:
        _scatter(job, per_cell, report)
    except CountsError:  # these cells will never make a store
        work.discard()
        raise
    parts, files = _finish_parts(job, report)
    obs_file = f"obs-{first_part:05d}.parquet"
    table = cells.obs.iloc[order]
    table[_keys.LIBRARY_SIZE] = np.load(_library_file(job), mmap_mode="r")[:]
    table.to_parquet(work.new / obs_file)
    pd.DataFrame({GENE: cells.genes}).to_parquet(work.new / GENES)
    files |= checksums(work.new, [obs_file, GENES, ROOT])
    return Manifest(
        design=design,
        n_obs=len(order),
        n_vars=len(cells.genes),
        parts=parts,
        obs_files=[obs_file],
        groups=group_records(groups),
        sources=cells.sources(),
        seed=seed,
        files=files,
        versions={name: version(name) for name in ("anndata", "annbatch", "zarr", "numpy")},
        library_size_key=cells.library_size_key,
    )


def _check_cells(readers: Sequence[CountReader]) -> None:
    for reader in readers:
        empty = reader.empty_cells()
        if empty:
            raise CountsError(
                f"{empty} cells have no counts at all",
                where=reader.name,
                remedy="Drop them: sc.pp.filter_cells(adata, min_counts=1).",
            )


def _check_space(job: _Job, n_counts: int) -> None:
    written = sum(path.stat().st_size for path in job.work.folder.rglob("*") if path.is_file())
    needed = n_counts * _BYTES_PER_COUNT - written
    place = job.work.folder.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StoreError(
            f"about {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free",
            where=str(place),
            remedy="Free space or choose another disk.",
        )


@contextmanager
def progress_bars(shown: bool) -> Iterator[Report]:
    """Show the steps of a build as bars."""
    with Progress(disable=not shown) as bar:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield report


def _begin(job: _Job, options: dict[str, Any]) -> None:
    """Make the folder, or check that it holds the same build."""
    plan = {
        **options,
        "sources": [reader.signature() for reader in job.readers],
        "genes": hashlib.blake2b("\n".join(job.genes).encode(), digest_size=12).hexdigest(),
        "dest": hashlib.blake2b(job.dest.tobytes(), digest_size=12).hexdigest(),
        "cells_per_part": job.cells_per_part,
        "first_part": job.first_part,
    }
    path = job.work.folder / PLAN
    plan = json.loads(json.dumps(plan))
    if job.work.is_ours and path.is_file():
        found = read_json(path, StoreError, _BEGIN_ANEW)
        if found == plan:
            return
        if isinstance(found, dict) and found.get("store") == plan["store"]:
            raise StoreError(
                "an unfinished build of other cells or with other options is in the way",
                where=str(job.work.folder),
                remedy="Repeat the call that began it, or delete the folder.",
            )
    job.work.discard()  # without a plan, or of a build that came to its end: nothing of it can be used
    job.work.begin(StoreError)
    job.scatter.mkdir()
    zarr.open_group(job.folder, mode="w-", zarr_format=3)
    np.save(_library_file(job), np.zeros(job.n_obs))
    write_json(path, plan)


def _library_file(job: _Job) -> Path:
    return job.scatter / "library_size.npy"


# --- first step: scatter ------------------------------------------------------------------------------------------
def _scatter(job: _Job, per_cell: float, report: Report) -> None:
    """Append every cell to the file of its part."""
    progress = job.scatter / "progress.json"
    done, sizes = 0, [0] * job.n_parts
    if progress.is_file():
        state = read_json(progress, StoreError, _BEGIN_ANEW)
        noted = checked(state, _Progress, StoreError, str(progress), _BEGIN_ANEW)
        done, sizes = noted.cells, noted.sizes
    if done == len(job.dest):
        return
    for part, size in enumerate(sizes):  # forget what was written after the last note
        with job.bucket(part).open("ab") as file:
            if file.tell() < size:  # as after a power failure, which may lose what was not flushed to the disk
                raise _damaged(job.bucket(part))
            file.truncate(size)
    library = np.load(_library_file(job), mmap_mode="r+")
    block = max(1, int(_COUNTS_PER_BLOCK / per_cell))
    offset = 0
    for reader in job.readers:
        columns = reader.genes.get_indexer(job.genes)
        keep_all = np.array_equal(columns, np.arange(len(reader.genes)))
        predicted = _predicted(reader, job.library_column)
        for start in range(max(0, done - offset), reader.n_obs, block):
            stop = min(start + block, reader.n_obs)
            dest = job.dest[offset + start : offset + stop]
            counts = _checked(reader, start, stop)
            at_hand = counts if keep_all else counts[:, columns]
            if job.library_size is None:
                totals = _sums(counts, f"cells {start} to {stop} of {reader.name}")
            else:
                totals = job.library_size[offset + start : offset + stop]
                where = f"{job.library_column}, cells {start} to {stop} of {reader.name}"
                check_library_sizes(totals, at_hand, predicted=predicted[start:stop], where=where)
            kept = np.flatnonzero(dest >= 0)
            library[dest[kept]] = totals[kept]
            for part, size in _append(job, at_hand, dest).items():
                sizes[part] = size
            library.flush()
            write_json(progress, asdict(_Progress(offset + stop, sizes)))
            report("Reading cells", offset + stop, len(job.dest))
        offset += reader.n_obs


def _predicted(reader: CountReader, library_column: str) -> np.ndarray:
    """Return which cells of a file were predicted, where their library sizes are those that a prediction has."""
    ours = library_column == f"obs[{_keys.LIBRARY_SIZE!r}]" and are_of_prediction(reader.obs_columns)
    return predicted_cells(reader.obs(_keys.PREDICTION_COLUMNS)) if ours else np.zeros(reader.n_obs, dtype=bool)


def _checked(reader: CountReader, start: int, stop: int) -> sparse.csr_matrix:
    where = f"cells {start} to {stop} of {reader.name}"
    try:
        counts = reader.rows(start, stop)
    except TranspertError:
        raise
    except Exception as error:  # h5py, zarr and their codecs raise whatever they like
        raise StoreError("the counts cannot be read", where=where, remedy="Check the file.") from error
    return sparse.csr_matrix(read_counts(counts, where=where))


def _sums(counts: sparse.csr_matrix, where: str) -> np.ndarray:
    """The sums over all genes of a file as library sizes."""
    sums = library_sizes(counts)
    empty = int(np.count_nonzero(sums == 0))
    if empty:
        raise CountsError(
            f"{empty} cells have no counts",
            where=where,
            remedy="Drop them: sc.pp.filter_cells(adata, min_counts=1).",
        )
    return sums


def _append(job: _Job, counts: sparse.csr_matrix, dest: np.ndarray) -> dict[int, int]:
    """Append the rows to their buckets, each as one segment, and return the sizes that these buckets have now."""
    # a segment is numbers, rows, lengths, genes, values; the other buckets, maybe tens of thousands, are not looked at
    order = np.argsort(dest, kind="stable")[np.count_nonzero(dest < 0) :]
    counts = counts[order]
    counts.sort_indices()
    dest = dest[order]
    part_of = dest // job.cells_per_part
    bounds = np.flatnonzero(np.diff(part_of, prepend=-1, append=-1))
    gene_type = _gene_type(len(job.genes))
    sizes = {}
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        part = int(part_of[first])
        low, high = counts.indptr[first], counts.indptr[last]
        values = counts.data[low:high]
        wide = np.uint16 if values.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
        values = narrowed(values, wide, where="the counts")
        with job.bucket(part).open("ab") as file:
            for array in (
                np.array([last - first, high - low, values.itemsize], dtype=_SEGMENT),
                (dest[first:last] - part * job.cells_per_part).astype(np.int32),
                np.diff(counts.indptr[first : last + 1]).astype(np.int32),
                narrowed(counts.indices[low:high], gene_type, where="the genes"),
                values,
            ):
                file.write(array.tobytes())
            sizes[part] = file.tell()
    return sizes


def _gene_type(n_genes: int) -> type[np.unsignedinteger]:
    return np.uint16 if n_genes <= np.iinfo(np.uint16).max else np.uint32


# --- second step: order and compress ------------------------------------------------------------------------------
def _finish_parts(job: _Job, report: Report) -> tuple[list[Part], Sums]:
    """Write all parts, and return their entries in the manifest and the checksums of their files."""
    parts: list[Part] = []
    files: Sums = {}
    for number in range(job.n_parts):
        finished = _finish_part(job, number)
        parts.append(finished.part)
        files |= finished.files
        report("Writing parts", number + 1, job.n_parts)
    return parts, files


def _finish_part(job: _Job, part: int) -> _Finished:
    """Write one part, unless it is there, and note what it consists of."""
    record = job.record(part)
    if record.is_file():
        return checked(read_json(record, StoreError, _BEGIN_ANEW), _Finished, StoreError, str(record), _BEGIN_ANEW)
    name = job.part_name(part)
    counts = _gather(job.bucket(part), job.part_size(part), len(job.genes))
    shutil.rmtree(job.folder / name, ignore_errors=True)
    _write_part(job.folder / name, counts)
    runs, cells = job.runs_name(part), slice(part * job.cells_per_part, part * job.cells_per_part + counts.shape[0])
    write_runs(job.folder / runs, counts, np.load(_library_file(job), mmap_mode="r")[cells], job.codes[cells])
    entry: Part = {
        "name": name,
        "runs": runs,
        "n_obs": counts.shape[0],
        "nnz": int(counts.nnz),
        # of the counts themselves: the order of chunks inside a shard differs from one writing to the next
        "content": _content(counts),
    }
    finished = _Finished(entry, checksums(job.folder, [name, runs]))
    write_json(record, asdict(finished))
    job.bucket(part).unlink()
    return finished


def _content(counts: sparse.csr_matrix) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (counts.indptr, counts.indices, counts.data):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _gather(bucket: Path, n_rows: int, n_genes: int) -> sparse.csr_matrix:
    """Read the segments of a bucket and put their rows in order."""
    raw = np.fromfile(bucket, dtype=np.uint8)  # the pieces are views of it
    gene_type = np.dtype(_gene_type(n_genes))
    pieces: list[tuple[np.ndarray, ...]] = []
    at = 0

    def take(dtype: np.dtype, n: int) -> np.ndarray:
        nonlocal at
        at += n * dtype.itemsize
        return raw[at - n * dtype.itemsize : at].view(dtype)

    while at < len(raw):
        rows, nnz, width = take(_SEGMENT, 3).tolist()
        int32 = np.dtype(np.int32)
        pieces.append((take(int32, rows), take(int32, rows), take(gene_type, nnz), take(np.dtype(f"u{width}"), nnz)))
    rows, lengths, genes, values = (np.concatenate(column) for column in zip(*pieces, strict=True))
    if not np.array_equal(np.sort(rows), np.arange(n_rows)):
        raise _damaged(bucket)
    counts = sparse.csr_matrix((values, genes, np.concatenate([[0], np.cumsum(lengths)])), (n_rows, n_genes))
    return counts[np.argsort(rows)]


def _damaged(bucket: Path) -> StoreError:
    folder = bucket.parents[1]
    return StoreError(
        "a temporary file is damaged", where=str(bucket), remedy=f"Delete the folder {folder.name!r} and build again."
    )


def _write_part(path: Path, counts: sparse.csr_matrix) -> None:
    """Write a CSR matrix as AnnData does, in one shard for each array."""
    with zarrs_pipeline():
        group = zarr.open_group(path, mode="w-", zarr_format=3)
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(counts.shape)})
        chunk = max(1, int(_CELLS_PER_CHUNK * counts.nnz / counts.shape[0]))
        genes = counts.indices.astype(_gene_type(counts.shape[1]))
        for name, array, length in (
            ("data", counts.data, chunk),
            ("indices", genes, chunk),
            ("indptr", counts.indptr.astype(np.int32 if counts.nnz < 2**31 else np.int64), len(counts.indptr)),
        ):
            n_chunks = max(1, -(-len(array) // length))
            group.create_array(
                name,
                shape=array.shape,
                dtype=array.dtype,
                chunks=(length,),
                shards=(length * n_chunks,),
                compressors=[BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"), Crc32cCodec()],
            )[:] = array
