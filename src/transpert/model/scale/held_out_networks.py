"""What networks say about training groups that they have not seen."""

from __future__ import annotations

import numpy as np

from transpert.groups import Design

from ..cells.in_memory import Cells
from ..cells.open import StoredCells
from ..prediction.controls import control_cells, rows_by_pool
from ..prediction.requests import Request
from .held_out_anchor import LeftOutGroups, LeftOutShifts
from .trained_networks import TrainedNetworks
from .training.progress import Report

_CONTROLS = 512  # cells, at most, that are moved for a group


def left_out_networks(
    networks: TrainedNetworks,
    cells: Cells | StoredCells,
    design: Design,
    left: LeftOutGroups,
    anchored: LeftOutShifts,
    *,
    moved: bool,
    seed: int,
    report: Report,
) -> np.ndarray:
    """Return the shift of each row, ``(R, G)``, by the network that has not seen its group."""
    shifts = np.zeros_like(anchored.shifts)
    effects, fold = left.effects[anchored.rows], left.folds.test_fold[anchored.rows]
    contexts = map(left.groups.context_values, left.first[anchored.rows].tolist())
    where = zip(effects.contexts, contexts, effects.conditions, strict=True)
    requests = [Request(*asked, "") for asked in where]
    gathered = rows_by_pool(cells, design, requests)
    for number, (pool, rows) in enumerate(gathered.items(), 1):
        report(f"Comparing networks and anchor on left-out groups: controls {number} of {len(gathered)}")
        control = control_cells(cells, design, pool, _CONTROLS, seed)  # read and encoded once for all their requests
        for row in rows:
            start = anchored.shifts[row] if moved else None
            found = networks.shift(control, requests[row], start, number=int(fold[row]), seed=seed, each_cell=False)
            shifts[row] = networks.among_all(found[0], anchored.shifts[row])
    return shifts
