"""Time and memory of a training from a store, with the same number of steps on more and more cells.

Run by ``run.py``; every size is trained in a process of its own, of which the peak memory is taken.
"""

from __future__ import annotations

import json
from pathlib import Path

from alone import run_alone

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
model = SCALE(store, joining=JoiningOptions(folds=1, gate=0.5),
              training=TrainingOptions(steps=steps, steps_per_epoch=steps, set_size=64, sets_per_batch=8))
start, used = time.perf_counter(), time.process_time()
model.train(accelerator="cpu", early_stopping=False, enable_progress_bar=False)
print(json.dumps({"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - used,
                  "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
"""

_FILE = """
import sys
from pathlib import Path
from generate import write_cells
write_cells(Path(sys.argv[1]), int(sys.argv[2]), n_perturbations=int(sys.argv[3]), dense=False)
print("{}")
"""

_BUILD = """
import json, resource, sys, time
from loaders import _design
from transpert.data import build_store
start, used = time.perf_counter(), time.process_time()
n_cells = build_store([sys.argv[1]], sys.argv[2], _design()).n_obs
print(json.dumps({"row": "store build from CSR h5ad", "cells": n_cells, "ours": "transpert",
                  "ours_cells_per_s": n_cells / (time.perf_counter() - start),
                  "ours_cells_per_processor_s": n_cells / (time.process_time() - used),
                  "ours_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
"""

_EPOCHS = """
import json, resource, sys, time
from pathlib import Path
from loaders import transpert_store
batches, found = transpert_store(Path(sys.argv[1])), []
for epoch in range(int(sys.argv[2])):
    start, n_cells = time.perf_counter(), 0
    for n in batches(epoch):
        n_cells += n
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e9
    found.append({"epoch": epoch, "cells_read": n_cells, "cells_per_s": n_cells / (time.perf_counter() - start),
                  "resident_gb": resident})
print(json.dumps(found))
"""


def measure_build(path: Path) -> list[dict]:
    """Build the store of a file in a process of its own, and return its row; none if the store is there."""
    out = path.with_suffix(".zarr")
    return [] if out.exists() else [run_alone("-c", _BUILD, str(path), str(out))]


def measure_growth(data: Path, sizes: list[int], *, repeats: int = 3) -> list[dict]:
    """Train on stores of several sizes, in turn, and return a row for each."""
    stores = {n_cells: _store(data, n_cells) for n_cells in sizes}
    found: dict[int, list[dict]] = {n_cells: [] for n_cells in sizes}
    for _ in range(repeats):
        for n_cells, store in stores.items():
            found[n_cells].append(run_alone("-c", _CODE, str(store), str(STEPS)))
    rows = []
    for n_cells, results in found.items():
        # what else runs only makes it longer; the time of the processor knows least of it
        best = min(results, key=lambda result: result["processor_seconds"])
        rows.append({"row": f"training from a store, {STEPS} steps", "cells": n_cells, "ours": "transpert", **best})
    return rows


def measure_epochs(data: Path, n_cells: int, *, n_epochs: int = 3) -> list[dict]:
    """Read all sets of some epochs from a store, and return speed and resident memory after each."""
    found = run_alone("-c", _EPOCHS, str(_store(data, n_cells)), str(n_epochs))
    return [{"row": "all sets of an epoch from a store", "cells": n_cells, "ours": "transpert", **row} for row in found]


def _store(data: Path, n_cells: int) -> Path:
    """Make a store, by processes of their own for the file and for the store, and say how fast that was."""
    file = data / f"growth-{n_cells}.h5ad"
    out = file.with_suffix(".zarr")
    if not out.exists():
        run_alone("-c", _FILE, str(file), str(n_cells), str(N_PERTURBATIONS))
        for row in measure_build(file):
            print(json.dumps(row), flush=True)
        file.unlink()
    return out
