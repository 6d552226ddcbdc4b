"""What goes into a store: files, their genes, and the annotation of their cells, checked before anything is written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd

from transpert import _keys
from transpert._arguments import name_list, refused
from transpert._counts import check_library_sizes, read_library_sizes
from transpert.errors import (
    GeneError,
    OptionError,
    check_known,
    list_names,
    warn_user,
)
from transpert.groups import Design

from ..readers.readers import CountReader, open_reader
from .manifest import Source

type Cells = str | os.PathLike | ad.AnnData | CountReader

_NAMES_PER_BLOCK = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class BuildInput:
    """Cells that go into a store."""

    readers: Sequence[CountReader]
    genes: pd.Index
    obs: pd.DataFrame
    names: Sequence[str]
    library_size_key: str | None = None

    @property
    def bounds(self) -> np.ndarray:
        """Where the cells of each file begin in ``obs``, and where the last ones end, ``(n_files + 1,)``."""
        return np.cumsum([0, *(reader.n_obs for reader in self.readers)])

    def sources(self) -> list[Source]:
        """Return what a manifest says of the files."""
        return [
            {
                "name": reader.name,
                "n_obs": reader.n_obs,
                "n_genes": len(reader.genes),
                "nnz": reader.nnz,
                "names": names,
            }
            for reader, names in zip(self.readers, self.names, strict=True)
        ]

    def library_size(self) -> np.ndarray | None:
        """Return the given total counts, ``(n_obs,)`` float64; ``None`` where they are to be summed."""
        if self.library_size_key is None:
            return None
        sizes = read_library_sizes(self.obs, self.library_size_key)
        check_library_sizes(sizes, where=f"obs[{self.library_size_key!r}]")
        return sizes


def open_readers(files: Cells | Sequence[Cells], layer: str | None, *, where: str) -> list[CountReader]:
    """Return readers of files and AnnData objects; of one, if one is given."""
    if isinstance(files, str | os.PathLike | ad.AnnData | CountReader):
        files = [files]
    if not isinstance(files, Iterable):
        raise refused("files", files, "Give paths of files, or AnnData objects.")
    readers = [open_reader(file, layer) for file in files]
    if not readers:
        raise OptionError("no files were given", where=where, remedy="Give at least one file or AnnData.")
    return readers


def read_input(
    readers: Sequence[CountReader],
    design: Design,
    *,
    genes: Sequence[str] | None = None,
    obs_columns: Sequence[str] | None = None,
    library_size_key: str | None = None,
) -> BuildInput:
    """Read all but the counts; the arguments are those of :func:`transpert.data.build_store`."""
    design.check_not_written((_keys.LIBRARY_SIZE,))  # which a store has for every cell
    aligned = align_genes(readers, genes)
    key = library_column(readers, library_size_key)
    required = [*design.columns, *([] if key is None else [key])]
    obs, names = collect_obs(readers, required, obs_columns)
    design.report_labels(obs, aligned)
    return BuildInput(readers, aligned, obs, names, key)


def align_genes(readers: Sequence[CountReader], genes: Sequence[str] | None) -> pd.Index:
    """Return the genes of a store: those asked for, or those that all files have."""
    if genes is not None:
        wanted = pd.Index(name_list(genes))
        _check_wanted(wanted)
        for reader in readers:
            missing = wanted.difference(reader.genes, sort=False)
            if len(missing):
                raise GeneError(
                    f"{len(missing)} of {len(wanted)} genes are missing: {list_names(missing)}",
                    where=reader.name,
                    remedy="Leave genes= out to keep the genes that all files have.",
                )
        return wanted
    shared = readers[0].genes
    for reader in readers[1:]:
        shared = shared[shared.isin(reader.genes)]
    if not len(shared):
        raise GeneError(
            "the files have no gene in common",
            where=list_names(reader.name for reader in readers),
            remedy="Use the same kind of gene names in all files.",
        )
    dropped = {reader.name: len(reader.genes) - len(shared) for reader in readers if len(reader.genes) > len(shared)}
    if dropped:
        lost = (f"{count} of {name}" for name, count in dropped.items())
        warn_user(
            f"The store keeps the {len(shared)} genes that all files have; it drops {list_names(lost, quote=False)}."
        )
    return shared


def _check_wanted(genes: pd.Index) -> None:
    if not len(genes):
        raise OptionError("no genes are asked for", where="genes", remedy="Leave genes= out to keep all.")
    repeated = genes[genes.duplicated()].unique()
    if len(repeated):
        raise GeneError(
            f"{len(repeated)} genes are asked for more than once: {list_names(repeated)}",
            where="genes",
            remedy="Name every gene once.",
        )


def collect_obs(
    readers: Sequence[CountReader], required: Sequence[str], columns: Sequence[str] | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the annotation of all cells, labels as categories, and a checksum of the names in each file."""
    shared = [name for name in readers[0].obs_columns if all(name in reader.obs_columns for reader in readers)]
    kept = list(dict.fromkeys([*required, *(shared if columns is None else name_list(columns))]))
    for reader in readers:
        check_known("column", kept, reader.obs_columns, where=f"obs of {reader.name}")
    tables = [reader.obs(kept) for reader in readers]
    found = [table.index.astype("str").rename(None) for table in tables]
    index = _unique_names(found, readers)
    joined = pd.DataFrame({name: _join([table[name] for table in tables]) for name in kept}).set_axis(index)
    return joined, [_digest_of_names(names) for names in found]


