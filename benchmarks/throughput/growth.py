"""Time and memory of a training from a store, with the same number of steps on more and more cells.

Run by ``run.py``; every size is trained in a process of its own, of which the peak memory is taken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

STEPS = 150
N_PERTURBATIONS = 20  # the same for all sizes: more cells, not more conditions

_CODE = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
from transpert.data import Store
from transpert.model import SCALE, JoiningOptions, TrainingOptions
store = Store(sys.argv[1])
SCALE.setup_store(store)
steps = int(sys.argv[2])
model = SCALE(store, joining=JoiningOptions(members=1, gate=0.5),
              training=TrainingOptions(steps=steps, steps_per_epoch=steps, set_size=64, sets_per_batch=8))
start, used = time.perf_counter(), time.process_time()
model.train(accelerator="cpu", early_stopping=False, enable_progress_bar=False)
print(json.dumps({"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - used,
                  "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
"""


def measure_growth(data: Path, sizes: list[int], *, repeats: int = 3) -> list[dict]:
    """Train on stores of several sizes, in turn, and return a row for each."""
    stores = {n_cells: _store(data, n_cells) for n_cells in sizes}
    found: dict[int, list[dict]] = {n_cells: [] for n_cells in sizes}
    for _ in range(repeats):
        for n_cells, store in stores.items():
            found[n_cells].append(_run(_CODE, str(store), str(STEPS)))
    rows = []
    for n_cells, results in found.items():
        # what else runs only makes it longer; the time of the processor knows least of it
        best = min(results, key=lambda result: result["processor_seconds"])
        rows.append({"row": f"training from a store, {STEPS} steps", "cells": n_cells, "ours": "transpert", **best})
    return rows


def _store(data: Path, n_cells: int) -> Path:
    out = data / f"growth-{n_cells}.zarr"
    if not out.exists():
        code = (
            "import json, resource, sys, time; from pathlib import Path; from generate import write_cells;"
            "from loaders import _design; from transpert.data import build_store;"
            "path = Path(sys.argv[1]).with_suffix('.h5ad');"
            f"write_cells(path, int(sys.argv[2]), n_perturbations={N_PERTURBATIONS}, dense=False);"
            "start = time.perf_counter(); build_store([path], sys.argv[1], _design());"
            "seconds = time.perf_counter() - start; path.unlink();"
            "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6;"
            "print(json.dumps({'cells_per_s': int(sys.argv[2]) / seconds, 'memory_gb': peak}))"
        )
        built = _run(code, str(out), str(n_cells))
        print(json.dumps({"row": "store build from CSR h5ad", "cells": n_cells, **built}), file=sys.stderr)
    return out


def _run(code: str, *arguments: str) -> dict:
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1] / "src"), str(here)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])
