"""Which control cells are moved to predict a population."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from transpert._amounts import rounded
from transpert._seeds import sample_rows
from transpert.errors import ControlError
from transpert.groups import Design
from transpert.groups.table import context_labels

from ..cells.in_memory import Cells
from ..cells.open import StoredCells
from .requests import Request

# the control cells that are moved: those of a context, at one time or (None) at all times
type ControlPool = tuple[str, float | None]


def pool_of(cells: Cells | StoredCells, design: Design, request: Request) -> ControlPool:
    """Return which control cells are moved: those at the requested time, where the context has any, else all.

    As :func:`~transpert.groups.match_controls` does for the effects that are learned: cells change with time by
    themselves, and the effect of a perturbation does not contain that.
    """
    pool = request.context, request.condition.time
    return pool if pool in _positions_by_pool(cells, design) else (request.context, None)


def rows_by_pool(
    cells: Cells | StoredCells, design: Design, requests: Sequence[Request]
) -> dict[ControlPool, list[int]]:
    """Gather the numbers of the requests that move the same cells."""
    rows: dict[ControlPool, list[int]] = {}
    for row, pool in enumerate(pools_of(cells, design, requests)):
        rows.setdefault(pool, []).append(row)
    return rows


def shown_controls(pools: Iterable[ControlPool]) -> list[ControlPool]:
    """Return the controls that stand beside predictions made from these, each cell once."""
    pools = list(dict.fromkeys(pools))
    return [pool for pool in pools if pool[1] is None or (pool[0], None) not in pools]


def pools_of(cells: Cells | StoredCells, design: Design, requests: Iterable[Request]) -> list[ControlPool]:
    """Return the control cells that each request moves."""
    return [pool_of(cells, design, request) for request in requests]


def control_positions(
    cells: Cells | StoredCells, design: Design, pool: ControlPool, n_cells: int | None, seed: int
) -> np.ndarray:
    """Choose the control cells that are moved."""
    positions = _positions_by_pool(cells, design).get(pool)
    if positions is None:
        raise ControlError(
            f"the context {pool[0]!r} has no control cells to move",
            where=f"obs[{design.perturbation_key!r}]",
            remedy=f"Add cells labelled {design.named_controls} of this context.",
        )
    return sample_rows(positions, n_cells, seed)


def control_cells(
    cells: Cells | StoredCells, design: Design, pool: ControlPool, n_cells: int | None, seed: int
) -> Cells:
    """Read the control cells of a context at a time, or at all, at most so many of them."""
    return cells[control_positions(cells, design, pool, n_cells, seed)]


def _positions_by_pool(cells: Cells | StoredCells, design: Design) -> dict[ControlPool, np.ndarray]:
    """Positions of the control cells of each context, at all times and at each, which nobody may write into."""
    return cells.cached(("controls", design), lambda: _find_controls(cells, design))


def _find_controls(cells: Cells | StoredCells, design: Design) -> dict[ControlPool, np.ndarray]:
    """Find the positions of the control cells of each context, at all times and at each."""
    positions = np.flatnonzero(design.control_cells(cells.obs))
    positions.flags.writeable = False
    labels = context_labels(cells.obs.iloc[positions], design)
    rows = pd.Series(positions).groupby(labels, sort=False).indices
    found: dict[ControlPool, np.ndarray] = {(str(context), None): positions[own] for context, own in rows.items()}
    if design.time_key is not None:
        times = pd.to_numeric(cells.obs[design.time_key].iloc[positions], errors="coerce").to_numpy(dtype=float)
        known = np.flatnonzero(np.isfinite(times))
        frame = pd.DataFrame({"context": labels[known], "time": [rounded(time) for time in times[known]]})
        at_time: dict[Any, Any] = frame.groupby(["context", "time"], sort=False).indices
        for (context, time), own in at_time.items():
            found[str(context), float(time)] = positions[known[own]]
    return found
