"""One file a run: (task, split, method, seed). Written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

KEYS = ("task", "split", "method", "seed")


class MixedCellsError(ValueError):
    """Results of one split are of different cells, so that they cannot be compared."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run by its names."""

    task: str
    split: str
    method: str
    seed: int

    def path(self, folder: Path) -> Path:
        """The file of its result."""
        return folder / self.task / _file_name(self.split) / self.method / f"{self.seed}.json"

    def cells_path(self, folder: Path) -> Path:
        """The file of its predicted cells."""
        return self.path(folder).with_suffix(".h5ad")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run.

    Parameters
    ----------
    run
        Which one.
    status
        ``"done"``, ``"timeout"`` or ``"failed"``.
    reason
        Why it is not done.
    details
        Seconds, gate, options, versions, machine, date.
    rows
        One a population and metric.
    """

    run: Run
    status: str
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = ()


def write_result(result: Result, folder: Path) -> Path:
    """Write a result beside its final name and move it there."""
    path = result.run.path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(_plain(asdict(result)), indent=1))
    partial.replace(path)
    return path


def read_results(folder: Path) -> list[Result]:
    """Read every result of a folder."""
    return [read_result(path) for path in sorted(folder.glob("*/*/*/*.json"))]


def read_result(path: Path) -> Result:
    """Read one result."""
    values = json.loads(path.read_text())
    return Result(**{**values, "run": Run(**values["run"]), "rows": tuple(values["rows"])})


def check_same_cells(results: list[Result]) -> None:
    """Raise where the results of a split are not all of the same cells.

    The task, the simulator or the hold-out may have been changed between two runs. Compared are the populations
    scored, the numbers of training cells and genes, and the digest of the cells where it was recorded.

    Raises
    ------
    MixedCellsError
        Names the runs that differ from the newest of their split.
    """
    splits: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.status == "done":
            splits.setdefault((result.run.task, result.run.split), []).append(result)
    other = []
    for found in splits.values():
        found.sort(key=lambda result: result.details.get("date", ""))
        populations = _populations(found[-1])
        told = {key: value for result in found for key, value in _cells_told(result).items()}
        other += [
            result
            for result in found
            if _populations(result) != populations
            or any(told[key] != value for key, value in _cells_told(result).items())
        ]
    if other:
        names = ", ".join(f"{r.run.task}/{r.run.split}/{r.run.method}/{r.run.seed}" for r in other[:20])
        raise MixedCellsError(
            f"{len(other)} results are of other cells than the newest result of their split: {names}"
            f"{', ...' if len(other) > 20 else ''}. Delete their files and make these runs again."
        )


def _populations(result: Result) -> set[tuple[str, str]]:
    return {(row["context"], row["perturbation"]) for row in result.rows}


def _cells_told(result: Result) -> dict[str, Any]:
    return {key: result.details[key] for key in ("n_train", "n_genes", "cells") if key in result.details}


def tidy(results: list[Result]) -> pd.DataFrame:
    """Return one row a run, population and metric; ``value`` is NaN where a metric is not defined."""
    table = pd.DataFrame(list(_rows(results)))
    if len(table):
        table["value"] = table["value"].astype(float)
    return table


def _rows(results: list[Result]) -> Iterator[dict[str, Any]]:
    for result in results:
        for row in result.rows:
            yield {**asdict(result.run), **row}


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_+." else "_" for c in name)


def _plain(value: Any) -> Any:
    """What JSON can hold: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
