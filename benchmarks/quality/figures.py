"""The plot that shows from how many contexts and perturbations on the network pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .configuration import Task
from .results import Result
from .summary import ANCHOR, LINEAR, OURS, Scores

GRID = "simulated_grid"
_METRIC = "pearson_delta"
_COLOURS = ("#0072b2", "#d55e00", "#009e73")


def grid_table(rows: pd.DataFrame, results: list[Result], task: Task) -> pd.DataFrame:
    """Return a row a cell of the grid.

    Columns ``contexts``, ``perturbations``, ``gate``, and what SCALE gains: ``over_linear`` over the linear anchor and
    ``over_anchor`` over its own, each a :class:`~benchmarks.quality.summary.Value`.
    """
    found = []
    for split in task.splits:
        scores = Scores(rows[rows["split"] == split.name])
        gains = [scores.difference(OURS, other, _METRIC) for other in (LINEAR, ANCHOR)]
        if None in gains:
            continue
        runs = [r for r in results if (r.run.task, r.run.split, r.run.method) == (task.name, split.name, OURS)]
        gates = [result.details["gate"] for result in runs if result.status == "done"]
        found.append(
            {
                "contexts": split.simulate["n_contexts"],
                "perturbations": split.simulate["n_perturbations"],
                "over_linear": gains[0],
                "over_anchor": gains[1],
                "gate": float(np.mean(gates)),
            }
        )
    return pd.DataFrame(found)


def draw_grid(table: pd.DataFrame, path: Path) -> None:
    """Draw gains and gate over the number of contexts, one line a number of perturbations."""
    figure = Figure(figsize=(11.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    headings = (
        "PDCorr, SCALE minus the linear anchor",
        "PDCorr, SCALE minus its anchor",
        "gate (weight of the network)",
    )
    for colour, (number, part) in zip(_COLOURS, table.groupby("perturbations"), strict=False):
        part = part.sort_values("contexts")
        for axes, column in zip(panels, ("over_linear", "over_anchor"), strict=False):
            means, lows, highs = ([getattr(v, name) for v in part[column]] for name in ("mean", "low", "high"))
            axes.plot(part["contexts"], means, "o-", color=colour)
            axes.fill_between(part["contexts"], lows, highs, color=colour, alpha=0.2, linewidth=0)
        panels[2].plot(part["contexts"], part["gate"], "o-", color=colour, label=f"{number} perturbations")
    for axes in panels[:2]:
        axes.axhline(0, color="0.4", linewidth=0.8)
    panels[2].set_ylim(-0.03, 1.03)
    ticks = sorted(table["contexts"].unique())
    for axes, heading in zip(panels, headings, strict=True):
        axes.set_ylabel(heading)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("contexts in the data, a fifth held out")
        axes.spines[["top", "right"]].set_visible(False)
    panels[2].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
