"""The plot that shows from how many contexts and perturbations on the network pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .configuration import Task
from .results import Result
from .summary import OURS, Scores

ANCHOR = "RidgeTransport"
GRID = "simulated_grid"
_METRIC, _HEADING = "pearson_delta", "PDCorr, SCALE minus the anchor alone"


def grid_table(rows: pd.DataFrame, results: list[Result], task: Task) -> pd.DataFrame:
    """Return a row a cell of the grid: ``contexts``, ``perturbations``, ``gain``, its interval and ``gate``."""
    found = []
    for split in task.splits:
        scores = Scores(rows[rows["split"] == split.name])
        gap = scores.difference(OURS, ANCHOR, _METRIC)
        if gap is None:
            continue
        runs = [r for r in results if (r.run.task, r.run.split, r.run.method) == (task.name, split.name, OURS)]
        gates = [result.details["gate"] for result in runs if result.status == "done"]
        found.append(
            {
                "contexts": split.simulate["n_contexts"],
                "perturbations": split.simulate["n_perturbations"],
                "gain": gap.mean,
                "low": gap.low,
                "high": gap.high,
                "n": gap.n,
                "gate": float(np.mean(gates)),
            }
        )
    return pd.DataFrame(found)


def draw_grid(table: pd.DataFrame, path: Path) -> None:
    """Draw gain and gate over the number of contexts, one line a number of perturbations."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (number, part) in zip(("#0072b2", "#d55e00", "#009e73"), table.groupby("perturbations"), strict=False):
        part = part.sort_values("contexts")
        label = f"{number} perturbations"
        left.plot(part["contexts"], part["gain"], "o-", color=colour, label=label)
        left.fill_between(part["contexts"], part["low"], part["high"], color=colour, alpha=0.2, linewidth=0)
        right.plot(part["contexts"], part["gate"], "o-", color=colour, label=label)
    left.axhline(0, color="0.4", linewidth=0.8)
    left.set_ylabel(_HEADING)
    right.set_ylabel("gate (weight of the network)")
    right.set_ylim(-0.03, 1.03)
    ticks = sorted(table["contexts"].unique())
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("contexts in the data, a fifth held out")
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
