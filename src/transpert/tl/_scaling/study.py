"""What came out of a scaling study, and how one is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert._arguments import check_choice, named_options
from transpert._signatures import check_fields
from transpert.errors import MetricInputError, UnknownNameError
from transpert.scaling import ScalingCurve, fit_curve, published_saturation

FLOOR = "floor"
CEILING = "ceiling"
_SHARES = (0.9, 0.95, 0.99)


@named_options()
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StudyOptions:
    """Rarely used options of :func:`transpert.tl.scaling_study`, which says what they mean."""

    spike: AnnData | None = None
    layer: str | None = _keys.COUNTS_LAYER
    library_size_key: str | None = None
    type_key: str | None = None
    n_cells: int | None = None
    task: Literal["perturbation", "classification", "integration"] = "perturbation"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice(self.task, ("perturbation", "classification", "integration"), name="task")


@dataclass(frozen=True, slots=True, eq=False)
class ScalingStudy:
    """What came out of a scaling study.

    Parameters
    ----------
    table
        One row a run, test population and metric: ``model``, ``scheme``, ``seed``, the size along each axis,
        ``n_cells``, ``n_perturbations``, ``n_contexts``, ``n_cells_per_condition`` (the cells that were drawn),
        ``context``, ``perturbation``, ``metric``, ``value``, ``floor`` (of no change, which is what no data gives),
        ``ceiling`` (one half of the cells against the other), ``normalised`` (0 at the floor, 1 at the ceiling) and
        ``seconds``. A value that is not defined counts as the floor. Scores of representations are of ``"all"`` cells,
        their ceiling is 1.
    subsets
        One row a drawn set of cells, with its diversity: ``shannon``, ``gini_simpson``, ``vendi``.
    axes
        The axes that were varied.
    unfinished
        How many runs the budget left undone.
    """

    table: pd.DataFrame
    subsets: pd.DataFrame
    axes: tuple[str, ...]
    unfinished: int

    def curve(
        self,
        model: str,
        *,
        scheme: str | None = None,
        metric: str | None = None,
        axis: str | None = None,
        n_bootstrap: int = 500,
        seed: int = 0,
    ) -> ScalingCurve:
        """Fit the normalised scores of a model along an axis.

        Parameters
        ----------
        model, scheme, metric, axis
            Which runs; the first of each that there is by default.
        n_bootstrap, seed
            As in :func:`transpert.scaling.fit_curve`.

        Returns
        -------
        The curve; sizes are numbers of cells, perturbations and so on, not shares.

        Raises
        ------
        transpert.errors.MetricInputError
            If there are fewer than four sizes.
        """
        sizes, scores, _ = self._scores(model, scheme, metric, axis)
        return fit_curve(sizes, scores, n_bootstrap=n_bootstrap, seed=seed)

    def saturation(self, *, metric: str | None = None, axis: str | None = None, level: float = 0.9) -> pd.DataFrame:
        """Say for every model and scheme where it stops learning.

        Parameters
        ----------
        metric, axis
            Which scores; the first by default.
        level
            Coverage of the intervals.

        Returns
        -------
        One row a model and scheme: ``kind`` of the curve, ``best`` with ``best_low`` and ``best_high``, ``exponent``
        with its interval (power laws), ``saturation_90``, ``saturation_95`` and ``saturation_99`` (infinite: not
        reached) with intervals, and ``published``: the point as DenAdel et al. define it, from the largest single run.
        """
        rows = []
        for model, scheme in self.table[["model", "scheme"]].drop_duplicates().itertuples(index=False):
            if model == FLOOR:
                continue
            sizes, scores, raw = self._scores(model, scheme, metric, axis)
            curve = fit_curve(sizes, scores)
            row: dict[str, Any] = {"model": model, "scheme": scheme, "kind": curve.kind}
            row |= _with_interval("best", curve.best, level)
            exponents = curve.rate if curve.kind == "power" else np.full_like(curve.rate, np.nan)
            row |= _with_interval("exponent", exponents, level)
            for share in _SHARES:
                row |= _with_interval(f"saturation_{round(100 * share)}", curve.saturation(share), level)
            rows.append({**row, "published": published_saturation(sizes, raw)})
        return pd.DataFrame(rows)

    def expected_gain(
        self,
        model: str,
        more: float,
        *,
        scheme: str | None = None,
        metric: str | None = None,
        axis: str | None = None,
        level: float = 0.9,
    ) -> pd.Series:
        """Estimate what more cells, perturbations or contexts would add to the normalised score.

        Parameters
        ----------
        model, scheme, metric, axis
            As for :meth:`curve`.
        more
            How many more, on top of the largest size.
        level
            Coverage of the interval.

        Returns
        -------
        ``gain``, ``gain_low``, ``gain_high``, and ``room``: what is left to the ceiling at the largest size.
        """
        curve = self.curve(model, scheme=scheme, metric=metric, axis=axis)
        largest = curve.sizes.max()
        room = 1 - curve.predict(largest)[0, 0]
        return pd.Series({**_with_interval("gain", curve.gain(largest, more), level), "room": room}, name=model)

    def _scores(
        self, model: str, scheme: str | None, metric: str | None, axis: str | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sizes, normalised scores (sizes, seeds, populations), and raw means of runs (sizes, seeds)."""
        table = self.table[self.table["model"] == model]
        if not len(table):
            raise UnknownNameError("model", [model], sorted(set(self.table["model"])), where="the study")
        axis = axis or self.axes[0]
        table = table[table["scheme"] == (scheme or table["scheme"].iloc[0])]
        table = table[table["metric"] == (metric or table["metric"].iloc[0])].dropna(subset=["normalised"])
        column = f"n_{axis}"
        table = table[table[column] > 0]
        for other in self.axes:  # of the other axis, the largest size
            if other != axis:
                table = table[table[f"n_{other}"] == table[f"n_{other}"].max()]
        keys = [column, "seed", "context", "perturbation"]
        # shares of seeds can come to sizes that differ by a cell: a size is what was asked for
        table = table.assign(**{column: table.groupby(axis)[column].transform("median")})
        values = table.groupby(keys)[["normalised", "value"]].mean()
        cube = values["normalised"].unstack(["context", "perturbation"])
        sizes = cube.index.get_level_values(0).unique().to_numpy(dtype=float)
        complete = cube.groupby(level=1).size() == len(sizes)
        seeds = complete.index[complete]
        if len(sizes) < 4 or not len(seeds) or cube.empty:
            raise MetricInputError(
                f"{model} has {len(sizes)} sizes with scores between floor and ceiling",
                where="the study",
                remedy="A curve needs four sizes, and a metric whose ceiling is above its floor.",
            )
        cube = cube.dropna(axis=1)
        raw = values["value"].groupby(level=[0, 1]).mean().unstack(1)
        stacked = np.stack([cube.xs(seed, level=1).to_numpy() for seed in seeds], axis=1)
        return sizes, stacked, raw[seeds].to_numpy()


def _with_interval(name: str, draws: np.ndarray, level: float) -> dict[str, float]:
    """The estimate and the bounds of its interval, which may be infinite."""
    ordered = np.sort(draws[1:])
    low, high = (ordered[round(q * (len(ordered) - 1))] for q in ((1 - level) / 2, (1 + level) / 2))
    return {name: float(draws[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
