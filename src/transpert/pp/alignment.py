"""Genes aligned by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert._anndata import check_kind, frame, in_memory, layer_names
from transpert._arguments import check_names, check_number, check_share
from transpert._matrices import as_dense, check_sound
from transpert._signatures import as_annotated
from transpert.errors import GeneError, list_names

# what names may differ in, and what takes the difference away
_SPELLINGS = {"in capitals alone": ("$", ""), "in the version after a dot": (r"\.\d+$", "")}
_REWRITE = {
    "in capitals alone": "adata.var_names = adata.var_names.str.upper()",
    "in the version after a dot": r"adata.var_names = adata.var_names.str.replace(r'\.\d+$', '', regex=True)",
}
_ENSEMBL = r"ENS[A-Z]*G\d{6,}"


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What was done to align genes.

    Parameters
    ----------
    n_genes
        Number of wanted genes.
    missing
        Genes that the data lacks; they were filled in.
    extra
        Genes of the data that were not wanted; they were dropped.
    reordered
        Whether the genes came in another order.
    """

    n_genes: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reordered: bool

    def __str__(self) -> str:
        return (
            f"{self.n_genes - len(self.missing)} of {self.n_genes} genes found, {len(self.missing)} missing, "
            f"{len(self.extra)} dropped{', reordered' if self.reordered else ''}"
        )


@as_annotated()
def align_genes(
    adata: AnnData, genes: Sequence[str] | np.ndarray, *, max_missing: float = 0.0, fill: float = 0.0
) -> tuple[AnnData, AlignmentReport]:
    """Bring the genes of an AnnData into a given order, by name.

    Parameters
    ----------
    adata
        The data; not changed.
    genes : (G,)
        The genes wanted, in order.
    max_missing
        Share of ``genes`` that may be missing, from 0 to 1.
    fill
        Value of missing genes, in ``X`` and every layer.

    Returns
    -------
    The aligned data (``adata`` itself if nothing had to be done) and the report. Where genes are missing, ``varm`` and
    ``varp`` are dropped, for there is nothing to fill them with; all else is copied.

    Raises
    ------
    transpert.errors.OptionError
        If ``max_missing`` is no share, ``fill`` no number, or ``genes`` are no names.
    transpert.errors.CountsError
        If a sparse matrix is damaged.
    transpert.errors.GeneError
        If names are not unique, or more than ``max_missing`` of the genes are missing.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from transpert.pp import align_genes
    >>> adata = anndata.AnnData(np.array([[1.0, 2.0]]), var=pd.DataFrame(index=["b", "a"]))
    >>> aligned, report = align_genes(adata, ["a", "b"])
    >>> aligned.X.tolist(), report.reordered
    ([[2.0, 1.0]], True)
    """
    fill = check_number(fill, name="fill")
    return align_to(adata, genes, max_missing=max_missing, fill=fill, argument="max_missing")


def align_to(
    adata: AnnData,
    genes: Sequence[str] | np.ndarray,
    *,
    max_missing: float = 0.0,
    fill: float = 0.0,
    argument: str | None = None,
) -> tuple[AnnData, AlignmentReport]:
    """Align genes as :func:`align_genes` does, for a function with an argument of its own for what may be missing."""
    check_kind(adata, name="adata")
    position, report = match_genes(adata.var_names, genes, max_missing=max_missing, argument=argument)
    if len(position) == adata.n_vars and np.array_equal(position, np.arange(len(position))):
        return adata, report
    adata = in_memory(adata)
    for name, matrix in (("X", adata.X), *((f"layers[{key!r}]", adata.layers[key]) for key in layer_names(adata))):
        check_sound(matrix, where=name)
    if not report.missing:
        return adata[:, position].copy(), report
    aligned = AnnData(
        None if adata.X is None else take_columns(adata.X, position, fill),
        obs=frame(adata.obs).copy(),
        var=frame(adata.var).reindex(adata.var_names[position[position >= 0]]).reindex(_names(genes)),
        uns=deepcopy(dict(adata.uns)),
        obsm=_copies(adata.obsm),
        obsp=_copies(adata.obsp),
        layers={key: take_columns(adata.layers[key], position, fill) for key in layer_names(adata)},
    )
    return aligned, report


