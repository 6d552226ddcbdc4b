"""Time and memory of fitting the anchor, and of one group that it left out, for more and more groups.

``python benchmarks/throughput/anchor.py --conditions 100 400`` prints one JSON line for each number of conditions,
every one measured in a process of its own. The effects are made up: only their number matters.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from datetime import date

import numpy as np
from alone import run_alone
from run import machine

from transpert.conditions import Condition
from transpert.transport import AnchorOptions, GroupEffects, PooledStatistics, PopulationMeans, fit_anchor

LEFT_OUT = 20  # groups over whose prediction the time of one is averaged


def made_up_effects(n_contexts: int, n_conditions: int, n_genes: int, seed: int = 0) -> GroupEffects:
    """Effects of every condition in every context; a tenth of the genes answers."""
    rng = np.random.default_rng(seed)
    context, condition = np.divmod(np.arange(n_contexts * n_conditions), n_conditions)
    base = rng.gamma(1, 1, (n_contexts, n_genes))
    answer = rng.normal(0, 0.3, (n_conditions, n_genes)) * (rng.random((n_conditions, n_genes)) < 0.1)
    strength = 1 + 0.3 * rng.normal(size=n_contexts)
    untreated = base[context]
    treated = untreated * np.exp(answer[condition] * strength[context][:, None])

    def means(rate: np.ndarray) -> PopulationMeans:
        return PopulationMeans(np.full(len(rate), 200.0), rate, rate / 200, np.log1p(rate), np.full(rate.shape, 2e-3))

    empty = np.zeros((0, n_genes))
    cells = PooledStatistics(
        np.full(n_contexts, 200.0), np.full(n_contexts, 1e-4), np.arange(n_contexts),
        empty, empty, empty, empty, np.zeros((4, n_genes)), np.zeros(n_genes), np.ones(n_genes),
    )  # fmt: skip
    conditions = [Condition((f"P{number}",), (1.0,)) for number in range(n_conditions)]
    return GroupEffects(
        np.array([f"context {number}" for number in context], dtype=object),
        tuple(conditions[number] for number in condition),
        means(treated),
        means(untreated),
        cells,
    )


def measure(n_contexts: int, n_conditions: int, n_genes: int) -> dict:
    """Fit one anchor and leave some groups out."""
    effects = made_up_effects(n_contexts, n_conditions, n_genes)
    start = time.perf_counter()
    anchor = fit_anchor(effects, AnchorOptions(), np.full(n_genes, 0.3))
    fitted = time.perf_counter()
    rows = np.linspace(0, len(effects) - 1, LEFT_OUT).astype(int)
    anchor.predict_left_out(effects[rows], lambda row: anchor.leave_out(int(rows[row]), "pair"))
    return {
        "row": "anchor",
        "groups": len(effects),
        "genes": n_genes,
        "fit_s": fitted - start,
        "left_out_group_s": (time.perf_counter() - fitted) / LEFT_OUT,
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    """Measure each number of conditions in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, default=50)
    parser.add_argument("--conditions", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--genes", type=int, default=1_000)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # what a process of its own is asked for
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.contexts, arguments.one, arguments.genes)))
        return
    for n_conditions in arguments.conditions:
        sizes = ["--contexts", str(arguments.contexts), "--genes", str(arguments.genes), "--one", str(n_conditions)]
        row = run_alone(__file__, *sizes)
        print(json.dumps({**row, "machine": machine(), "date": str(date.today())}), flush=True)


if __name__ == "__main__":
    main()
