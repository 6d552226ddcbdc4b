"""A peer: a script in an environment of its own that reads cells and a configuration and writes predicted cells."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import anndata
from anndata import AnnData

from transpert.groups.table import context_labels

from .cells import LIBRARY, PERTURBATION, design_of, embeddings_of, without_dose
from .configuration import HERE, Method, Task
from .environments import python_of
from .scoring import cells_of_peer

# what is not set already: JAX on the CPU, and on as many threads as OMP_NUM_THREADS=1 gives the others
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "WANDB_MODE": "disabled"}
_TAIL = 1_500  # characters of the log that a failed result keeps


class PeerError(RuntimeError):
    """A runner failed; the message is the end of its log."""


class PeerTimeoutError(RuntimeError):
    """A runner did not end in time."""


def predict_peer(
    adata: AnnData,
    task: Task,
    method: Method,
    wanted: list[tuple[str, str]],
    seed: int,
    *,
    data: Path,
    environments: Path,
    limit: float,
) -> tuple[AnnData, dict[str, Any]]:
    """Let a peer train and predict; it never gets to see a held-out cell."""
    options = method.options
    python = python_of(options["environment"], options["requirements"], environments)
    with tempfile.TemporaryDirectory(prefix=f"{method.name}-") as name:
        place = Path(name)
        export(adata, task, wanted, place, data)
        configuration = {
            "seed": seed,
            "control": task.control,
            "dose_key": task.dose_key,
            "config": options.get("config", {}),
        }
        (place / "config.json").write_text(json.dumps(configuration))
        start = time.perf_counter()
        _call(python, HERE / "peers" / options["runner"], place, limit)
        seconds = time.perf_counter() - start
        reported = json.loads((place / "report.json").read_text())
        pred, outside = cells_of_peer(anndata.read_h5ad(place / "predicted.h5ad"), task)
    return pred, {"seconds": seconds, "values_outside_log1p": outside, **reported}


def export(adata: AnnData, task: Task, wanted: list[tuple[str, str]], place: Path, data: Path) -> None:
    """Write the training cells and all controls, the list of what is wanted, and embeddings where there are some."""
    seen = (adata.obs["split"] != "test").to_numpy()
    columns = [PERTURBATION, *task.context_keys, LIBRARY]
    columns += [key for key in (task.batch_key, task.dose_key) if key is not None]
    obs = adata.obs.loc[seen, list(dict.fromkeys(columns))].copy()
    obs["context"] = context_labels(adata.obs[seen], design_of(task)).astype(str)
    if task.batch_key is None:
        obs["batch"] = "batch_0"
    exported = AnnData(
        adata.X[seen], obs=obs, var=adata.var[[]].copy(), layers={"counts": adata.layers["counts"][seen]}
    )
    exported.var.index.name = None
    exported.write_h5ad(place / "cells.h5ad")
    contexts = exported.obs.drop_duplicates("context").set_index("context", drop=False)
    rows = []
    for context, label in wanted:
        perturbation, dose = without_dose(label)
        values = {key: str(contexts.loc[context, key]) for key in task.context_keys}
        rows.append({"context": context, "perturbation": perturbation, "dose": dose, "values": values})
    (place / "wanted.json").write_text(json.dumps(rows))
    embeddings = embeddings_of(adata, task, data)
    if embeddings is not None:
        embeddings.to_csv(place / "embeddings.csv")


def _limit_processor_time(seconds: int) -> None:
    """Limit a process, and each that it starts; the clock would count what others do on the machine."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))


def _call(python: Path, script: Path, place: Path, limit: float) -> None:
    log = place / "log.txt"
    # our own environment must not leak into that of the peer
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment = {**_ENVIRONMENT, **environment}
    with log.open("w") as out:
        code = subprocess.run(
            [str(python), str(script), str(place)],
            stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=place, check=False,
            preexec_fn=partial(_limit_processor_time, int(limit)),
        ).returncode  # fmt: skip
    if code and ("SIGXCPU" in log.read_text() or code == -signal.SIGXCPU):
        raise PeerTimeoutError(f"not ready after {limit:.0f} s of processor time")
    if code:
        kept = os.environ.get("TRANSPERT_KEEP_LOGS")
        if kept:
            shutil.copy(log, Path(kept) / f"{script.stem}.log")
        raise PeerError(log.read_text()[-_TAIL:])