def _unique_names(found: Sequence[pd.Index], readers: Sequence[CountReader]) -> pd.Index:
    """Names of all cells, each of which occurs once."""
    repeated = [reader.name for names, reader in zip(found, readers, strict=True) if _has_repeats(names)]
    if repeated:
        warn_user(
            f"Names of cells occur more than once in {list_names(repeated)}; '-' and a number are appended to all but "
            "the first of them."
        )
        found = [_numbered(names) for names in found]
    index = found[0].append(list(found[1:]))
    if not _has_repeats(index):
        return index
    warn_user(
        "Names of cells occur more than once, in several files; '-' and the number of the file are appended to all "
        "names."
    )
    number = np.repeat(np.arange(len(found)).astype(str), [len(names) for names in found])
    return index + "-" + pd.Index(number, dtype="str")


def _has_repeats(names: pd.Index) -> bool:
    """Whether a name occurs twice, compared by hashes first, which take a tenth of the memory of names."""
    blocks = (names[start : start + _NAMES_PER_BLOCK] for start in range(0, len(names), _NAMES_PER_BLOCK))
    hashes = [pd.util.hash_array(block.to_numpy(dtype=object), categorize=False) for block in blocks]
    ordered = np.sort(np.concatenate(hashes or [np.zeros(0, dtype=np.uint64)]))
    return bool((ordered[1:] == ordered[:-1]).any()) and names.has_duplicates


def _numbered(names: pd.Index) -> pd.Index:
    while names.has_duplicates:  # again where a number made a name that was there already
        before = names.to_series().groupby(names).cumcount().to_numpy()
        names = names.where(before == 0, names + "-" + pd.Index(before.astype(str), dtype="str"))
    return names


def _digest_of_names(names: pd.Index) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for start in range(0, len(names), _NAMES_PER_BLOCK):
        digest.update("".join(f"{name}\n" for name in names[start : start + _NAMES_PER_BLOCK]).encode())
    return digest.hexdigest()


def library_column(readers: Sequence[CountReader], key: str | None) -> str | None:
    """Return the column with the library sizes: the one asked for, or ``library_size`` where all files have it."""
    if key is None and all(_keys.LIBRARY_SIZE in reader.obs_columns for reader in readers):
        return _keys.LIBRARY_SIZE
    return key


def _join(columns: list[pd.Series]) -> pd.api.extensions.ExtensionArray:
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        return pd.api.types.union_categoricals([column.array for column in columns], ignore_order=True)
    joined = pd.concat(columns, ignore_index=True)
    if pd.api.types.is_numeric_dtype(joined) or pd.api.types.is_datetime64_any_dtype(joined):
        return joined.array
    return pd.Categorical(joined.astype(str).where(joined.notna()))
