"""Time and memory of predictions that are written straight into a store, for more and more conditions.

``python benchmarks/throughput/prediction.py --conditions 100 1000`` prints one JSON line for each number of
conditions. Every one is predicted in a process of its own, whose peak memory is taken; the model is the one of
``models.py``, trained for a few steps on as many perturbations as will be predicted at most.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from datetime import date
from pathlib import Path

from alone import run_alone
from generate import N_GENES, write_cells
from models import transpert_model
from run import ROOT, machine

TRAINED_CELLS, CELLS_PER_CONDITION = 20_000, 100  # the least, and so many that no group is too small
WARM_UP_CELLS = 64


def measure(path: Path, out: Path, n_conditions: int, n_cells: int) -> dict:
    """Predict so many conditions in one context, and say how long it took and how much memory there was at most."""
    import resource

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

    model = transpert_model(path)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, early_stopping=False)
    labels = [label for label in model.vocabulary.labels if label != "non-targeting"][:n_conditions]
    model.predict({"cell_type": "a"}, labels[:1], n_cells=WARM_UP_CELLS, progress=False)  # code is compiled
    before, start = peak(), time.perf_counter()
    model.predict_to_store(out, {"cell_type": "a"}, labels, n_cells=n_cells, include_controls=False, progress=False)
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    shutil.rmtree(out)
    n_predicted = len(labels) * n_cells
    return {
        "row": "prediction into a store",
        "conditions": len(labels),
        "cells": n_predicted,
        "genes": len(model.genes),
        "seconds": seconds,
        "cells_per_s": n_predicted / seconds,
        "memory_before_gb": before,
        "memory_gb": peak(),
        "gb_on_disk": size / 1e9,
    }


def write_page(page: Path, rows: list[dict], command: str, n_genes: int) -> None:
    """Write the page of the documentation."""
    lines = [
        "# Throughput of predictions into a store",
        "",
        f"Measured on {date.today()} on {machine()}, with `{command}`.",
        "",
        f"`predict_to_store` of SCALE (one network as deep as in the preset small, gate 0.5, {n_genes:,} genes): log1p",
        "values and integer counts of every cell as CSR, compressed. Memory is the peak of the process, with the",
        "imported libraries and the cells it was trained on; before it stands the peak when prediction began.",
        "",
        "| conditions | cells | seconds | cells/s | memory before, GB | memory, GB | GB on disk |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['conditions']:,} | {row['cells']:,} | {row['seconds']:,.0f} | {row['cells_per_s']:,.0f} "
        f"| {row['memory_before_gb']:.2f} | {row['memory_gb']:.2f} | {row['gb_on_disk']:.2f} |"
        for row in rows
    ]
    page.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure each number of conditions in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conditions", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--cells", type=int, default=1000, help="cells of each condition")
    parser.add_argument("--genes", type=int, default=N_GENES)
    parser.add_argument("--folder", type=Path, default=ROOT / ".peers", help="data and results")
    parser.add_argument("--page", type=Path, help="write the page of the documentation to this file")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # what a process of its own is asked for
    arguments = parser.parse_args()
    data = arguments.folder / "data"
    most = max(arguments.conditions)
    path = data / f"screen-{most}-{arguments.genes}.h5ad"
    if arguments.one:
        out = data / f"predicted-{os.getpid()}.zarr"
        print(json.dumps(measure(path, out, arguments.one, arguments.cells)))
        return
    data.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        n_cells = max(TRAINED_CELLS, CELLS_PER_CONDITION * most)
        write_cells(path, n_cells, n_perturbations=most, n_genes=arguments.genes, dense=False)
    rows = []
    sizes = " ".join(map(str, arguments.conditions))
    for n_conditions in arguments.conditions:
        rows.append(
            run_alone(
                __file__, "--conditions", *sizes.split(), "--cells", str(arguments.cells),
                "--genes", str(arguments.genes), "--folder", str(arguments.folder), "--one", str(n_conditions),
            )
        )  # fmt: skip
        print(json.dumps({**rows[-1], "machine": machine(), "date": str(date.today())}), flush=True)
    if arguments.page:
        options = f"--conditions {sizes} --cells {arguments.cells} --genes {arguments.genes}"
        command = f"python benchmarks/throughput/prediction.py {options}"
        write_page(arguments.page, rows, command, arguments.genes)


if __name__ == "__main__":
    main()
