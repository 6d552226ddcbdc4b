"""By how much a method falls short of the best baseline of each screen, by kind of design."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .designs import KINDS
from .running import BASELINES

# the name of each score, its column, and the sign that makes larger better
SCORES = {
    "PDCorr": ("pearson_delta", 1),
    "DE overlap": ("overlap_at_n", 1),
    "E-distance": ("energy_distance", -1),
    "log n_sig": ("log n_sig", -1),
}
_NOTICEABLE = 0.01
_N_RESAMPLES = 2_000
FEW = "context, 2 to 5"


def wide(results: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the score of every method, larger better, one row a screen of a half and kind."""
    column, sign = SCORES[score]
    table = results.pivot_table(index=["half", "kind", "number"], columns="method", values=column)
    return sign * table


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % of the means of resampled screens."""
    if len(values) < 2:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(len(values), size=(_N_RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def compared(results: pd.DataFrame, method: str, other: str, kinds: list[str] | None = None) -> dict[str, str]:
    """Mean difference of two methods with its interval, for each score, over the screens that both have."""
    found = {}
    for score in SCORES:
        table = wide(results, score)
        if kinds is not None:
            table = table[table.index.get_level_values("kind").isin(kinds)]
        found[score] = _written(_against(table, method, other))
    return found


def _against(table: pd.DataFrame, method: str, other: str) -> np.ndarray:
    """Differences to another method, or to the best baseline of each screen."""
    if other == "best":
        reference = table[[name for name in BASELINES if name in table]].max(axis=1)
    else:
        reference = table[other]
    difference = (table[method] - reference).to_numpy()
    return difference[np.isfinite(difference)]


def _written(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    low, high = interval(values)
    return f"{values.mean():+.3f} ({low:+.3f}, {high:+.3f})"


def best_on_average(results: pd.DataFrame, score: str) -> str:
    """The baseline with the best mean over the screens on which all are defined; one is for combinations only."""
    table = wide(results, score)[[name for name in BASELINES if name != "additive"]].dropna()
    return str(table.mean().idxmax())


def regret_table(results: pd.DataFrame, method: str) -> pd.DataFrame:
    """Regret of a method: mean with its interval and 5 % worst, by kind of design; coverage; share below mean shift."""
    kinds = [*dict.fromkeys(KINDS)]
    rows = {}
    own = results[results["method"] == method]
    tables = {score: wide(results, score) for score in SCORES}
    for kind in ["all", *kinds]:
        numbers = set(results["number"] if kind == "all" else results.loc[results["kind"] == kind, "number"])
        row: dict[str, str] = {"screens": str(own["number"].isin(numbers).sum())}
        for score, table in tables.items():
            values = _against(table[table.index.get_level_values("number").isin(numbers)], method, "best")
            row[score] = _written(values)
            row[f"5 % worst {score}"] = f"{np.quantile(values, 0.05):+.2f}" if len(values) else "-"
        table = tables["PDCorr"][tables["PDCorr"].index.get_level_values("number").isin(numbers)]
        below = _against(table, method, "mean shift") < -_NOTICEABLE
        row["below mean shift"] = f"{below.mean():.0%}" if len(below) else "-"
        coverage = own.loc[own["number"].isin(numbers), "coverage"].astype(float)
        row["coverage"] = f"{coverage.mean():.2f}" if coverage.notna().any() else "-"
        rows[kind] = row
    return pd.DataFrame(rows).T.rename_axis(f"{method} minus the best baseline of the screen")


def means_table(results: pd.DataFrame) -> pd.DataFrame:
    """Mean score of every method over all screens it has."""
    columns = {score: column for score, (column, _) in SCORES.items()}
    means = results.groupby("method")[[*columns.values(), "seconds"]].mean()
    return means.set_axis([*columns, "seconds"], axis=1)


def summary_table(results: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Each method against the baseline that is best on average, the best of the screen, and the mean shift."""
    rows = {}
    for method in methods:
        average = {
            score: _written(_against(wide(results, score), method, best_on_average(results, score))) for score in SCORES
        }
        rows[f"{method} - best on average"] = average
        rows[f"{method} - best of the screen"] = compared(results, method, "best")
        rows[f"{method} - best of the screen, {FEW}"] = compared(results, method, "best", [FEW])
        rows[f"{method} - mean shift"] = compared(results, method, "mean shift")
    return pd.DataFrame(rows).T.rename_axis("difference")
