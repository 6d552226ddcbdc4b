"""From raw counts to the values that tools and plots read."""

from __future__ import annotations

from anndata import AnnData

from transpert import _keys
from transpert._anndata import check_kind, frame, layer_names, matrix_of
from transpert._counts import check_library_sizes, library_sizes, log1p_per_10k, read_counts, read_library_sizes
from transpert._signatures import as_annotated
from transpert.errors import OptionError


@as_annotated()
def normalize(
    adata: AnnData,
    *,
    layer: str | None = None,
    library_size_key: str | None = None,
    counts_layer: str = _keys.COUNTS_LAYER,
) -> None:
    """Keep raw counts in a layer, and put log1p of counts per 10,000 into ``X``.

    This is what models (``layer="counts"``) and :func:`transpert.tl.evaluate` (``X``) read. A screen of few genes needs
    the totals over all measured genes: the sum over the genes at hand is no measure of sequencing depth there.

    Parameters
    ----------
    adata
        Cells with raw counts.
    layer
        Layer with the raw counts; ``X`` by default.
    library_size_key
        Column with the total counts of each cell over all measured genes; the sum over the genes at hand by default.
    counts_layer
        Layer in which the counts are kept.

    Returns
    -------
    Nothing; writes ``X`` and ``layers[counts_layer]``.

    Raises
    ------
    transpert.errors.CountsError
        If the values are no raw counts, or the library sizes cannot be totals of them.
    transpert.errors.UnknownNameError
        If there is no such layer or column.
    transpert.errors.OptionError
        If ``counts_layer`` holds something else already.

    Examples
    --------
    >>> import anndata, numpy as np, transpert as tp
    >>> adata = anndata.AnnData(np.array([[1.0, 0.0], [2.0, 2.0]]))
    >>> tp.pp.normalize(adata)
    >>> adata.X.round(2).tolist(), adata.layers["counts"].tolist()
    ([[9.210000038146973, 0.0], [8.520000457763672, 8.520000457763672]], [[1.0, 0.0], [2.0, 2.0]])
    """
    check_kind(adata, name="adata")
    layers, obs = layer_names(adata), frame(adata.obs)
    matrix, where = matrix_of(adata, layer)
    if counts_layer in layers and layer != counts_layer:
        raise OptionError(
            f"layers[{counts_layer!r}] is there already",
            where="adata",
            remedy=f"Pass layer={counts_layer!r} if it holds the raw counts, or choose another counts_layer.",
        )
    total = None if library_size_key is None else read_library_sizes(obs, library_size_key)
    counts = read_counts(matrix, where=where)
    if total is None:
        total = library_sizes(counts)
    else:
        check_library_sizes(total, counts, where=f"obs[{library_size_key!r}]")
    values = log1p_per_10k(counts, total)
    adata.layers[counts_layer], adata.X = counts, values
