"""Whether log1p values, counts and library sizes of the same cells say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from transpert import _keys
from transpert._matrices import as_dense
from transpert.errors import CountsError

_CELLS = 128  # looked at: a scale is that of all cells, or of every cell of a batch
_SAME_RATE = 0.02  # half precision and two decimals are still the same
_SAME_SIZE = 0.01
_LARGEST = 16.0  # log1p of ten million
_FEW = 0.02  # share of cells that may be odd
_SMALLEST, _FEWEST = 64, 6  # distinct values of a cell that are looked at, and must be there
_MANY = 16
_LARGEST_RATE = 1e7
_PARTS = 200  # the smallest of them may be so many counts
_TIES = 0.05  # counts come more than once in a cell, denoised values hardly ever
CONTINUOUS = "continuous"
_UNDONE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log1p": np.expm1,
    "no logarithms": lambda values: values,  # of whole numbers, powers of 2 and squares are some too
    "log2(1 + x)": lambda values: np.exp2(values) - 1,
    "log10(1 + x)": lambda values: 10**values - 1,
    "square roots": np.square,
}


def evenly_spread_rows(n_cells: int) -> np.ndarray:
    """Return rows that are spread evenly over all cells, so that every batch is met."""
    return np.unique(np.linspace(0, n_cells - 1, min(n_cells, _CELLS)).astype(int))


def sizes_behind(values: Any, counts: Any) -> np.ndarray:
    """Return the library sizes by which log1p values were made of counts; NaN where no one size explains a cell."""
    return _factors(as_dense(counts), _rates(values)) * _keys.SCALE_FACTOR


def proportion(values: Any, others: Any) -> np.ndarray:
    """Return by how much the rates of each cell are larger in ``others``; NaN where it is another cell."""
    return _factors(_rates(others), _rates(values))


def form_of(values: Any) -> str | None:
    """Say what most cells hold, by what their smallest values are whole multiples of."""
    found = Counter(form for form in map(_form_of_cell, as_dense(values)) if form is not None)
    if not found:
        return None
    form, times = found.most_common(1)[0]
    return form if times > 0.5 * found.total() else None


def _form_of_cell(values: np.ndarray) -> str | None:
    """Say what one cell holds."""
    there = values[values > 0]
    distinct = np.unique(there)
    if len(distinct) < _FEWEST or not np.isfinite(distinct).all():
        return None
    with np.errstate(over="ignore"):
        undone = {form: undo(distinct[:_SMALLEST]) for form, undo in _UNDONE.items()}
    fitting = next((form for form, rates in undone.items() if _are_multiples(rates)), None)
    if fitting is None and len(distinct) > (1 - _TIES) * len(there):
        return CONTINUOUS
    return fitting


def _are_multiples(rates: np.ndarray) -> bool:
    """Whether numbers are whole multiples of the first one, or of a part of it."""
    parts = _PARTS if len(rates) > _MANY else _PARTS // 20  # a few numbers are multiples of something by chance
    times = rates[None] * (np.arange(1, parts + 1) / rates[0])[:, None]
    apart = np.abs(times - np.rint(times))
    near = apart <= np.minimum(0.02 + 1e-4 * times, 0.12)
    return bool(rates[-1] < _LARGEST_RATE and np.any(near.mean(axis=1) > 0.95))  # numbers beyond have no fractions


def _rates(values: Any) -> np.ndarray:
    """Undo a log1p; values that are none become infinite or NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.expm1(as_dense(values))


