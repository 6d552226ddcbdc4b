"""How the weights of the losses were looked at: by groups that each network leaves out of its training.

    python -m benchmarks.loss_weights --data FOLDER --page docs/benchmarks/loss_weights.md

Test populations are not looked at: of Kang those of one cell type are taken out first, the simulated screen is none of
the tasks. Every weight is changed by itself.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import anndata
import numpy as np
from benchmarks.quality.cells import cells_of, setup_arguments
from benchmarks.quality.configuration import load_tasks
from benchmarks.quality.running import machine

import transpert as tp
from transpert.nn import LossOptions

# a term with a weight of 0 is not computed, and then is not in the history either
_OFF = 1e-6
CHOICES = [
    ("default", {}),
    ("mean_shift 0", {"mean_shift": _OFF}),
    ("mean_shift 1", {"mean_shift": 1.0}),
    ("mean_shift 30", {"mean_shift": 30.0}),
    ("set_level 0", {"set_level": _OFF}),
    ("set_level 3", {"set_level": 3.0}),
    ("decoded_endpoint 0", {"decoded_endpoint": _OFF}),
    ("endpoint 0", {"endpoint": _OFF}),
    ("endpoint 3", {"endpoint": 3.0}),
]
TERMS = ("mean_shift", "set_level", "decoded_endpoint")
SIMULATED = {
    "n_contexts": 18, "n_perturbations": 6, "n_genes": 200, "n_cells": 30, "n_control_cells": 100,
    "context_dependence": "nonlinear", "dependence": 1.0, "n_programmes": 2, "context_spread": 0.7, "seed": 1006,
}  # fmt: skip


def screens(data: Path) -> Iterator[tuple[str, anndata.AnnData, dict]]:
    """The training cells, and how they are set up."""
    task = load_tasks()["kang_unseen_type"]
    split = next(split for split in task.splits if split.name == "CD14 Mono")
    yield "Kang without CD14 Mono", cells_of(task, split, data), setup_arguments(task)
    keys = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}
    yield "simulated, 18 contexts x 6", tp.datasets.simulate(**SIMULATED), keys


def measure(adata: anndata.AnnData, setup: dict, weights: dict, seed: int) -> dict[str, float]:
    """Train, and say how well the networks predict what they left out."""
    tp.SCALE.setup_anndata(adata, **setup)
    losses = LossOptions(**weights)
    model = tp.SCALE(adata, losses=losses, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(enable_progress_bar=False, enable_model_summary=False, logger=False, accelerator="cpu")
    last = {term: float(np.ravel(model.history[f"validation_{term}"])[-1]) for term in TERMS}
    return {"correlation": float(model.gate_table["network"].mean()), **last}


def write_page(page: Path, rows: list[dict], command: str) -> None:
    """Write the page of the documentation."""
    lines = [
        "# Weights of the losses",
        "",
        f"Measured on {date.today()} on {machine()}, with `{command}`.",
        "",
        "SCALE divides its training groups into folds and trains a network without each. Here the networks of every",
        "choice predict the groups that they left out: correlation of the mean shift over genes (mean of groups), and",
        "the unweighted terms of the loss on sets of these groups at the end of training. No test population is looked",
        "at. One weight is changed at a time; by default `mean_shift` is 10 and `endpoint`, `decoded_endpoint` and",
        "`set_level` are 1. Means over the seeds.",
        "",
        "| screen | weights | correlation | mean shift | set level (energy distance) | decoded endpoint |",
        "|---|---|---|---|---|---|",
    ]
    for screen, name in dict.fromkeys((row["screen"], row["weights"]) for row in rows):
        own = [row for row in rows if (row["screen"], row["weights"]) == (screen, name)]
        values = {key: np.array([row[key] for row in own]) for key in ("correlation", *TERMS)}
        lines.append(f"| {screen} | {name} | " + " | ".join(f"{v.mean():.4f}" for v in values.values()) + " |")
    lines += [
        "",
        "The mean shift wants a large weight, the shape of the populations a small one. A weight stays where no change",
        "of it makes the correlation clearly better, and the energy distance is not given away for it.",
    ]
    page.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--page", type=Path, help="write the page of the documentation to this file")
    arguments = parser.parse_args()
    rows = []
    for screen, adata, setup in screens(arguments.data):
        for name, weights in CHOICES:
            for seed in arguments.seeds:
                found = measure(adata, setup, weights, seed)
                rows.append({"screen": screen, "weights": name, "seed": seed, **found})
                print(json.dumps(rows[-1]), flush=True)
    if arguments.page:
        seeds = " ".join(map(str, arguments.seeds))
        write_page(arguments.page, rows, f"python -m benchmarks.loss_weights --data FOLDER --seeds {seeds}")


if __name__ == "__main__":
    main()
