"""Effect shares of simulated screens against their truth.

``python -m benchmarks.scaling.shares [MORE [SEEDS [SCREEN]]]``

The truth of a screen is what the same screen shows with so many (forty) times as many cells; the seeds 0 and 1 by
default, ``24-43`` for others; of all ten screens, or of the one with a number from 0 to 9.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import transpert as tp

SCREENS = [
    {"dependence": 0.0, "systematic_effect": 0.5},
    {"dependence": 0.5},
    {"dependence": 1.0},
    {"dependence": 1.0, "context_dependence": "nonlinear"},
    {"dependence": 0.5, "effect_size": 0.3},
    {"dependence": 0.5, "effect_size": 0.3, "systematic_effect": 1.0},
    {"dependence": 0.5, "n_contexts": 2},
    {"dependence": 1.0, "n_contexts": 3, "effect_size": 0.3},
    {"dependence": 0.5, "n_cells": 12, "n_control_cells": 24},
    {"dependence": 0.5, "effect_size": 0.1},
]
COMMON = {"n_contexts": 5, "n_perturbations": 15, "n_genes": 300, "n_cells": 50}


def energies(adata) -> pd.Series:
    found = tp.tl.effect_shares(adata, context_keys="context", n_bootstrap=0, n_splits=5)
    return found.shares["energy"]


def errors(seeds=(0, 1), more: int = 40, screens=()) -> pd.DataFrame:
    """One row a screen: estimated and true shares of what is conserved, of the interaction and of noise."""
    rows = []
    for number in screens or range(len(SCREENS)):
        options = SCREENS[number]
        for seed in seeds:
            chosen = {**COMMON, **options, "seed": 100 * number + seed}
            measured = energies(tp.datasets.simulate(**chosen))
            many = {key: more * chosen[key] for key in ("n_cells", "n_control_cells") if key in chosen}
            truth = energies(tp.datasets.simulate(**{**chosen, **many}))
            response = measured["signal"] + measured["noise"]  # as it was measured, without any splitting
            row = {"screen": str(options), "seed": seed}
            for part in ("conserved", "interaction"):
                row |= {part: measured[part] / response, f"true_{part}": truth[part] / response}
            rows.append({**row, "noise": measured["noise"] / response, "true_noise": 1 - truth["signal"] / response})
    table = pd.DataFrame(rows)
    for part in ("conserved", "interaction", "noise"):
        table[f"error_{part}"] = (table[part] - table[f"true_{part}"]).abs()
    return table


def main(more: str = "40", seeds: str = "0-1", *screens: str) -> None:
    first, last = map(int, seeds.split("-"))
    table = errors(range(first, last + 1), int(more), [int(number) for number in screens])
    columns = [name for name in table if name.startswith("error")]
    print(table.round(3).to_string())
    print("largest error", float(np.max(table[columns])), "mean error", table[columns].mean().round(4).to_dict())


if __name__ == "__main__":
    main(*sys.argv[1:])
