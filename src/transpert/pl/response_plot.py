"""How differently cells respond, and by what, as bars."""

from __future__ import annotations

from typing import Literal

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transpert._anndata import check_kind, frame, own_entry
from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import OptionError, UnknownNameError
from transpert.tl.heterogeneity import RESPONDS, RESPONSE

from ._style import COLOURS, FAINT, MUTED, finish, legend_beside, make_axes

_BINS = 30
_BAR = 0.26  # height of a bar, in inches


@as_annotated()
@fill_docstring
def responses(
    adata: AnnData,
    key: str,
    *,
    kind: Literal["cells", "genes"] = "cells",
    n_genes: int = 15,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot which cells respond to a perturbation, or by which genes they differ beforehand.

    Parameters
    ----------
    adata
        Cells for which :func:`transpert.tl.responses` was called.
    key
        The layer that it was called for.
    kind
        ``"cells"``: how many cells have which response, 1 being that of the mean; ``"genes"``: the correlation of
        expression beforehand with it, of the most significant genes.
    n_genes
        How many genes are drawn.
    %(drawing)s

    Raises
    ------
    transpert.errors.UnknownNameError
        If :func:`transpert.tl.responses` was not called for this layer.
    transpert.errors.OptionError
        If there is no such kind.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=40, n_cells=40)
    >>> tp.RidgeTransport.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.RidgeTransport(adata)
    >>> model.train()
    >>> tp.tl.predict(adata, model, perturbation="P1")
    >>> _ = tp.tl.responses(adata, "P1")
    >>> tp.pl.responses(adata, "P1", show=False).get_xlabel()
    'response to P1 (1: that of the mean)'
    """
    check_kind(adata, name="adata")
    if kind not in ("cells", "genes"):
        raise OptionError(f"kind is {kind!r}", remedy="Choose 'cells' or 'genes'.")
    found = own_entry(
        adata,
        f"{RESPONSE}{key}",
        tables={"genes": ("correlation", "p_adjusted")},
        remedy=f"Call tp.tl.responses(adata, {key!r}) again.",
    )
    if found is None or f"{RESPONSE}{key}" not in adata.obs:
        known = [str(name).removeprefix(RESPONSE) for name in adata.obs if str(name).startswith(RESPONSE)]
        remedy = None if known else f"Call tp.tl.responses(adata, {key!r}) first."
        raise UnknownNameError("response", [key], known, where="obs", remedy=remedy)
    genes = found["genes"].head(n_genes)
    figure, axes = make_axes(ax, (5.2, 3.4) if kind == "cells" else (4.6, 1.0 + _BAR * len(genes)))
    if kind == "cells":
        _draw_cells(axes, adata, key)
        legend_beside(axes, own=ax is None)
    else:
        colours = np.where(genes["p_adjusted"] < 0.05, COLOURS[0], FAINT)
        axes.barh(np.arange(len(genes)), genes["correlation"], color=colours, height=0.72)
        axes.set_yticks(range(len(genes)), genes.index.astype(str))
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set(xlabel="correlation with the response, beforehand")
        axes.invert_yaxis()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _draw_cells(axes: Axes, adata: AnnData, key: str) -> None:
    """Draw how many cells have which response."""
    response = np.asarray(frame(adata.obs)[f"{RESPONSE}{key}"], dtype=float)
    sure = np.asarray(frame(adata.obs)[f"{RESPONDS}{key}"], dtype=bool)
    low, high = np.quantile(response, [0.002, 0.998])
    edges = np.linspace(low, max(high, low + 1e-9), _BINS + 1)
    shown = [np.clip(response[rows], low, high) for rows in (~sure, sure)]
    axes.hist(
        shown, bins=edges.tolist(), stacked=True, color=[FAINT, COLOURS[0]], label=["not known to respond", "respond"]
    )
    for place in (0, 1):
        axes.axvline(place, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set(xlabel=f"response to {key} (1: that of the mean)", ylabel="cells")
