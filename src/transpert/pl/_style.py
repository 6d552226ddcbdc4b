"""What all plots share: colours that the colour-blind can tell apart, where a legend stands, and what is returned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, without the yellow that is lost on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# a second sign beside the colour, for print in grey
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MUTED, FAINT = "#777777", "#DDDDDD"
SOURCE_COLOURS = {"control": "#BBBBBB", "observed": "#0072B2", "predicted": "#D55E00"}
_HINTS = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best"}


def make_axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return the axes given, or new ones of a size in inches."""
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure, ax


def styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Give each name a colour and a marker; they repeat with other pairs once the colours are used up."""
    colours = list(islice(cycle(COLOURS), len(names)))
    markers = [MARKERS[(i + i // len(COLOURS)) % len(MARKERS)] for i in range(len(names))]
    return dict(zip(names, zip(colours, markers, strict=True), strict=True))


def direction_hint(direction: str | None) -> str:
    """Say which values are good, to stand behind the name of a metric; nothing if that is not known."""
    return f" ({_HINTS[direction]})" if direction in _HINTS else ""


def legend_beside(axes: Axes, *, own: bool) -> None:
    """Put the legend right of axes made here, where it covers nothing; inside axes of others, where it is not cut."""
    place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if own else {"loc": "best"}
    axes.legend(frameon=False, fontsize=8, alignment="left", **place)


def finish(figure: Figure, axes: Axes, *, own: bool, show: bool | None, return_fig: bool) -> Axes | Figure | None:
    """Show a plot or return it, as scanpy's plots do."""
    if return_fig:
        return figure
    if show or (show is None and own and plt.isinteractive()):
        plt.show()
        return None
    return axes
