"""The registry: complete, documented, and indifferent to everything that should not matter."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transpert import metrics
from transpert.errors import MetricInputError

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def draw(seed: int, n_genes: int = 48) -> list[dict]:
    """Three perturbations in two contexts: continuous values, so that nothing is tied."""
    rng = np.random.default_rng(seed)
    found = []
    for context in "ab":
        controls = rng.gamma(1, 1, (60, n_genes))
        for p in range(3):
            shift = np.exp(rng.normal(0, 2, n_genes) * (rng.random(n_genes) < 0.6))
            pair = [rng.gamma(1, 1, (50, n_genes)) * shift for _ in range(2)]
            found.append({"cells": (*pair, controls), "labels": (f"p{p}", context), "targets": (p,)})
    return found


def score(drawn: list[dict], names="all", genes=None, order=lambda cells: cells) -> dict[str, np.ndarray]:
    populations: dict[int, metrics.Population] = {}

    def population(counts: np.ndarray) -> metrics.Population:
        if id(counts) not in populations:
            used = order(counts if genes is None else counts[:, genes])
            populations[id(counts)] = metrics.Population(np.log1p(used), used)
        return populations[id(counts)]

    place = {gene: column for column, gene in enumerate(genes)} if genes is not None else None
    return metrics.score_prediction(
        [
            metrics.Comparison(
                *map(population, one["cells"]),
                None,
                *one["labels"],
                tuple(place[t] if place else t for t in one["targets"]),
            )
            for one in drawn
        ],
        names,
    )


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=5)
def test_neither_the_order_of_cells_nor_of_genes_nor_of_perturbations_matters(seed) -> None:
    drawn = draw(seed)
    expected = score(drawn)
    rng = np.random.default_rng(seed)
    results = {
        "cells": score(drawn, order=lambda cells: cells[::-1]),
        "genes": score(drawn, genes=rng.permutation(48)),
    }
    order = np.array([2, 0, 1, 5, 3, 4])
    shuffled = score([drawn[row] for row in order])
    results["perturbations"] = {
        name: values if metrics.METRICS[name].per == "context" else values[np.argsort(order)]
        for name, values in shuffled.items()
    }
    for what, found in results.items():
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-8, err_msg=f"{name}, {what}")


def test_the_truth_beats_the_truth_of_another_perturbation() -> None:
    drawn = draw(0)
    right = [{**one, "cells": (one["cells"][1], *one["cells"][1:])} for one in drawn]
    wrong = [{**one, "cells": (drawn[(p + 1) % 6]["cells"][1], *one["cells"][1:])} for p, one in enumerate(drawn)]
    best, worse = score(right), score(wrong)
    for name, metric in metrics.METRICS.items():
        if metric.direction == "none":
            assert not metric.better(1, 0)
            continue
        a, b = np.nanmean(best[name]), np.nanmean(worse[name])
        assert a == pytest.approx(b) or metric.better(a, b), name
    # equal only where nothing can be told apart: all genes count, or neither prediction is worse than the other
    assert sum(np.nanmean(best[name]) != pytest.approx(np.nanmean(worse[name])) for name in best) > 35


def test_a_context_is_scored_as_if_it_were_alone() -> None:
    drawn = draw(1)
    both = score(drawn)
    alone = [score(drawn[:3]), score(drawn[3:])]
    for name, metric in metrics.METRICS.items():
        if metric.family != "residuals":  # those compare contexts
            np.testing.assert_allclose(both[name], np.concatenate([part[name] for part in alone]), err_msg=name)


def test_ranges_hold() -> None:
    found = score(draw(2))
    for name in [*metrics.PANELS["cell-eval"], *metrics.PANELS["vcc2026"], *metrics.PANELS["calibrated"]]:
        values = found[name][np.isfinite(found[name])]
        metric = metrics.METRICS[name]
        if metric.direction == "higher":
            assert values.max(initial=0) <= 1 + 1e-9, name
        elif name != "nmse":
            assert values.min(initial=0) >= 0, name


def test_what_a_metric_needs_exists() -> None:
    for metric in metrics.METRICS.values():
        assert metric.needs and all(hasattr(metrics.Comparison, n) or n in ("predicted", "real") for n in metric.needs)
    assert metrics.METRICS["mse"] in metrics.resolve_metrics("cell-eval")
    assert set(metrics.PANELS["all"]) == set(metrics.METRICS)


def test_metrics_of_counts_say_that_they_need_counts() -> None:
    cells = np.random.default_rng(0).random((3, 9, 4))
    for name in metrics.PANELS["vcc2026"]:
        with pytest.raises(MetricInputError, match="computed from raw counts, and there are none"):
            metrics.score_prediction([metrics.Comparison(*cells)], [name])


def test_a_panel_says_what_is_wrong_with_it() -> None:
    cells = np.random.default_rng(0).random((3, 9, 4))
    one = metrics.summarise(metrics.Comparison(*cells, perturbation="a"), ["mean_real"])
    other = metrics.summarise(metrics.Comparison(*cells, perturbation="b"), ["mean_predicted"])
    fewer = metrics.summarise(metrics.Comparison(*cells[:, :, :3], perturbation="b"), ["mean_real"])
    for summaries, message in (
        ([], "there is no population"),
        ([one, one], "more than once: ' / a'"),
        ([one, other], "hold different values"),
        ([one, fewer], "different numbers of genes"),
    ):
        with pytest.raises(MetricInputError, match=message):
            metrics.Summaries.gather(summaries)
    with pytest.raises(MetricInputError, match="'delta_real' was not kept"):
        metrics.Summaries.gather([one])["delta_real"]


def test_every_metric_is_on_its_page_and_nothing_else() -> None:
    rows = [line.split(" | ")[0] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([^`]+)`", " ".join(rows)))
    assert named == set(metrics.METRICS)


def test_every_public_function_shows_how_it_is_called() -> None:
    functions = {name: value for name, value in vars(metrics).items() if inspect.isfunction(value)}
    assert functions
    assert not [name for name, function in functions.items() if ">>> " not in inspect.getdoc(function)]


def test_a_metric_is_one_entry_beside_its_function() -> None:
    from transpert.metrics import integrity, registry

    added = metrics.Metric("largest_value", "integrity", "none", ("predicted",), lambda c: c.predicted.cells.max())
    listed = integrity.ENTRIES
    try:
        integrity.ENTRIES = (*listed, added)
        assert added in registry._find_entries()
    finally:
        integrity.ENTRIES = listed
    assert len({metric.name for metric in registry._find_entries()}) == len(registry._find_entries())
