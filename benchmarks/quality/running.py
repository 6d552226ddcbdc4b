"""Runs: which are missing, and what comes of one."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anndata
from anndata import AnnData

from .cells import cells_of, embeddings_of, fingerprint, wanted_populations
from .configuration import Method, Task
from .peers import PeerError, PeerTimeoutError, predict_peer
from .predictors import predict_baseline, predict_scale
from .results import Result, Run, read_result, write_result
from .scoring import has_controls, metrics_of, score, score_ceiling

PACKAGES = ("transpert", "scvi-tools", "anndata", "scanpy", "torch", "illico", "numpy")
CEILING_METHOD = "Replicate"


@dataclass(frozen=True, slots=True)
class Places:
    """Folders: the data files, the results, the environments of the peers."""

    data: Path
    results: Path
    environments: Path


class OutOfTimeError(RuntimeError):
    """A run of ours did not end in time."""


def missing(run: Run, task: Task, places: Places, *, again: bool) -> bool:
    """Whether a run has to be made: it has no result, lacks a metric, or failed and is to be tried again."""
    path = run.path(places.results)
    if not path.exists():
        return True
    result = read_result(path)
    if result.status != "done":
        return again
    return not metrics_of(task) <= {row["metric"] for row in result.rows}


def make(run: Run, task: Task, method: Method, places: Places, limit: float) -> Result:
    """Predict and score; whatever goes wrong becomes the result, so that the other runs go on."""
    details = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
    }
    try:
        with time_limit(limit):
            result = _made(run, task, method, places, limit, details)
    except (OutOfTimeError, PeerTimeoutError):
        result = Result(run, "timeout", f"stopped after {limit:.0f} s of processor time", details)
    except PeerError as error:
        result = Result(run, "failed", str(error), details)
    except Exception as error:  # noqa: BLE001 one failing run must not end a night of runs
        result = Result(run, "failed", f"{type(error).__name__}: {error}", details)
    write_result(result, places.results)
    return result


def _made(run: Run, task: Task, method: Method, places: Places, limit: float, details: dict[str, Any]) -> Result:
    adata = cells_of(task, task.split(run.split), places.data)
    wanted = wanted_populations(adata, task)
    of_cells = fingerprint(adata)  # before a model writes its columns into them
    cells = run.cells_path(places.results)
    old = run.path(places.results)
    if cells.exists() and old.exists():
        # a metric was added since: score the kept cells again
        pred, told = anndata.read_h5ad(cells), read_result(old).details
        details = {**details, **told}
    else:
        pred, told = _predicted(adata, task, method, wanted, run.seed, places, limit)
        n_train = int((adata.obs["split"] != "test").sum())
        details = {**details, **told, "n_train": n_train, "n_genes": adata.n_vars, "cells": of_cells}
        if method.family != "baseline":
            cells.parent.mkdir(parents=True, exist_ok=True)
            pred.write_h5ad(cells, compression="gzip")
    if method.name == CEILING_METHOD:
        rows = score_ceiling(pred, adata, task, seed=run.seed).to_dict("records")
    else:
        rows = score(pred, adata, task, seed=run.seed).to_dict("records")
        if method.family == "peer" and has_controls(pred, task):
            rows += score(pred, adata, task, reference="predicted", seed=run.seed).to_dict("records")
    return Result(run, "done", "", details, tuple(rows))


def _predicted(
    adata: AnnData, task: Task, method: Method, wanted: list[tuple[str, str]], seed: int, places: Places, limit: float
) -> tuple[AnnData, dict[str, Any]]:
    if method.family == "baseline":
        return predict_baseline(adata, task, method, wanted, seed, embeddings_of(adata, task, places.data))
    if method.family == "peer":
        return predict_peer(
            adata, task, method, wanted, seed, data=places.data, environments=places.environments, limit=limit
        )
    return predict_scale(adata, task, method, wanted, seed, embeddings_of(adata, task, places.data))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTimeError` in the main thread after some seconds of processor time.

    Not of the clock: what else runs on the machine would decide then who is ready in time.
    """

    def stop(*_: object) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def machine() -> str:
    """The processor and how many cores there are."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{os.cpu_count()} cores of {name}, {platform.system()}, Python {sys.version.split()[0]}"


@cache
def commit() -> str:
    """The commit of this repository when it was first asked, where it is one."""
    folder = Path(__file__).parent
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True)
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of what our own runs use."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
