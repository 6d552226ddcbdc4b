"""Control, observed and predicted cells in one embedding."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transpert import _keys
from transpert._anndata import check_kind
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert._seeds import check_seed
from transpert.errors import UnknownNameError

from ._style import SOURCE_COLOURS, finish, make_axes

_ALPHA = 0.6  # of a point, so that what lies below it is seen


@fill_docstring
def embedding(
    together: AnnData,
    *,
    basis: str = "umap",
    title: str | None = None,
    size: float | None = None,
    seed: int = 0,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot control, observed and predicted cells in one embedding, through :func:`scanpy.pl.embedding`.

    Cells are drawn in random order, so that no kind hides another.

    Parameters
    ----------
    together
        What :func:`transpert.tl.embed_together` returned.
    basis
        Key of ``obsm``, with or without ``X_``, as in scanpy.
    title
        Of the plot; by default how many cells there are of each kind.
    size
        Of a point, as in scanpy.
    seed
        Of the order in which cells are drawn.
    %(drawing)s

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such embedding, or no column that says where cells come from.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=50, n_cells=40)
    >>> pred = adata[adata.obs["perturbation"] == "P0"].copy()
    >>> together = tp.tl.embed_together(pred, adata, n_components=5, umap=False)
    >>> tp.pl.embedding(together, basis="pca", show=False).get_title()
    '40 control, 40 observed, 40 predicted cells'
    """
    check_arguments(locals())
    check_kind(together, name="together")
    key = basis if basis in together.obsm else f"X_{basis}"
    if key not in together.obsm:
        remedy = None if _keys.SOURCE in together.obs and together.obsm else "tp.tl.embed_together computes it."
        raise UnknownNameError("embedding", [basis], map(str, together.obsm), where="obsm", remedy=remedy)
    if _keys.SOURCE not in together.obs:
        raise UnknownNameError(
            "column",
            [_keys.SOURCE],
            map(str, together.obs),
            where="obs",
            remedy="Put the cells together with tp.tl.embed_together.",
        )
    source = together.obs[_keys.SOURCE].astype(str).to_numpy()
    order = np.random.default_rng(check_seed(seed)).permutation(len(source))
    if title is None:
        title = ", ".join(f"{(source == name).sum():,} {name}" for name in SOURCE_COLOURS) + " cells"
    figure, axes = make_axes(ax, (6.4, 4.6))
    # a copy of the coordinates alone: scanpy writes its palette into what it is given
    drawn = AnnData(obs=pd.DataFrame({_keys.SOURCE: pd.Categorical(source[order])}, index=together.obs_names[order]))
    drawn.obsm[key] = np.asarray(together.obsm[key])[order]
    sc.pl.embedding(
        drawn,
        key.removeprefix("X_"),
        color=_keys.SOURCE,
        palette=SOURCE_COLOURS,
        title=title,
        size=size,
        alpha=_ALPHA,
        ax=axes,
        show=False,
    )
    axes.title.set_fontsize(10)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)
