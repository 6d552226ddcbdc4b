"""What the response of a screen consists of, as bars."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.scaling import COMPONENTS
from transpert.tl import EffectShares

from ._style import COLOURS, FAINT, finish, legend_beside, make_axes

_COLOURS = dict(zip(COMPONENTS, (COLOURS[0], COLOURS[4], COLOURS[1], FAINT), strict=True))
_WHOLE = "whole screen"
_ROWS = 0.3  # height of a bar, in inches


@as_annotated()
@fill_docstring
def effect_shares(
    found: EffectShares,
    *,
    n_perturbations: int = 10,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot what the response consists of, in all and for the strongest perturbations.

    Parameters
    ----------
    found
        What :func:`transpert.tl.effect_shares` returned.
    n_perturbations
        How many perturbations get a bar of their own, the strongest first; for each, what is not conserved is drawn as
        interaction and context together.
    %(drawing)s

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=3, n_genes=60, n_cells=40)
    >>> found = tp.tl.effect_shares(adata, context_keys="context", n_bootstrap=20)
    >>> tp.pl.effect_shares(found, show=False).get_xlabel()
    'share of the measured response'
    """
    shares = found.shares["share"]
    known = bool(np.isfinite(shares["conserved"]))
    bars = [(_WHOLE, {name: shares[name] for name in COMPONENTS} if known else _unsplit(shares["signal"]))]
    for name, row in found.perturbations.head(n_perturbations).iterrows():
        total = row["signal"] + row["noise"]
        split = {"conserved": row["conserved"] / total, "interaction": (row["signal"] - row["conserved"]) / total}
        noise = {"noise": row["noise"] / total}
        bars.append((str(name), {**split, **noise} if known else _unsplit(row["signal"] / total)))
    figure, axes = make_axes(ax, (6.4, 1.1 + _ROWS * len(bars)))
    _draw(axes, bars)
    axes.set(xlim=(0, 1), xlabel="share of the measured response")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.invert_yaxis()
    legend_beside(axes, own=ax is None)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _unsplit(signal: float) -> dict[str, float]:
    """The parts of one context, in which what is conserved cannot be told from the rest."""
    return {"signal": signal, "noise": 1 - signal}


def _draw(axes: Axes, bars: list[tuple[str, dict[str, float]]]) -> None:
    """Draw one stacked bar a row; parts that came out negative have no width."""
    labelled: set[str] = set()
    for place, (_, parts) in enumerate(bars):
        widths = np.maximum(np.nan_to_num(list(parts.values())), 0)
        starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
        for name, start, width in zip(parts, starts, widths, strict=True):
            label = None if name in labelled else name
            labelled.add(name)
            axes.barh(place, width, left=start, height=0.72, color=_COLOURS.get(name, COLOURS[2]), label=label)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
