"""Many predictions of one model, and models that are used in several threads."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import transpert as tp

KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}
WARM = 20  # predictions after which caches are full


def model_of(kind: Any, seed: int = 0, **options: Any) -> Any:
    """Make and train a small model."""
    cells = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25, seed=seed)
    kind.setup_anndata(cells, **KEYS)
    model = kind(cells, **options)
    model.train()
    return model


def network(seed: int = 0) -> Any:
    """Make a small network, and do not train it."""
    cells = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25, seed=seed)
    tp.SCALE.setup_anndata(cells, **KEYS)
    training = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=6, sets_per_batch=4)
    return tp.SCALE(cells, preset="tiny", joining=tp.model.JoiningOptions(folds=2), training=training, seed=seed)


def train(model: Any) -> Any:
    """Train a network without a bar."""
    model.train(enable_progress_bar=False, accelerator="cpu")
    return model


def values(model: Any, seed: int) -> np.ndarray:
    """Predict one population."""
    return np.asarray(model.predict(perturbations="P0", progress=False, seed=seed).to_df())


def growth(models: list[Any], n: int) -> tuple[float, int]:
    """Return by how many MB and open files this process is larger after so many predictions."""
    for seed in range(WARM):
        values(models[seed % len(models)], seed)
    before = _size()
    for seed in range(n):
        values(models[seed % len(models)], seed)
    after = _size()
    return after[0] - before[0], after[1] - before[1]


def _size() -> tuple[float, int]:
    """Return the resident memory in MB, and the number of open files."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd"))


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Make calls at once, each in a thread; return what they return, or the error."""
    found: list[Any] = [None] * len(calls)
    begin = threading.Barrier(len(calls))

    def call(number: int) -> None:
        begin.wait()
        try:
            found[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 - whoever asks looks at it
            found[number] = error

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(calls))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found
