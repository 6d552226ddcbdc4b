"""Every method on every screen: one file a screen and method, so that a run can stop and go on."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import transpert as tp
from transpert.errors import TranspertError

from .designs import Design, design
from .real import cut
from .screens import CONTROL, Screen, simulated

_PREDICTED, _REAL = "de_nsig_counts_pred", "de_nsig_counts_real"
METRICS = ("pearson_delta", "overlap_at_n", "energy_distance", _PREDICTED, _REAL)
COVERAGE = "coverage"
LEVEL = 0.9
# a gene in fewer counts per 10k has hardly a fold change to cover
_LEAST_RATE = 0.2
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "no change": ("NoChange", {}),
    "mean shift": ("MeanShift", {}),
    "mean shift, counts": ("MeanShift", {"readout": "counts"}),
    "context mean": ("ContextMean", {}),
    "mean fold change": ("MeanFoldChange", {}),
    "additive": ("Additive", {}),
    "nearest": ("NearestPerturbation", {}),
    "anchor": ("KernelTransport", {}),
    "SCALE": ("SCALE", {}),
}
BASELINES = tuple(name for name in METHODS if name not in ("anchor", "SCALE"))
# what SCALE says without its anchor, where it trained networks
NETWORK = "network"
# elsewhere it says what the mean shift says
_ONLY = {"additive": ("combination", "Norman and McFaline")}
_N_CELLS = 160


def result_path(folder: Path, number: int, name: str) -> Path:
    """Where the result of a method on a screen is kept."""
    return folder / f"{number:03d}" / f"{name.replace(' ', '_').replace(',', '')}.json"


@lru_cache(maxsize=1)
def screen_of(asked: Design, data: Path | None) -> Screen:
    """Make the screen of a design."""
    if asked.source in ("simulated", "profiles"):
        return simulated(asked)
    if data is None:
        raise FileNotFoundError(f"screen {asked.number} is cut out of real data, and there is no folder of it")
    return cut(asked, data)


def run_screen(
    number: int, methods: Sequence[str], names: Mapping[str, str], folder: Path, data: Path | None, again: bool
) -> list[str]:
    """Fit, predict and score methods on a screen, some kept under another name, unless that was done.

    Returns one line about each that was not.
    """
    asked = design(number)
    missing = {
        names.get(method, method): method for method in methods if method not in _ONLY or asked.kind in _ONLY[method]
    }
    missing = {n: m for n, m in missing.items() if again or not result_path(folder, number, n).exists()}
    if not missing:
        return []
    screen = screen_of(asked, data)
    predictions: dict[str, AnnData] = {}
    results: dict[str, dict[str, Any]] = {}
    for name, method in missing.items():
        start = time.perf_counter()
        try:
            predictions[name], results[name], network = _predicted(screen, method)
        except TranspertError as error:  # a method that cannot answer has no rows, and a reason
            results[name], network = {"reason": f"{type(error).__name__}: {error}"}, None
        results[name] |= {"seconds": time.perf_counter() - start}
        if network is not None:
            predictions[NETWORK], results[NETWORK] = network, dict(results[name])
    rows = _scored(screen, predictions)
    for name, result in results.items():
        known = {"number": number, "kind": asked.kind, "half": asked.half, "method": name}
        _write(result_path(folder, number, name), {**result, **known, "rows": rows.get(name, [])})
    return [
        f"{number} {asked.kind} / {name}: {result['seconds']:.1f} s {result.get('reason', '')[:200]}"
        for name, result in results.items()
    ]


def _write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(result))
    partial.replace(path)


def _predicted(screen: Screen, method: str) -> tuple[AnnData, dict[str, Any], AnnData | None]:
    """Return what a method predicts, facts about its fit, and what its network predicts alone if it trained one."""
    class_name, options = METHODS[method]
    cls = getattr(tp, class_name)
    takes_vectors = screen.embeddings is not None and class_name != "NoChange"
    more = {"embeddings": screen.embeddings} if takes_vectors else {}
    cls.setup_anndata(screen.cells, **screen.setup_arguments())
    model = cls(screen.cells, **options, **more)
    model.deregister_manager(screen.cells)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    model.train(**(quiet if class_name == "SCALE" else {}))
    asked = {"n_cells": _N_CELLS, "unseen": "mean", "seed": 0}
    pred, network = model.predict_populations(screen.wanted, **asked), None
    details: dict[str, Any] = {}
    if class_name in ("KernelTransport", "SCALE"):
        details[COVERAGE] = _coverage(model, screen)
    if class_name == "SCALE":
        details |= {"gate": float(model.gate), "without networks": model.without_networks}
        if not model.without_networks:
            model.gate = 1.0
            network = model.predict_populations(screen.wanted, **asked)
    return pred, details, network


def _scored(screen: Screen, predictions: dict[str, AnnData]) -> dict[str, list[tuple[str, str, str, float | None]]]:
    """Context, perturbation, metric and value of every population of every prediction."""
    if not predictions:
        return {}
    dose = {"dose_key": "dose"} if "dose" in screen.cells.obs else {}
    options = {"metrics": METRICS, "ceiling": False, "n_bootstrap": 0, "progress": False}
    columns = tp.Design("perturbation", CONTROL, ("context",), **dose)
    scores = tp.tl.evaluate(predictions, screen.cells, design=columns, **options)
    rows: dict[str, list[tuple[str, str, str, float | None]]] = {name: [] for name in predictions}
    for row in scores[scores["context"] != "mean"].itertuples():
        rows[row.model].append((str(row.context), str(row.perturbation), row.metric, _plain(row.value)))
    return rows


def _coverage(model: Any, screen: Screen) -> float | None:
    """Share of the genes whose measured fold change lies in the interval, widened by the error of measuring it."""
    labels = screen.cells.obs["perturbation"].astype(str).to_numpy()
    contexts, part = (screen.cells.obs[name].astype(str).to_numpy() for name in ("context", "split"))
    inside: list[np.ndarray] = []
    for context, label in screen.wanted:
        name, _, dose = label.partition(", dose ")
        real = screen.cells[(contexts == context) & (labels == name) & (part == "test")].X.toarray()
        control = screen.cells[(contexts == context) & (labels == CONTROL)].X.toarray()
        asked = {"doses": [float(dose)]} if dose else {}
        try:
            found = model.get_uncertainty({"context": context}, [name], level=LEVEL, n_cells=len(real), **asked)
        except TranspertError:
            return None
        observed = tp.transport.log_fold_of_means(real.mean(axis=0), control.mean(axis=0))
        lower, upper = (bounds.iloc[:, 0].to_numpy() for bounds in (found.lower, found.upper))
        measured = np.expm1(np.concatenate([real, control])).mean(axis=0) >= _LEAST_RATE
        inside.append(((lower <= observed) & (observed <= upper))[measured])
    together = np.concatenate(inside)
    return float(together.mean()) if len(together) else None


def _plain(value: float) -> float | None:
    return None if not math.isfinite(value) else float(value)


def quieten() -> None:
    """Let nobody speak of what is assumed, five hundred times."""
    warnings.simplefilter("ignore")
    logging.getLogger("transpert").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def read_results(folder: Path) -> pd.DataFrame:
    """Return one row a screen and method: its number, kind, half, seconds, coverage, and the mean of each metric."""
    rows = []
    for path in sorted(folder.glob("*/*.json")):
        result = json.loads(path.read_text())
        if not result["rows"]:
            continue
        table = pd.DataFrame(result["rows"], columns=["context", "perturbation", "metric", "value"])
        values = table.assign(value=table["value"].astype(float)).groupby("metric")["value"]
        row = {key: result.get(key) for key in ("number", "kind", "half", "method", "seconds", COVERAGE, "gate")}
        rows.append(row | values.mean().to_dict() | {"log n_sig": _log_ratio(table)})
    return pd.DataFrame(rows)


def _log_ratio(table: pd.DataFrame) -> float:
    """Mean of |log| of predicted over really significant genes, one added to both so that none is not infinite."""
    wide = table.pivot_table(index=["context", "perturbation"], columns="metric", values="value").astype(float)
    if not {_PREDICTED, _REAL} <= set(wide):
        return float("nan")
    return float(np.abs(np.log((wide[_PREDICTED] + 1) / (wide[_REAL] + 1))).mean())


def wanted_numbers(half: str | None, kinds: Sequence[str] | None, total: int) -> list[int]:
    """Numbers of the screens of a half and of some kinds."""
    designs = [design(number) for number in range(total)]
    return [d.number for d in designs if (not half or d.half == half) and (not kinds or d.kind in kinds)]
