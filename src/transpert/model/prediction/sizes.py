"""How many cells a prediction has, and what is said before it is too large."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from transpert.errors import AssumptionWarning, list_names
from transpert.groups import Design

from ..cells.in_memory import Cells
from ..cells.open import StoredCells
from .controls import Origin, control_positions

MOST_CELLS = 1_000  # of a population, where nobody says how many
_SHARE_OF_MEMORY = 0.25  # a prediction that takes more of what the machine has is warned of
_BYTES_OF_A_COUNT = 16  # value and place, of the counts and of their logarithms


def population_sizes(
    cells: Cells | StoredCells, design: Design, origins: Sequence[Origin], n_cells: int | None
) -> list[int]:
    """Count the cells of every population that is predicted from these, without reading any."""
    there = _control_counts(cells, design, origins)
    return [n_cells or min(there[origin], MOST_CELLS) for origin in origins]


def _control_counts(cells: Cells | StoredCells, design: Design, origins: Sequence[Origin]) -> dict[Origin, int]:
    return {origin: len(control_positions(cells, design, origin, None, 0)) for origin in dict.fromkeys(origins)}


def most_cells(cells: Cells | StoredCells, design: Design, origins: Sequence[Origin], n_cells: int | None) -> int:
    """Say how many control cells of a context are moved at most, and warn where nobody said so and there are more."""
    if n_cells is not None:
        return n_cells
    there = _control_counts(cells, design, origins)
    more = [f"{origin[0]} ({n:,})" for origin, n in there.items() if n > MOST_CELLS]
    if more:
        warnings.warn(
            f"n_cells is not given: of contexts with more control cells, {MOST_CELLS:,} are moved for each population. "
            f"These are {list_names(more, quote=False)}. Pass n_cells= for another number.",
            AssumptionWarning,
            stacklevel=4,
        )
    return MOST_CELLS


def warn_of_memory(cells: Cells | StoredCells, sizes: Sequence[int], *, dense: bool) -> None:
    """Say how much memory a prediction takes before it is gone."""
    rows = sum(sizes)
    if dense:
        wanted = 4.0 * rows * len(cells.genes)
    elif isinstance(cells, StoredCells):
        return  # whose counts are not read for this
    else:
        wanted = _BYTES_OF_A_COUNT * rows * cells.counts.nnz / max(len(cells), 1)
    memory = _memory()
    if wanted > _SHARE_OF_MEMORY * memory:
        warnings.warn(
            f"{len(sizes):,} populations, {rows:,} cells, take about {wanted / 2**30:.1f} GB, and this machine has "
            f"{memory / 2**30:.0f} GB. Pass a smaller n_cells=, or write them with predict_to_store().",
            AssumptionWarning,
            stacklevel=4,
        )


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
