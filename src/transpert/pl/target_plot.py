"""The best targets of a ranking, with their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transpert import _keys
from transpert._anndata import metadata_of
from transpert._arguments import check_table
from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import OptionError, check_known

from ._style import COLOURS, FAINT, MUTED, finish, make_axes


@as_annotated()
@fill_docstring
def targets(
    ranking: pd.DataFrame | AnnData,
    *,
    context: str | None = None,
    n_targets: int = 20,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot the scores of the best targets of a context.

    Parameters
    ----------
    ranking
        What :func:`transpert.tl.rank_targets` returned, or the cells into which it wrote the same.
    context
        Which context; the first by default.
    n_targets
        How many are shown.
    %(drawing)s

    Raises
    ------
    transpert.errors.UnknownNameError
        If the ranking has no such context.
    transpert.errors.OptionError
        If the cells carry no ranking.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> rows = {"context": "B", "perturbation": ["STAT1", "JAK2"], "rank": [1, 2], "score": [0.8, 0.7]}
    >>> bounds = {"ci_low": [0.7, 0.5], "ci_high": [0.9, 0.8], "situation": ["perturbation", "seen"], "abstained": ""}
    >>> axes = tp.pl.targets(pd.DataFrame({**rows, **bounds}), show=False)
    >>> [text.get_text() for text in axes.get_yticklabels()]
    ['STAT1', 'JAK2']
    """
    if isinstance(ranking, AnnData):
        ranking = _ranking_of(ranking)
    check_table(ranking, name="ranking", columns=("context", "perturbation", "rank", "score", "abstained"))
    context = ranking["context"].iloc[0] if context is None else context
    check_known("context", [context], set(ranking["context"]), where="the ranking")
    rows = ranking[ranking["context"] == context]
    best = rows[rows["abstained"] == ""].sort_values("rank").head(n_targets)
    figure, axes = make_axes(ax, (5.6, 1.1 + 0.27 * len(best)))
    place = np.arange(len(best))
    seen = (best["situation"] == "seen").to_numpy()
    axes.hlines(place, best["ci_low"], best["ci_high"], color=MUTED, linewidth=1.2)
    for mask, colour, label in ((seen, COLOURS[0], "trained on"), (~seen, COLOURS[1], "predicted")):
        axes.scatter(
            best["score"][mask], place[mask], color=colour, s=26, zorder=3, label=label if mask.any() else None
        )
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    axes.set_yticks(place, best["perturbation"])
    axes.invert_yaxis()
    abstained = int((rows["abstained"] != "").sum())
    axes.set(xlabel="score", title=context + (f" ({abstained} not ranked)" if abstained else ""))
    axes.legend(frameon=False, fontsize=8, loc="best")
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _ranking_of(adata: AnnData) -> pd.DataFrame:
    """Return the ranking that was written into cells."""
    found = metadata_of(adata).get("targets")
    if found is None:
        raise OptionError(
            "the cells carry no ranking yet",
            where=f"uns[{_keys.UNS!r}]",
            remedy="Run ranking = tp.tl.rank_targets(model, desired) first, and give ranking.",
        )
    return found