def match_genes(
    have: pd.Index,
    genes: Sequence[str] | np.ndarray,
    *,
    max_missing: float = 0.0,
    argument: str | None = None,
    where: str = "var_names",
    cells: pd.Index | None = None,
) -> tuple[np.ndarray, AlignmentReport]:
    """Return where each wanted gene stands among those at hand, -1 for one that is missing, and the report."""
    max_missing = check_share(max_missing, name=argument or "max_missing")
    wanted, have = _names(genes), pd.Index(np.asarray(have, dtype=str).astype(object))
    for index, place in ((wanted, "genes"), (have, where)):
        if not index.is_unique:
            raise GeneError(
                f"gene names occur more than once: {list_names(index[index.duplicated()].unique())}",
                where=place,
                remedy="Make them unique, for example with adata.var_names_make_unique().",
            )
    position = have.get_indexer(wanted)
    missing = wanted[position < 0]
    reordered = bool(np.any(np.diff(position[position >= 0]) < 0))
    report = AlignmentReport(len(wanted), tuple(missing), tuple(have.difference(wanted, sort=False)), reordered)
    if len(missing) > max_missing * len(wanted) + 1e-9:  # a share such as 0.29 has no exact double
        raise GeneError(
            f"{len(missing)} of {len(wanted)} genes are missing, {max_missing:.0%} may be: {list_names(missing)}",
            where=where,
            remedy=_how_to_match(missing, have, cells)
            or "Use the same gene names in all data"
            + ("." if argument is None else f", or allow a larger share with {argument}."),
        )
    return position, report


def _how_to_match(missing: pd.Index, have: pd.Index, cells: pd.Index | None) -> str | None:
    """Say how names of genes can be made the same, where most that are missing are there under another name."""
    across = 0 if cells is None else int(missing.isin(cells.astype(str)).sum())
    if across:
        return f"It looks transposed: {across} of its obs_names are genes. Pass adata.T."
    for difference, (pattern, new) in _SPELLINGS.items():
        plain = [index.str.lower().str.replace(pattern, new, regex=True) for index in (missing, have)]
        if plain[0].isin(plain[1]).mean() > 0.5:
            return f"Names differ {difference}: write them in one way in all data, such as {_REWRITE[difference]}."
    identified = [index.str.match(_ENSEMBL).mean() > 0.5 for index in (missing, have)]
    if len(have) and identified[0] != identified[1]:
        return (
            "One side has Ensembl identifiers and the other has symbols: use the same in all data, such as "
            "adata.var_names = adata.var['gene_ids']."
        )
    return None


def _names(genes: Sequence[str] | np.ndarray) -> pd.Index:
    return pd.Index(np.asarray(check_names(genes, name="genes"), dtype=str).astype(object))


def _copies(slot: Mapping[str, Any]) -> dict[str, Any]:
    return {key: slot[key].copy() for key in slot}


def take_columns(matrix: Any, position: np.ndarray, fill: float) -> np.ndarray | sparse.csr_matrix:
    """Take columns, with ``fill`` where the position is negative."""
    present = np.flatnonzero(position >= 0)
    if sparse.issparse(matrix) and fill == 0:
        placement = sparse.csr_matrix(
            (np.ones(len(present), dtype=matrix.dtype), (position[present], present)),
            shape=(matrix.shape[1], len(position)),
        )
        return sparse.csr_matrix(matrix @ placement)
    dense = as_dense(matrix, None)
    exact = dense.dtype if dense.dtype.kind == "f" or float(fill).is_integer() else np.float64
    taken = np.full((dense.shape[0], len(position)), fill, dtype=exact)
    taken[:, present] = dense[:, position[present]]
    return taken
