"""The entries of the registry: which function, of what, and which values are better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from . import (
    calibrated,
    challenge,
    delta,
    discrimination,
    gene_agreement,
    pseudobulk,
    rare_tails,
    residuals,
    systema,
)
from .comparison import Comparison
from .differential_expression import CELL_EVAL, CHALLENGE_2026, TRANSPERT, Convention, DifferentialExpression
from .distribution import energy_distance, maximum_mean_discrepancy
from .integrity import variance_ratio, zero_fraction_gap
from .panel import Panel

type Direction = Literal["higher", "lower", "one", "none"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Parameters
    ----------
    name
        Its name.
    family
        What it looks at, for example ``"delta"`` or ``"distribution"``.
    direction
        Whether ``"higher"`` or ``"lower"`` values are better, those nearest to ``"one"``, or ``"none"`` (a number to
        look at).
    needs
        Attributes of :class:`Comparison` that it reads.
    function
        Maps a comparison to a number (level ``"population"``), or a panel to an array (level ``"panel"``); NaN where
        the metric is not defined.
    level
        ``"population"`` or ``"panel"``.
    per
        What the values of a panel metric belong to: each ``"population"``, or each ``"context"``.
    panels
        Panels it is in, besides ``"all"``.
    counts
        Whether it is computed from raw counts.
    """

    name: str
    family: str
    direction: Direction
    needs: tuple[str, ...]
    function: Callable
    level: Literal["population", "panel"] = "population"
    per: Literal["population", "context"] = "population"
    panels: tuple[str, ...] = ()
    counts: bool = False

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is a better score than ``b``; never, for a metric without a direction."""
        if self.direction == "none":
            return False
        if self.direction == "one":
            return abs(np.log(max(a, 1e-9))) < abs(np.log(max(b, 1e-9)))
        return a > b if self.direction == "higher" else a < b


_CELLS = ("predicted", "real")
_DELTA = ("delta_predicted", "delta_real")
_MEAN = ("mean_predicted", "mean_real")
_CELL_EVAL = ("cell-eval",)


def _of_means(function: Callable, predicted: str, real: str) -> Callable[[Comparison], float]:
    return lambda c: float(function(getattr(c, predicted), getattr(c, real))[0])


def _of_tables(function: Callable, convention: Convention, **options: object) -> Callable[[Comparison], float]:
    return lambda c: float(function(*c.tables(convention), **options))


def _count(predicted: DifferentialExpression, real: DifferentialExpression, *, side: str) -> float:
    return float((predicted if side == "pred" else real).n_significant)


def _discrimination(metric: discrimination.Metric) -> Callable[[Panel], np.ndarray]:
    def score(panel: Panel) -> np.ndarray:
        return panel.each(
            lambda rows: discrimination.discrimination_score(
                panel["delta_predicted"][rows],
                panel["delta_real"][rows],
                metric=metric,
                targets=[panel.targets[row] for row in rows],
            )
        )

    return score


def _pearson_energy(panel: Panel) -> np.ndarray:
    return panel.one(lambda rows: delta.pearson_vectors(panel["energy_predicted"][rows], panel["energy_real"][rows]))


def _spearman_counts(panel: Panel) -> np.ndarray:
    return panel.one(
        lambda rows: gene_agreement.n_significant_spearman(
            panel["n_significant_predicted"][rows], panel["n_significant_real"][rows]
        )
    )


def _top(metric: str, n: int | None) -> Metric:
    function = gene_agreement.overlap_at_n if metric == "overlap" else gene_agreement.precision_at_n
    return Metric(
        f"{metric}_at_{n or 'N'}",
        "differential expression",
        "higher",
        ("tables",),
        _of_tables(function, CELL_EVAL, n=n, empty=0.0),
        panels=_CELL_EVAL,
    )


def _genes(name: str, function: Callable, direction: Direction = "higher", **options: object) -> Metric:
    return Metric(
        name,
        "differential expression",
        direction,
        ("tables",),
        _of_tables(function, CELL_EVAL, **options),
        panels=_CELL_EVAL,
    )


_AGREEMENT: tuple[tuple[str, Direction, Callable], ...] = (
    ("overlap_at_n", "higher", gene_agreement.overlap_at_n),
    ("precision_at_n", "higher", gene_agreement.precision_at_n),
    ("n_sig_ratio", "one", gene_agreement.n_significant_ratio),
    ("direction_match", "higher", gene_agreement.direction_match),
)

_OURS = (
    Metric("pearson_delta", "delta", "higher", _DELTA, _of_means(delta.pearson_delta, *_DELTA), panels=_CELL_EVAL),
    Metric("mse_delta", "delta", "lower", _DELTA, _of_means(delta.mse_delta, *_DELTA), panels=_CELL_EVAL),
    Metric("mae_delta", "delta", "lower", _DELTA, _of_means(delta.mae_delta, *_DELTA), panels=_CELL_EVAL),
    *(
        Metric(name, "differential expression", direction, ("de_real", "de_predicted"), _of_tables(function, TRANSPERT))
        for name, direction, function in _AGREEMENT
    ),
    Metric("energy_distance", "distribution", "lower", _CELLS, lambda c: energy_distance(c.predicted, c.real)),
    Metric(
        "energy_distance_squared",
        "distribution",
        "lower",
        _CELLS,
        lambda c: energy_distance(c.predicted, c.real, squared=True),
    ),
    Metric("mmd_rbf", "distribution", "lower", _CELLS, lambda c: maximum_mean_discrepancy(c.predicted, c.real)),
    Metric("variance_ratio", "integrity", "one", _CELLS, lambda c: variance_ratio(c.predicted.cells, c.real.cells)),
    Metric(
        "zero_fraction_gap", "integrity", "lower", _CELLS, lambda c: zero_fraction_gap(c.predicted.cells, c.real.cells)
    ),
)

_OF_CELL_EVAL = (
    Metric("mse", "delta", "lower", _MEAN, _of_means(delta.mse, *_MEAN), panels=_CELL_EVAL),
    Metric("mae", "delta", "lower", _MEAN, _of_means(delta.mae, *_MEAN), panels=_CELL_EVAL),
    *(
        Metric(
            f"discrimination_score_{metric}",
            "discrimination",
            "higher",
            _DELTA,
            _discrimination(metric),
            level="panel",
            panels=_CELL_EVAL,
        )
        for metric in ("l1", "l2", "cosine")
    ),
    Metric(
        "pearson_edistance",
        "distribution",
        "higher",
        ("energy_predicted", "energy_real"),
        _pearson_energy,
        level="panel",
        per="context",
        panels=_CELL_EVAL,
    ),
    *(_top(metric, n) for metric in ("overlap", "precision") for n in (None, 50, 100, 200, 500)),
    Metric(
        "de_spearman_sig",
        "differential expression",
        "higher",
        ("n_significant_predicted", "n_significant_real"),
        _spearman_counts,
        level="panel",
        per="context",
        panels=_CELL_EVAL,
    ),
    _genes("de_direction_match", gene_agreement.direction_match),
    _genes("de_spearman_lfc_sig", gene_agreement.fold_change_spearman),
    _genes("de_sig_genes_recall", gene_agreement.significant_recall),
    _genes("de_nsig_counts_real", _count, "none", side="real"),
    _genes("de_nsig_counts_pred", _count, "none", side="pred"),
    _genes("pr_auc", gene_agreement.area_under_curve, curve="pr"),
    _genes("roc_auc", gene_agreement.area_under_curve, curve="roc"),
)


def _challenge(name: str, function: Callable, direction: Direction = "higher") -> Metric:
    return Metric(
        name,
        "challenge",
        direction,
        ("tables",),
        lambda c: float(function(*c.tables(CHALLENGE_2026), targets=c.targets)),
        panels=("vcc2026",),
        counts=True,
    )


def _pds_cosine(panel: Panel) -> np.ndarray:
    return panel.each(
        lambda rows: discrimination.discrimination_score(
            panel["bulk_predicted"][rows] - panel["bulk_controls"][rows],
            panel["bulk_real"][rows] - panel["bulk_controls"][rows],
            metric="cosine",
            targets=[panel.targets[row] for row in rows],
            remove="all",
            ties="middle",
            denominator="n-1",
        )
    )


_BULK = ("bulk_predicted", "bulk_real", "bulk_controls")
_NOISE = ("noise_predicted", "noise_real", "noise_controls")


def _nmse(panel: Panel) -> np.ndarray:
    return panel.one(
        lambda rows: pseudobulk.normalised_error(
            *pseudobulk.noise_corrected_errors(
                *(panel[name][rows] for name in (*_BULK, *_NOISE)), targets=[panel.targets[row] for row in rows]
            )
        )
    )


_OF_CHALLENGE = (
    Metric("pds_cosine", "challenge", "higher", _BULK, _pds_cosine, level="panel", panels=("vcc2026",), counts=True),
    Metric(
        "nmse",
        "challenge",
        "lower",
        (*_BULK, *_NOISE),
        _nmse,
        level="panel",
        per="context",
        panels=("vcc2026",),
        counts=True,
    ),
    _challenge("direction_fidelity", challenge.direction_fidelity),
    _challenge("direction_reach", challenge.direction_reach),
    _challenge("sig_jaccard", challenge.significant_jaccard),
    _challenge("lfc_nmae", challenge.fold_change_error, "lower"),
)


def _weighted(function: Callable) -> Callable[[Comparison], float]:
    return lambda c: float(function(c.delta_predicted, c.delta_real, calibrated.effect_weights(c.z_real))[0])


def _within_contexts(function: Callable, *names: str) -> Callable[[Panel], np.ndarray]:
    return lambda panel: panel.each(lambda rows: function(*(panel[name][rows] for name in names)))


def _across_contexts(function: Callable) -> Callable[[Panel], np.ndarray]:
    return lambda panel: function(panel["delta_predicted"], panel["delta_real"], panel.context, panel.perturbation)


_CALIBRATED = ("calibrated",)
_WEIGHTED = (*_DELTA, "z_real")

_BEYOND_THE_MEAN = (
    Metric("weighted_mse", "calibrated", "lower", _WEIGHTED, _weighted(calibrated.weighted_mse), panels=_CALIBRATED),
    Metric(
        "weighted_r2_delta", "calibrated", "higher", _WEIGHTED, _weighted(calibrated.weighted_r2), panels=_CALIBRATED
    ),
    Metric(
        "normalised_inverse_rank",
        "calibrated",
        "higher",
        _DELTA,
        _within_contexts(discrimination.normalised_inverse_rank, *_DELTA),
        level="panel",
        panels=_CALIBRATED,
    ),
    Metric(
        "systema_pearson_delta",
        "systema",
        "higher",
        _MEAN,
        _within_contexts(systema.pearson_delta_perturbed, *_MEAN),
        level="panel",
        panels=_CALIBRATED,
    ),
    Metric(
        "centroid_accuracy",
        "systema",
        "higher",
        _MEAN,
        _within_contexts(systema.centroid_accuracy, *_MEAN),
        level="panel",
        panels=_CALIBRATED,
    ),
    *(
        Metric(
            f"top_{name}_{label}",
            "rare tails",
            "higher",
            _DELTA,
            lambda c, function=function, share=share: float(function(c.delta_predicted, c.delta_real, share=share)[0]),
        )
        for name, function in (
            ("recall", rare_tails.top_recall),
            ("average_precision", rare_tails.top_average_precision),
        )
        for label, share in (("0.1%", 0.001), ("1%", 0.01))
    ),
    Metric(
        "unique_gene_error",
        "rare tails",
        "lower",
        (*_DELTA, "significant_real"),
        _within_contexts(rare_tails.unique_gene_error, *_DELTA, "significant_real"),
        level="panel",
    ),
    Metric(
        "residual_pearson",
        "residuals",
        "higher",
        _DELTA,
        _across_contexts(residuals.residual_pearson),
        level="panel",
    ),
    Metric("residual_r2", "residuals", "higher", _DELTA, _across_contexts(residuals.residual_r2), level="panel"),
)

ENTRIES: tuple[Metric, ...] = (*_OURS, *_OF_CELL_EVAL, *_OF_CHALLENGE, *_BEYOND_THE_MEAN)
