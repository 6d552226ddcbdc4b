from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from transpert.model.cells import in_memory as module
from transpert.model.cells.in_memory import Cells
from transpert.transport import group_statistics


def test_statistics_of_many_cells_in_memory_are_made_block_by_block(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(1.0, (120, 7)).astype(np.float32))
    library, codes = rng.uniform(500, 900, 120), rng.integers(-1, 4, 120)
    cells = Cells(counts, library, pd.DataFrame(index=range(120)), np.array(list("abcdefg"), dtype=object))
    at_once = cells.statistics(codes, 4)
    monkeypatch.setattr(module, "CELLS_PER_BLOCK", 50)
    monkeypatch.setattr(module, "group_statistics", None)  # which has everything in memory at once
    in_blocks = cells.statistics(codes, 4)
    expected = group_statistics(counts, library, codes, 4)
    for name in expected.__slots__:
        np.testing.assert_array_equal(getattr(at_once, name), getattr(expected, name))
        np.testing.assert_allclose(getattr(in_blocks, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
