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
