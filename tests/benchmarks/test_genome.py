"""The short form of the genome benchmark: what grows with the screen is counted, not timed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from benchmarks.genome.designs import SCREENS, annotate, design_keys, make_screen
from benchmarks.genome.growth import exponent, growth

from transpert.groups import Design, make_groups, match_controls
from transpert.transport import group_effects, rows_of_groups


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_comes_from_its_seed_alone(name: str) -> None:
    screen = SCREENS[name].short()
    one, other = (annotate(screen, np.random.default_rng(3)) for _ in range(2))
    assert one.equals(other)
    assert one["perturbation"].nunique() == screen.perturbations + 1
    assert set(design_keys(screen).values()) - {"control"} <= set(one.columns)


def test_about_a_tenth_of_the_counts_is_not_zero() -> None:
    adata = make_screen(SCREENS["c"].short())
    assert 0.04 < adata.X.nnz / np.prod(adata.shape) < 0.16
    assert (adata.X.data == np.rint(adata.X.data)).all()


def test_what_is_kept_of_a_pooled_screen_does_not_grow_with_its_batches() -> None:
    sizes = {}
    for batches in (8, 16, 32, 64):
        screen = SCREENS["b"].short()
        obs = annotate(screen, np.random.default_rng(0))
        obs["batch"] = np.random.default_rng(1).integers(0, batches, len(obs)).astype(str)
        design = Design("perturbation", "control", ("context",), batch_key="batch")
        groups = make_groups(obs, design, min_cells=1)
        kept = rows_of_groups(groups).max() + 1
        sizes[batches] = kept
        assert kept == screen.contexts * screen.perturbations + len(groups.control_groups)
    exponent = np.polyfit(np.log(list(sizes)), np.log(list(sizes.values())), 1)[0]
    assert exponent < 0.5  # of every batch on its own it is 1


def test_the_peak_of_effects_does_not_grow_with_the_batches_of_a_pooled_screen() -> None:
    adata = make_screen(SCREENS["b"].short())
    library, peaks = adata.obs["library_size"].to_numpy(), {}
    for batches in (4, 32):
        obs = adata.obs.assign(batch=np.random.default_rng(1).integers(0, batches, adata.n_obs).astype(str))
        groups = make_groups(obs, Design("perturbation", "control", ("context",), batch_key="batch"), min_cells=1)
        matching = match_controls(groups, warn=False)
        tracemalloc.start()
        group_effects(adata.X, library, groups, matching)
        peaks[batches] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    exponent = np.log(peaks[32] / peaks[4]) / np.log(8)
    assert exponent < 0.3, peaks  # with a row for every group it is .87


# what was measured, and a margin of .15; contexts are compared with one another, each with the effects in it
_MOST = {
    ("genes", "train"): (0.2, 1.05),
    ("genes", "predict"): (0.2, 1.0),
    ("genes", "evaluate"): (0.5, 1.1),
    ("perturbations", "train"): (1.15, 1.1),
    ("perturbations", "predict"): (0.2, 0.2),
    ("perturbations", "evaluate"): (0.4, 0.2),
    ("contexts", "train"): (1.4, 1.1),
    ("contexts", "predict"): (0.2, 0.2),
    ("contexts", "evaluate"): (0.4, 0.2),
    ("cells", "train"): (0.2, 0.2),
    ("cells", "predict"): (0.2, 0.2),
    ("cells", "evaluate"): (0.2, 0.5),
    ("batches", "train"): (0.2, 0.3),
    ("batches", "predict"): (0.2, 0.2),
    ("batches", "evaluate"): (0.2, 0.2),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["genes", "perturbations", "contexts", "cells", "batches"])
def test_calls_and_peak_grow_with_a_screen_as_they_did(what: str) -> None:
    for verb, found in growth(what).items():
        calls, peak = _MOST[what, verb]
        assert found["calls"] <= calls, (verb, found)
        assert found["peak"] <= peak, (verb, found)


def test_exponents_are_those_of_powers() -> None:
    sizes = np.array([3.0, 10.0, 40.0])
    assert exponent(sizes, 5 * sizes**1.7) == pytest.approx(1.7)
