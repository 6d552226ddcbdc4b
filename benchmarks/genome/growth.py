"""How work and memory grow with a screen, by a fit over three sizes; counted, so that a busy machine changes nothing.

``python -m benchmarks.genome.growth`` prints one JSON line a verb and what grows.
"""

from __future__ import annotations

import cProfile
import dataclasses
import json
import pstats
import tracemalloc
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import transpert as tp

from .designs import CONTROL, Screen, design_keys, make_screen

# small enough for every run of the tests, large enough that what is fixed weighs little
SMALL = Screen(contexts=2, perturbations=6, genes=400, cells=8, controls=60, batches=2)
SIZES: dict[str, tuple[int, ...]] = {
    "genes": (400, 800, 1_600),
    "perturbations": (6, 12, 24),
    "contexts": (5, 7, 10),  # with fewer, effects do not follow the contexts
    "cells": (8, 16, 32),
    "batches": (2, 4, 8),
}
# every context is left out for every group: with few groups that takes seconds
BASES = {"contexts": dataclasses.replace(SMALL, perturbations=2)}
type Verb = Callable[[], Any]


def exponent(sizes: Sequence[float], work: Sequence[float]) -> float:
    """Fit ``work = a * size ** exponent`` by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(work, 1)), 1)[0])


def verbs_of(screen: Screen) -> Mapping[str, Verb]:
    """Return what is measured on a screen; each needs what comes before it."""
    adata = make_screen(screen)
    model = tp.KernelTransport
    model.setup_anndata(adata, library_size_key="library_size", **design_keys(screen))
    made = model(adata)
    made.train()
    names = [f"P{i}" for i in range(min(4, screen.perturbations))]
    pred = made.predict(contexts={"context": "line_0"}, perturbations=names, n_cells=40, progress=False)
    real = adata.copy()
    real.layers["counts"] = adata.X.copy()
    real.X = tp.pp.log1p_per_10k(adata.X, adata.obs["library_size"].to_numpy())
    design = tp.groups.Design("perturbation", CONTROL, ("context",))
    return {
        "train": made.train,
        "predict": lambda: made.predict(
            contexts={"context": "line_0"}, perturbations=names, n_cells=40, progress=False
        ),
        "evaluate": lambda: tp.tl.evaluate(pred, real, design=design, n_bootstrap=0, progress=False),
    }


def work_of(verb: Verb) -> dict[str, int]:
    """Return how often functions of this package were called, and the peak of the memory that Python counts, in bytes.

    Calls of the package alone: what numpy does inside them is seen by the peak.
    """
    tracemalloc.start()
    profile = cProfile.Profile()
    try:
        profile.runcall(verb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    of_each: Mapping[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    calls = sum(found[1] for (file, *_), found in of_each.items() if file.startswith(tp.__path__[0]))
    return {"calls": calls, "peak": peak}


def growth(what: str) -> dict[str, dict[str, float]]:
    """Return the exponents with which each verb grows in genes, perturbations, contexts, cells or batches."""
    found: dict[str, list[dict[str, int]]] = {}
    base = BASES.get(what, SMALL)
    for verb in verbs_of(base).values():
        verb()  # what is compiled or imported at the first call is not counted
    for size in SIZES[what]:
        for name, verb in verbs_of(dataclasses.replace(base, **{what: size})).items():
            found.setdefault(name, []).append(work_of(verb))
    return {
        name: {kind: round(exponent(SIZES[what], [row[kind] for row in rows]), 2) for kind in rows[0]}
        for name, rows in found.items()
    }


def main() -> None:
    """Print how everything grows."""
    warnings.simplefilter("ignore")
    for what in SIZES:
        for verb, exponents in growth(what).items():
            print(json.dumps({"verb": verb, "grows with": what, **exponents}), flush=True)


if __name__ == "__main__":
    main()