def _factors(numbers: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the one factor a row that makes ``numbers`` of ``rates``; NaN where there is none."""
    with np.errstate(invalid="ignore", over="ignore"):
        totals, total = numbers.sum(axis=1), rates.sum(axis=1)
        factors = np.full(len(rates), np.nan)
        np.divide(totals, total, out=factors, where=(total > 0) & (totals > 0) & np.isfinite(total))
        expected = numbers / factors[:, None]
        explained = np.all(np.abs(rates - expected) <= _SAME_RATE * expected + 1e-3, axis=1)
    return np.where(explained, factors, np.nan)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How the library sizes behind log1p values differ from those that were given.

    Parameters
    ----------
    n_cells, n_looked_at
        Cells that differ, and cells that were compared.
    behind, given
        The typical library size of the cells that differ, by their values and as given.
    target_sum
        The total that the values were normalised to, where it is the same for all cells that differ.
    """

    n_cells: int
    n_looked_at: int
    behind: float
    given: float
    target_sum: float | None

    def __str__(self) -> str:
        if self.target_sum is not None:
            return f"they are normalised to {self.target_sum:,.4g} per cell, not to 10,000"
        return (
            f"they were made with library sizes of about {self.behind:,.0f}, where {self.given:,.0f} is given "
            f"(in {self.n_cells} of {self.n_looked_at} cells looked at)"
        )


def mismatch(behind: np.ndarray, given: np.ndarray) -> Mismatch | None:
    """Compare library sizes behind log1p values with given ones; cells that no size explains are passed over."""
    known = np.isfinite(behind) & (given > 0)
    ratio = given[known] / behind[known]
    apart = np.abs(np.log(ratio)) > _SAME_SIZE
    if np.count_nonzero(apart) <= _FEW * len(ratio):
        return None
    typical = float(np.median(ratio[apart]))
    one_target = bool(apart.all() and np.all(np.abs(ratio / typical - 1) <= _SAME_SIZE)) and len(ratio) > 1
    return Mismatch(
        int(apart.sum()),
        len(ratio),
        float(np.median(behind[known][apart])),
        float(np.median(given[known][apart])),
        _keys.SCALE_FACTOR * typical if one_target else None,
    )


def check_same_scale(
    values: Any, counts: Any, library_size: np.ndarray, obs: pd.DataFrame, *, where: str, counts_in: str
) -> float:
    """Refuse log1p values that were made of the counts with other library sizes."""
    if not _may_be_log1p(values):
        return 0.0
    behind = sizes_behind(values, counts)
    found = mismatch(behind, np.asarray(library_size, dtype=float))
    if found is None:
        counted = np.asarray(counts.sum(axis=1)).ravel() > 0
        return float(np.isfinite(behind[counted]).mean()) if counted.any() else 1.0
    fitting = [str(name) for name in obs.columns if _fits(behind, obs[name])]
    raise CountsError(
        f"the values do not fit the counts in {counts_in} and the library sizes: {found}",
        where=where,
        remedy=f"Pass library_size_key={fitting[0]!r}: with this column they fit."
        if fitting
        else "Make them of the counts, adata.X = tp.pp.log1p_per_10k(counts, library_size), or name the column with "
        "the library sizes that they were made with in library_size_key=.",
    )


def unlike_counts(values: Any, share: float) -> str | None:
    """Say what values are where they were not made of the counts of their cells; ``share`` of the cells were."""
    if share >= 1 - _FEW:
        return None
    form = form_of(values)
    if form is None or form == "no logarithms":
        return None
    if share == 0 and form != "log1p":
        return f"{form} values, not log1p of the counts"
    of_some = f"in {1 - share:.0%} of the cells " if share else ""
    return f"{of_some}log1p values of other counts than those"


def _may_be_log1p(values: Any) -> bool:
    """Whether values are neither counts nor too large or too small for log1p values of any scale."""
    stored = np.asarray(values.data if sparse.issparse(values) else values, dtype=np.float64).ravel()
    if not stored.size or not np.isfinite(stored).all() or stored.min() < 0 or stored.max() > _LARGEST:
        return False
    return bool(np.any(stored != np.rint(stored)))


def _fits(behind: np.ndarray, column: pd.Series) -> bool:
    """Whether a column of ``obs`` holds the library sizes that values were made with."""
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return False
    sizes = column.to_numpy(dtype=float, na_value=np.nan)
    return bool(np.isfinite(sizes).all() and (sizes > 0).all()) and mismatch(behind, sizes) is None
