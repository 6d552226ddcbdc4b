"""Time of learning how effects follow embeddings: ``python -m benchmarks.genome.embeddings``."""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from transpert.conditions import Condition, Embedding
from transpert.transport import PerturbationRidge
from transpert.transport.coefficients import EffectTable

from .growth import exponent

GENES, DIMENSIONS, SPACES = 2_000, 64, ("log1p", "log_fold")


def measure(n: int, seed: int = 0) -> float:
    """Return the CPU seconds of a fit to the effects of ``n`` perturbations in one context, in two spaces."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, DIMENSIONS))
    effects = 0.1 * vectors @ rng.normal(size=(DIMENSIONS, GENES)) + rng.normal(size=(n, GENES))
    names = tuple(f"P{i}" for i in range(n))
    conditions = tuple(Condition((name,)) for name in names)
    table = EffectTable(np.array(["c"] * n, dtype=object), conditions, np.full(n, 50.0), np.zeros((n, GENES)))
    by_space = {space: effects + 0.1 * rng.normal(size=effects.shape) for space in SPACES}
    used = time.process_time()
    PerturbationRidge.fit(table, by_space, dict.fromkeys(SPACES, np.ones_like(effects)), Embedding(names, vectors))
    return time.process_time() - used


def main() -> None:
    """Print a JSON line for each number of perturbations, and the exponent over all."""
    sizes = [int(size) for size in sys.argv[1:]] or [200, 800, 3_200]
    measure(100)  # what is loaded at the first call is not counted
    found = [measure(size) for size in sizes]
    for size, seconds in zip(sizes, found, strict=True):
        print(json.dumps({"perturbations": size, "cpu_s": round(seconds, 2)}))
    print(json.dumps({"exponent": round(exponent(sizes, 1e6 * np.array(found)), 2)}))


if __name__ == "__main__":
    main()
