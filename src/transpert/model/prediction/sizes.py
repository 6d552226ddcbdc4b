"""How many cells a prediction has, and what is said before it is too large."""

from __future__ import annotations

import os
from collections.abc import Sequence

from transpert.errors import list_names, warn_user
from transpert.groups import Design

from ..cells.in_memory import Cells
from ..cells.open import StoredCells
from .controls import ControlPool, control_positions, shown_controls
from .requests import Request

# control cells, and how many of them at most
type Draw = tuple[ControlPool, int]

MOST_CELLS = 1_000  # of a population, where nobody says how many
_SHARE_OF_MEMORY = 0.25  # a prediction that takes more of what the machine has is warned of
_BYTES_OF_A_COUNT = 16  # value and place, of the counts and of their logarithms


def wanted_sizes(requests: Sequence[Request], n_cells: int | None) -> list[int | None]:
    """Return how many cells of each population somebody asks for; ``None`` where nobody says so."""
    return [n_cells if request.n_cells is None else request.n_cells for request in requests]


def population_sizes(
    cells: Cells | StoredCells, design: Design, pools: Sequence[ControlPool], wanted: Sequence[int | None]
) -> list[int]:
    """Count the cells of every population that is predicted from these, without reading any."""
    there = _control_counts(cells, design, pools)
    return [size or min(there[pool], MOST_CELLS) for pool, size in zip(pools, wanted, strict=True)]


def _control_counts(cells: Cells | StoredCells, design: Design, pools: Sequence[ControlPool]) -> dict[ControlPool, int]:
    return {pool: len(control_positions(cells, design, pool, None, 0)) for pool in dict.fromkeys(pools)}


def draws_of(
    cells: Cells | StoredCells, design: Design, pools: Sequence[ControlPool], wanted: Sequence[int | None]
) -> list[Draw]:
    """Return which cells each population moves, and how many of them at most; warn where nobody says how many."""
    there = _control_counts(cells, design, [o for o, size in zip(pools, wanted, strict=True) if size is None])
    more = [f"{pool[0]} ({n:,})" for pool, n in there.items() if n > MOST_CELLS]
    if more:
        warn_user(
            f"n_cells is not given: of contexts with more control cells, {MOST_CELLS:,} are moved for each population. "
            f"These are {list_names(more, quote=False)}. Pass n_cells= for another number."
        )
    return [(pool, size or MOST_CELLS) for pool, size in zip(pools, wanted, strict=True)]


def shown_draws(draws: Sequence[Draw]) -> list[Draw]:
    """Return the controls that stand beside predictions made from these, each cell once."""
    most: dict[ControlPool, int] = {}
    for pool, n_cells in draws:
        most[pool] = max(n_cells, most.get(pool, 0))
    return [(pool, most[pool]) for pool in shown_controls(most)]


def warn_of_memory(cells: Cells | StoredCells, sizes: Sequence[int], *, dense: bool) -> None:
    """Warn of the memory that a prediction takes, before it is taken."""
    rows = sum(sizes)
    if dense:
        wanted = 4.0 * rows * len(cells.genes)
    elif isinstance(cells, StoredCells):
        return  # whose counts are not read for this
    else:
        wanted = _BYTES_OF_A_COUNT * rows * cells.counts.nnz / max(len(cells), 1)
    memory = _memory()
    if wanted > _SHARE_OF_MEMORY * memory:
        warn_user(
            f"{len(sizes):,} populations, {rows:,} cells, take about {wanted / 2**30:.1f} GB, and this machine has "
            f"{memory / 2**30:.0f} GB. Pass a smaller n_cells=, or write them with predict_to_store()."
        )


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
