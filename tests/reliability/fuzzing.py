"""Calls of every public entry point with odd arguments and odd cells, drawn from a seed."""

from __future__ import annotations

import os
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import mudata
import numpy as np
from scipy import sparse
from tests.reliability.odd import ODD, damaged
from tests.reliability.workshop import Entry, Workshop

from transpert.errors import TranspertError

SETS_UP = ("setup and train", "train ")  # and then do something that may fail

# --- what must hold --------------------------------------------------------------------------------------------


def state_of(value: Any) -> Any:
    """Return what may not change in an object that a call was given."""
    if isinstance(value, mudata.MuData):
        return {name: state_of(value[name]) for name in value.mod}
    if not isinstance(value, ad.AnnData):
        return None
    matrices = [value.X, *(value.layers[name] for name in value.layers.keys() if name is not None)]
    return [
        [_digest(matrix) for matrix in matrices], list(map(str, value.obs.columns)), list(value.obs_names),
        list(value.var_names), sorted(map(str, value.uns)), sorted(map(str, value.obsm)), sorted(map(str, value.varm)),
    ]  # fmt: skip


def _digest(matrix: Any) -> Any:
    if matrix is None or hasattr(matrix, "compute"):
        return None
    if sparse.issparse(matrix):
        return [part.tobytes() for part in (matrix.data, matrix.indices, matrix.indptr)]
    return np.asarray(matrix).tobytes()


def broken(entry: Entry, given: dict[str, Any], result: Any) -> str | None:
    """Return which invariant a result breaks."""
    if not isinstance(result, ad.AnnData) or entry.name in ("align_genes", "embed_together", "simulate"):
        return None
    if "counts" in result.layers:
        counts = result.layers["counts"]
        values = counts.data if sparse.issparse(counts) else np.asarray(counts)
        whole = given.get("readout") == "expected" or (values == np.rint(values)).all()
        if not (np.isfinite(values).all() and (values >= 0).all() and whole):
            return "counts are no counts"
    values = result.X.data if sparse.issparse(result.X) else np.asarray(result.X)
    if not np.isfinite(values).all() or (values < 0).any():
        return "values are not finite, or negative"
    if entry.name.startswith("predict") and "source" in result.obs:
        sizes = (
            result.obs[result.obs["source"] == "predicted"].groupby(["context", "perturbation"], observed=True).size()
        )
        if len(sizes) and given.get("n_cells") is not None and set(sizes) != {int(given["n_cells"])}:
            return f"{set(sizes)} cells, {given['n_cells']} were asked for"
    return None


@dataclass
class Report:
    """What came of the calls."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    shown: bool = False

    def add(self, outcome: str, fault: str | None = None) -> None:
        """Count an outcome, and note a fault."""
        self.outcomes[outcome] += 1
        if fault is not None:
            self.faults.append(fault)
            if self.shown:
                print(fault, flush=True)

    def __str__(self) -> str:
        return ", ".join(f"{n} {what}" for what, n in sorted(self.outcomes.items()))


def place_of(error: BaseException) -> str:
    """Return the last place of ours that an error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "src/transpert" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def run(n_calls: int, seed: int = 0, *, only: str | None = None, shown: bool = False, slow: bool = True) -> Report:
    """Make so many calls, and report which end neither in a sound result nor in an error of ours with a remedy."""
    import matplotlib.pyplot as plt

    rng, report, here = np.random.default_rng(seed), Report(shown=shown), os.getcwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shop = Workshop(Path(folder))
        os.chdir(folder)  # odd paths land in it
        try:
            entries = [entry for entry in shop.entries() if only in (None, entry.name) and (slow or not entry.is_slow)]
            for number in range(n_calls):
                _one(entries[rng.integers(len(entries))], rng, report, f"call {number}")
                plt.close("all")
        finally:
            os.chdir(here)
    return report


def sweep(name: str) -> Report:
    """Give each argument of one entry point each odd value in turn."""
    report = Report(shown=True)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shop = Workshop(Path(folder))
        os.chdir(folder)
        for entry in shop.entries():
            if name not in (entry.name, "all"):
                continue
            for argument in entry.given():
                for value in ODD:
                    given = {**entry.given(), argument: value()}
                    _judge(entry, given, [f"{argument}={str(given[argument])[:60]!r}"], report, "sweep")
    return report


def _one(entry: Entry, rng: np.random.Generator, report: Report, call: str) -> None:
    given = entry.given()
    odd = []
    # each argument once: anndata itself cannot cut cells that are odd already
    for name in rng.permutation(list(given))[: int(rng.choice([0, 1, 1, 1, 2]))].tolist():
        value = given[name]
        if isinstance(value, ad.AnnData) and rng.random() < 0.8:
            given[name] = damaged(value, rng)
        else:
            given[name] = ODD[rng.integers(len(ODD))]()
        odd.append(f"{name}={str(given[name])[:60]!r}")
    _judge(entry, given, odd, report, call)


def _judge(entry: Entry, given: dict[str, Any], odd: list[str], report: Report, call: str) -> None:
    before = {name: state_of(value) for name, value in given.items()}
    what = f"{call}: {entry.name}({', '.join(odd)})"
    try:
        result = entry.call(**given)
    except TranspertError as error:
        report.add("refused")
        if not error.remedy:
            report.add("refused without a remedy", f"{what}: no remedy: {type(error).__name__}: {error}")
        # a setup before a training that fails is not taken back
        changed = {name: state_of(value) for name, value in given.items()} != before
        if changed and not entry.name.startswith(SETS_UP):
            report.add("changed on failure", f"{what}: changed its input, and failed: {error}")
    except Exception as error:  # noqa: BLE001  whatever it is, it is noted
        report.add("raw errors", f"{what}: {type(error).__name__}: {str(error)[:110]} ({place_of(error)})")
    else:
        fault = broken(entry, given, result)
        report.add("results" if fault is None else "broken", None if fault is None else f"{what}: {fault}")
