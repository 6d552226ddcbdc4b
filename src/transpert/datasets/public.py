"""Loaders of public data sets, brought into one form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pooch
from anndata import AnnData
from anndata.utils import make_index_unique
from mudata import MuData
from scipy import sparse

from transpert import _keys
from transpert._anndata import frame, read_h5ad
from transpert._counts import library_sizes, log1p_per_10k, read_counts
from transpert._files import reading
from transpert._signatures import as_annotated
from transpert.errors import (
    ConditionError,
    CountsError,
    DownloadError,
    OptionError,
    UnknownNameError,
    check_known,
    list_names,
    warn_user,
)


@dataclass(frozen=True, slots=True)
class PublicSet:
    """Where a public data set is, and what its columns mean.

    Parameters
    ----------
    name
        Our name for it; also that of the file in the cache.
    url
        Where it is; as in :mod:`pertpy.data`, on the public storage of scverse.
    reference
        The paper.
    perturbation
        Columns that may hold the perturbation, the first that exists counts.
    control
        Labels that mean control.
    columns
        Other columns to keep, from its name to ours; of several with the same name here, the first that exists counts.
    separators
        What separates the parts of a combination in its labels; none where every label is one perturbation.
    rename
        Perturbations that have another name here.
    cell_type
        Cell type of all cells, where the study used one cell line and the file does not name it.
    symbols
        Column of ``var`` with gene symbols, where the names of the genes are identifiers.
    layer
        Layer with raw counts; ``None`` means ``X``.
    checksum
        ``"sha256:..."`` of the file, or ``None`` if none is published; then the first download is taken as it is and
        its checksum is reported.
    """

    name: str
    url: str
    reference: str
    perturbation: tuple[str, ...]
    control: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    separators: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    cell_type: str | None = None
    symbols: str | None = None
    layer: str | None = None
    checksum: str | None = None


PUBLIC_SETS: dict[str, PublicSet] = {
    entry.name: entry
    for entry in (
        PublicSet(
            "kang18_full",
            "https://exampledata.scverse.org/pertpy/kang_2018.h5ad",
            "Kang et al. (2018), Nature Biotechnology 36:89",
            ("label", "stim", "condition", "perturbation"),
            ("ctrl", "control"),
            {"cell_type": "cell_type", "replicate": "donor"},
            rename={"stim": "IFNB", "stimulated": "IFNB"},  # as in kang18()
        ),
        PublicSet(
            "norman19",
            "https://exampledata.scverse.org/pertpy/norman_2019_raw.h5ad",
            "Norman et al. (2019), Science 365:786",
            # the raw file has guide_ids only: "" for control, "A", "A,B"
            ("perturbation_name", "perturbation", "condition", "guide_ids"),
            ("control", "ctrl", ""),
            {"cell_line": "cell_type", "cell_type": "cell_type", "gemgroup": "batch"},
            separators=("+", ","),
            cell_type="K562",
            symbols="gene_symbols",
            layer="counts",
        ),
        PublicSet(
            "papalexi21",
            "https://exampledata.scverse.org/pertpy/papalexi_2021.h5mu",
            "Papalexi et al. (2021), Nature Genetics 53:322",
            ("gene_target", "perturbation", "gene"),
            ("NT", "control"),
            {"replicate": "batch", "MULTI_ID": "batch"},
            cell_type="THP-1",
        ),
        PublicSet(
            "sciplex3",
            "https://exampledata.scverse.org/pertpy/srivatsan_2020_sciplex3.h5ad",
            "Srivatsan et al. (2020), Science 367:45",
            # product names are whole: "(+)-JQ1" is one drug
            ("perturbation", "product_name", "condition"),
            ("Vehicle", "control", "DMSO"),
            {
                "cell_line": "cell_type",
                "cell_type": "cell_type",
                "dose_value": "dose",  # nM
                "dose": "dose",
                "time": "time",  # h
                "plate": "batch",
                "replicate": "replicate",
            },
        ),
        PublicSet(
            "replogle22",
            "https://exampledata.scverse.org/pertpy/replogle_2022_k562_essential.h5ad",
            "Replogle et al. (2022), Cell 185:2559 (K562, essential genes)",
            ("gene", "perturbation", "gene_target"),
            ("non-targeting", "control"),
            {"cell_line": "cell_type", "gem_group": "batch"},
            cell_type="K562",
        ),
    )
}


@as_annotated()
def read_public(
    entry: PublicSet, *, path: str | os.PathLike[str] | None = None, adata: AnnData | MuData | None = None
) -> AnnData:
    """Read a public data set and bring it into our form.

    Parameters
    ----------
    entry
        Which one.
    path
        A local file, instead of the download.
    adata
        What a loader of :mod:`pertpy.data` returned, instead of a file: ``pertpy.data.norman_2019_raw()``.

    Returns
    -------
    AnnData with log1p counts per 10k in ``X``, raw counts in ``layers["counts"]``, and in ``obs``: ``perturbation``
    (``"control"``, ``"A"``, ``"A+B"``), ``library_size``, ``cell_type``, and what the source has of ``batch``,
    ``donor``, ``dose`` and ``time``. Cells without a perturbation label are left out, with a warning.

    Raises
    ------
    transpert.errors.DownloadError
        If the file cannot be fetched; the message says where to get it and how to pass it.
    transpert.errors.ConditionError
        If no perturbation column is found, or no cell is a control.
    transpert.errors.CountsError
        If the file holds no raw counts.
    transpert.errors.OptionError
        If both a file and cells are given.

    Notes
    -----
    What a file is called, and what its columns are, follows the loaders of pertpy (Heumos et al. 2025, "Pertpy: an
    end-to-end framework for perturbation analysis", Nature Methods); the entries of ``PUBLIC_SETS`` say what is
    assumed. Counts are looked for in one slot; there is no attempt to undo a normalisation.
    """
    if adata is None:
        source = Path(path) if path is not None else _fetch(entry)
        if not source.is_file():
            raise DownloadError("there is no such file", where=str(source), remedy=f"Download {entry.url} to it.")
        adata, read = _read(source), source.name
    elif path is None:
        adata, read = _rna(adata, "adata"), "adata"
    else:
        raise OptionError("both path and adata are given", where="read_public", remedy="Give one of them.")
    slot = "X" if entry.layer is None or entry.layer not in adata.layers else entry.layer
    labels = _labels(frame(adata.obs), entry)
    labelled = labels.notna().to_numpy()
    if not labelled.all():
        warn_user(f"{np.count_nonzero(~labelled)} cells of {entry.name} have no perturbation label and are left out.")
        adata, labels = adata[labelled], labels[labelled]
    counts = adata.X if slot == "X" else adata.layers[slot]
    counts = sparse.csr_matrix(read_counts(counts, where=f"{read}, {slot}"), dtype=np.float32)
    library = library_sizes(counts)
    if not (library > 0).all():
        raise CountsError(
            f"{int((library <= 0).sum())} cells have no counts",
            where=read,
            remedy="Drop them from the file: sc.pp.filter_cells(adata, min_counts=1).",
        )
    result = AnnData(
        log1p_per_10k(counts, library),
        obs=_columns(frame(adata.obs), labels, entry).assign(**{_keys.LIBRARY_SIZE: library}),
        var=pd.DataFrame(index=_gene_names(frame(adata.var), entry)),
        layers={_keys.COUNTS_LAYER: counts},
    )
    result.uns["source"] = {"data": entry.reference, "url": entry.url}
    return result


def _read(source: Path) -> AnnData:
    if source.suffix != ".h5mu":
        return read_h5ad(source, DownloadError)
    with reading(DownloadError, source, "h5mu file", "Download it again."):
        cells = mudata.read_h5mu(source)
    return _rna(cells, str(source))


def _rna(cells: AnnData | MuData, where: str) -> AnnData:
    """Return the cells themselves, or their modality of RNA."""
    if isinstance(cells, AnnData):
        return cells
    if "rna" not in cells.mod:
        raise UnknownNameError("modality", ["rna"], cells.mod, where=where)
    return cells.mod["rna"]


def _labels(obs: pd.DataFrame, entry: PublicSet) -> pd.Series:
    """Labels in our form; missing where the file has none."""
    column = next((name for name in entry.perturbation if name in obs), None)
    if column is None:
        raise ConditionError(
            f"none of the columns {', '.join(entry.perturbation)} is in the file",
            where=f"obs of {entry.name}",
            remedy=f"Rename the column with the perturbations; there are {list_names(obs.columns)}.",
        )
    # each distinct label once: there are hundreds of thousands of cells
    found = obs[column].dropna().unique()
    ours = {label: _label(str(label), entry) for label in found}
    if _keys.CONTROL not in ours.values():
        raise ConditionError(
            f"no cell is labelled {' or '.join(map(repr, entry.control))}",
            where=f"obs[{column!r}] of {entry.name}",
            remedy="Without controls no effect can be learned; check that the file is the one meant.",
        )
    changed = [str(label) for label in found if not entry.separators and _keys.COMBINATION in str(label)]
    if changed:
        warn_user(f"'+' separates combinations here, so it is written 'plus' in {list_names(changed)}.")
    return pd.Series([ours.get(label) for label in obs[column]], index=obs.index, dtype=object)


def _label(label: str, entry: PublicSet) -> str:
    if label in entry.control:
        return _keys.CONTROL
    if not entry.separators:
        return entry.rename.get(label, label).replace(_keys.COMBINATION, "plus")
    for separator in entry.separators:
        label = label.replace(separator, _keys.COMBINATION)
    parts = [entry.rename.get(part, part) for part in label.split(_keys.COMBINATION) if part not in entry.control]
    return _keys.COMBINATION.join(parts) or _keys.CONTROL


def _columns(obs: pd.DataFrame, labels: pd.Series, entry: PublicSet) -> pd.DataFrame:
    """Return the columns of a public data set under our names."""
    table = pd.DataFrame(index=obs.index.astype(str))
    table["perturbation"] = pd.Categorical(labels.to_numpy())
    for theirs, ours in entry.columns.items():
        if theirs in obs and ours not in table:
            values = obs[theirs]
            if ours in ("dose", "time"):
                table[ours] = _numbers(values, entry)
            else:  # what is missing stays missing
                table[ours] = pd.Categorical(values.astype(object).map(str, na_action="ignore"))
    if "dose" in table:
        table.loc[table["perturbation"] == _keys.CONTROL, "dose"] = 0.0
    if "cell_type" not in table and entry.cell_type is not None:
        table["cell_type"] = pd.Categorical([entry.cell_type] * len(table))
    return table


def _numbers(values: pd.Series, entry: PublicSet) -> np.ndarray:
    try:
        return pd.to_numeric(values).to_numpy()
    except (TypeError, ValueError) as error:
        raise ConditionError(
            f"the column holds something that is no number: {error}",
            where=f"obs[{values.name!r}] of {entry.name}",
            remedy="Read it first, with tp.pp.amounts, and write the file again.",
        ) from error


def _gene_names(var: pd.DataFrame, entry: PublicSet) -> pd.Index:
    names = pd.Index((var[entry.symbols] if entry.symbols in var else var.index).astype(str), name=None)
    if names.is_unique:
        return names
    warn_user(f"{names.duplicated().sum()} genes of {entry.name} share their name with another one; they got a number.")
    return make_index_unique(names)


def _fetch(entry: PublicSet) -> Path:
    folder = Path(os.environ.get("TRANSPERT_DATA", pooch.os_cache("transpert")))
    try:
        return Path(pooch.retrieve(entry.url, entry.checksum, fname=_file_name(entry), path=folder, progressbar=True))
    except (OSError, ValueError) as error:  # no connection, no such file, another checksum
        raise DownloadError(
            f"{entry.name} could not be fetched: {error}",
            where=entry.url,
            remedy=f"Download it elsewhere, and pass path= or put it at {folder / _file_name(entry)}.",
        ) from error


def _file_name(entry: PublicSet) -> str:
    return f"{entry.name}{Path(entry.url).suffix}"


def _loader(name: str) -> Callable[..., AnnData]:
    """Make the function that loads a public data set."""
    check_known("data set", [name], PUBLIC_SETS)

    def load(*, path: str | os.PathLike[str] | None = None, adata: AnnData | MuData | None = None) -> AnnData:
        return read_public(PUBLIC_SETS[name], path=path, adata=adata)

    load.__name__ = load.__qualname__ = name
    load.__doc__ = f"""Load a public data set: {PUBLIC_SETS[name].reference}.

    Parameters
    ----------
    path, adata
        A local file, or what the loader of :mod:`pertpy.data` returned, instead of the download.

    Returns
    -------
    AnnData in the form of :func:`read_public`.

    Raises
    ------
    transpert.errors.DownloadError
        If the file cannot be fetched.
    """
    return load


kang18_full = _loader("kang18_full")
norman19 = _loader("norman19")
papalexi21 = _loader("papalexi21")
sciplex3 = _loader("sciplex3")
replogle22 = _loader("replogle22")
