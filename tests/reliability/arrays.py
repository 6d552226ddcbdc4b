"""Public functions on arrays, and options: each with arguments that it takes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import transpert as tp

type Listed = tuple[str, Callable[..., Any], Callable[[], dict[str, Any]]]

N_GENES = 6
OPTIONS = [
    tp.model.ScaleOptions, tp.model.JoiningOptions, tp.model.TrainingOptions, tp.nn.ConditionOptions,
    tp.nn.DecoderOptions, tp.nn.EncoderOptions, tp.nn.FlowOptions, tp.nn.LossOptions, tp.nn.NetworkOptions,
    tp.nn.SetOptions, tp.transport.AnchorOptions, tp.transport.ReadoutOptions, tp.tl.AuditLimits,
    tp.tl.EvaluationOptions, tp.metrics.Convention, tp.datasets.SimulationOptions, tp.transport.Dependence,
]  # fmt: skip


def _values() -> dict[str, Any]:
    """Return a value for each name of an argument, where it means the same for all functions that have it."""
    rng = np.random.default_rng(0)
    effects, cells = rng.normal(size=(4, N_GENES)), np.log1p(rng.poisson(3.0, size=(9, N_GENES)))
    contexts, perturbations = ["a", "a", "b", "b"], ["x", "y", "x", "y"]
    return {
        "predicted": effects, "real": effects * 0.5 + 0.1, "weights": np.abs(effects), "scores": np.abs(effects),
        "positive": np.ones(4), "negative": np.zeros(4), "perfect": np.ones(4) * 2, "controls": cells,
        "cells": cells, "other": cells + 1.0, "counts": np.expm1(cells).round(), "total": 1e4, "contexts": contexts,
        "perturbations": perturbations, "targets": None, "reference": None, "significant": effects > 0,
        "noise_predicted": np.ones(4), "noise_real": np.ones(4), "noise_controls": np.ones(1),
        "effects": effects, "values": np.arange(4.0), "value": 0.5, "baseline": 0.1, "ceiling": 0.9,
        "direction": "higher", "metrics": "default", "populations": [cells, cells + 1.0], "scales": (0.5, 1.0),
        "labels": np.array(perturbations), "points": effects, "rng": np.random.default_rng(0), "boxes": 0.5,
        "own": np.arange(5), "share": 0.5, "signature": effects[0], "before": np.abs(effects[0]),
        "target": np.abs(effects[1]), "pseudo_rate": 0.05, "members": effects[0] > 0, "vectors": effects,
        "measured": np.arange(4), "ranked": ["x", "y"], "relevant": ["x"], "at": (1, 2), "sizes": np.arange(1.0, 5.0),
        "runs": rng.random((4, 2)), "floor": 0.0, "n_bootstrap": 5, "seed": 0, "variances": np.abs(effects),
        "n": 2, "empty": 0.0, "curve": "pr", "purity": 0.9, "min_genes": 1, "squared": False, "self_pairs": False,
        "metric": "l1", "remove": "own", "ties": "first", "denominator": "n", "alpha": 0.05, "n_samples": 10,
        "level": 0.9, "max_others": 0, "capped": True, "convention": None, "after": np.abs(effects),
        "rate": np.abs(effects), "dispersion": np.ones(N_GENES), "scale": 1e-3, "mean_log": np.abs(effects),
        "mean_rate": np.abs(effects), "log_fold": effects, "library_size": np.full(9, 20.0),
        "codes": np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), "n_groups": 3, "observed": effects, "prior": None,
        "strength": 0.1, "predictions": {"one": effects, "other": effects * 0.5}, "block": 4,
        "target_mean_log": np.abs(effects[0]), "cell_effects": None, "options": None,
    }  # fmt: skip


def _table(function: str) -> dict[str, Any]:
    """Return the values that mean something else in one function."""
    de = tp.metrics.differential_expression(_values()["cells"] + 1.0, _values()["cells"])
    rng = np.random.default_rng(1)
    named: dict[str, dict[str, Any]] = {
        "n_significant_spearman": {"predicted": np.array([3, 1, 2]), "real": np.array([2, 1, 5])},
        "noise_corrected_errors": {"controls": np.ones((4, N_GENES)), "noise_controls": np.ones(4)},
        "fit_curve": {"scores": rng.random((4, 2, 3))},
        "rank_sums": {"controls": _values()["cells"]},
        "challenge_score": {
            name: {
                **dict.fromkeys(("pds_cosine", "direction_fidelity", "direction_reach", "sig_jaccard"), value),
                **dict.fromkeys(("nmse", "lfc_nmae"), 1 - value),
            }
            for name, value in {"values": 0.5, "baseline": 0.1, "replicate": 0.9}.items()
        },
        "variance_ratio": {"real": _values()["cells"] * 2},
        "zero_fraction_gap": {"real": _values()["cells"] * 2},
        "mean_log_of_rate": {"dispersion": np.ones((4, N_GENES))},
        "shift_mean_log": {"dispersion": np.ones((4, N_GENES))},
        "log_fold_of_means": {"before": np.abs(rng.normal(size=(4, N_GENES)))},
        "unique_gene_error": {"significant": np.ones((4, N_GENES), dtype=bool)},
        "fit_stack": {"weights": np.ones((4, N_GENES))},
        "spiked_order": {"other": np.arange(5)},
        "fit_similarity": {"effects": rng.normal(size=(4, 3))},
        "summary_needs": {"metrics": list(tp.metrics.METRICS.values())[:3]},
    }  # fmt: skip
    of_tests = ("fold_change", "direction", "overlap", "precision", "significant_", "area", "n_significant_ratio")
    if function.startswith(of_tests):
        return {"predicted": de, "real": de, "targets": ()}
    return named.get(function, {})


# given objects that a call makes: they are in the workshop
SKIPPED = {"observed_log_folds", "rank_sums_together", "prepare"}


def of_arrays() -> list[Listed]:
    """Return the functions of the rooms that know arrays alone."""
    found: list[Listed] = []
    for room in (tp.metrics, tp.scaling, tp.transport):
        for name in room.__all__:
            function = getattr(room, name)
            if not inspect.isfunction(function) or name in SKIPPED:
                continue
            known = {**_values(), **_table(name)}
            names = list(inspect.signature(function).parameters)
            if all(each in known for each in names):
                found.append((name, function, lambda names=names, known=known: {each: known[each] for each in names}))
    return found


def of_options() -> list[Listed]:
    """Return the classes of options, each with its defaults."""
    found: list[Listed] = []
    for kind in OPTIONS:
        entries = [entry for entry in dataclasses.fields(kind) if entry.init]
        given = {
            entry.name: entry.default if entry.default is not dataclasses.MISSING else entry.default_factory()
            for entry in entries
            if entry.default is not dataclasses.MISSING or entry.default_factory is not dataclasses.MISSING
        }
        if kind is tp.transport.Dependence:
            given = {"n_components": 2, "penalty": 1.0, "width": None}
        found.append((kind.__name__, kind, lambda given=given: dict(given)))
    return found
