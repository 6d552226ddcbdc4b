"""Loaders of public data sets, brought into one form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pooch
from anndata import AnnData
from scipy import sparse

from transpert import _keys
from transpert._counts import check_counts, library_sizes, log1p_per_10k
from transpert.errors import ConditionError, CountsError, DownloadError, UnknownNameError

__all__ = [
    "PUBLIC_SETS",
    "PublicSet",
    "kang18_full",
    "norman19",
    "papalexi21",
    "read_public",
    "replogle22",
    "sciplex3",
]


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
        Other columns to keep, from its name to ours.
    separator
        What separates the parts of a combination in its labels.
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
    separator: str = "+"
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
        ),
        PublicSet(
            "norman19",
            "https://exampledata.scverse.org/pertpy/norman_2019_raw.h5ad",
            "Norman et al. (2019), Science 365:786",
            ("perturbation_name", "perturbation", "condition", "guide_merged"),
            ("control", "ctrl", "NegCtrl0_NegCtrl0"),
            {"cell_type": "cell_type", "cell_line": "cell_type", "gemgroup": "batch"},
            layer="counts",
        ),
        PublicSet(
            "papalexi21",
            "https://exampledata.scverse.org/pertpy/papalexi_2021.h5mu",
            "Papalexi et al. (2021), Nature Genetics 53:322",
            ("gene_target", "perturbation", "gene"),
            ("NT", "control"),
            {"replicate": "batch", "MULTI_ID": "batch"},
        ),
        PublicSet(
            "sciplex3",
            "https://exampledata.scverse.org/pertpy/srivatsan_2020_sciplex3.h5ad",
            "Srivatsan et al. (2020), Science 367:45",
            ("product_name", "condition", "perturbation"),
            ("Vehicle", "control", "DMSO"),
            {
                "cell_type": "cell_type",
                "cell_line": "cell_type",
                "dose": "dose",
                "dose_value": "dose",
                "replicate": "batch",
            },
        ),
        PublicSet(
            "replogle22",
            "https://exampledata.scverse.org/pertpy/replogle_2022_k562_essential.h5ad",
            "Replogle et al. (2022), Cell 185:2559 (K562, essential genes)",
            ("gene", "perturbation", "gene_target"),
            ("non-targeting", "control"),
            {"cell_line": "cell_type", "gem_group": "batch"},
            separator="_and_",
        ),
    )
}


def read_public(entry: PublicSet, *, path: str | os.PathLike[str] | None = None) -> AnnData:
    """Read a public data set and bring it into our form.

    Parameters
    ----------
    entry
        Which one.
    path
        A local file, instead of the download.

    Returns
    -------
    AnnData with log1p counts per 10k in ``X``, raw counts in ``layers["counts"]``, and in ``obs``: ``perturbation``
    (``"control"``, ``"A"``, ``"A+B"``), ``library_size``, and what the source has of ``cell_type``, ``batch``,
    ``donor`` and ``dose``.

    Raises
    ------
    transpert.errors.DownloadError
        If the file cannot be fetched; the message says where to get it and how to pass it.
    transpert.errors.ConditionError
        If no perturbation column is found, or no cell is a control.
    transpert.errors.CountsError
        If the file holds no raw counts.
    """
    source = Path(path) if path is not None else _fetch(entry)
    if not source.is_file():
        raise DownloadError("there is no such file", where=str(source), remedy=f"Download {entry.url} to it.")
    adata = mudata.read_h5mu(source)["rna"] if source.suffix == ".h5mu" else anndata.read_h5ad(source)
    counts = adata.X if entry.layer is None or entry.layer not in adata.layers else adata.layers[entry.layer]
    check_counts(counts, where=f"{source.name}, {'X' if entry.layer is None else 'counts'}")
    counts = sparse.csr_matrix(counts, dtype=np.float32)
    obs = pd.DataFrame(index=adata.obs_names.astype(str))
    obs["perturbation"] = pd.Categorical(_labels(adata.obs, entry))
    for theirs, ours in entry.columns.items():
        if theirs in adata.obs and ours not in obs:
            obs[ours] = adata.obs[theirs].to_numpy()
    library = library_sizes(counts)
    if not (library > 0).all():
        raise CountsError(f"{int((library <= 0).sum())} cells have no counts", where=source.name)
    obs[_keys.LIBRARY_SIZE] = library
    result = AnnData(
        log1p_per_10k(counts, library),
        obs=obs,
        var=pd.DataFrame(index=adata.var_names.astype(str)),
        layers={_keys.COUNTS_LAYER: counts},
    )
    result.var_names_make_unique()
    result.uns["source"] = {"data": entry.reference, "url": entry.url}
    return result


def _labels(obs: pd.DataFrame, entry: PublicSet) -> list[str]:
    column = next((name for name in entry.perturbation if name in obs), None)
    if column is None:
        raise ConditionError(
            f"none of the columns {', '.join(entry.perturbation)} is in the file", where=f"obs of {entry.name}"
        )
    controls = set(entry.control)
    labels = []
    for label in obs[column].astype(str):
        parts = [part for part in label.replace(entry.separator, "+").split("+") if part not in controls]
        labels.append("control" if label in controls or not parts else "+".join(parts))
    if "control" not in labels:
        raise ConditionError(
            f"no cell is labelled {' or '.join(entry.control)}", where=f"obs[{column!r}] of {entry.name}"
        )
    return labels


def _fetch(entry: PublicSet) -> Path:
    folder = Path(os.environ.get("TRANSPERT_DATA", pooch.os_cache("transpert")))
    try:
        return Path(pooch.retrieve(entry.url, entry.checksum, fname=_file_name(entry), path=folder, progressbar=True))
    except Exception as error:
        raise DownloadError(
            f"{entry.name} could not be fetched: {error}",
            where=entry.url,
            remedy=f"Download it elsewhere, and pass path= or put it at {folder / _file_name(entry)}.",
        ) from error


def _file_name(entry: PublicSet) -> str:
    return f"{entry.name}{Path(entry.url).suffix}"


def _loader(name: str) -> Callable[..., AnnData]:
    if name not in PUBLIC_SETS:
        raise UnknownNameError("data set", [name], PUBLIC_SETS)

    def load(*, path: str | os.PathLike[str] | None = None) -> AnnData:
        return read_public(PUBLIC_SETS[name], path=path)

    load.__name__ = load.__qualname__ = name
    load.__doc__ = f"""Load a public data set: {PUBLIC_SETS[name].reference}.

    Parameters
    ----------
    path
        A local file, instead of the download.

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
