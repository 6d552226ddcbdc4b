"""How strongly a gene is thinned, or how much is added to it, so that the draw has the wanted mean.

The counts of a cell change at certain strengths only. A search therefore looks at a cell again and again only while
its count differs between the two ends of the interval in which the strength is known to lie, and it ends when one
count of one cell is all that is left between them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

# an added rate above this, in counts per 10k, is more than a gene can have
_LARGEST_RATE: Final = 1e4
_SMALLEST_RATE: Final = 1e-6
# a gene thinned to exp(-30) of its counts has none left
_LARGEST_STRENGTH: Final = 30.0
_NEWTON_STEPS: Final = 60
_NARROW: Final = 1e-12  # of an interval, as a share of its end
_WIDEN: Final = 2.0  # step by which an interval is looked for
_INSIDE: Final = 0.1  # an interpolated point stays so far inside its interval


@njit(cache=True)
def _power(base: float, n: float) -> float:
    """``base ** n``, quickly for the small counts that most cells have."""
    if n > 8:
        return base**n
    value = base
    for _ in range(int(n) - 1):
        value *= base
    return value


@njit(cache=True)
def _binomial(u: float, n: float, p: float) -> float:
    """Inverse of the binomial distribution function: grows with ``p`` for the same ``u``."""
    if p >= 1.0:
        return n
    if p <= 0.0:
        return 0.0
    if n > 200:
        # wide enough for the normal approximation, whose quantile grows with p too
        value = np.floor(n * p + np.sqrt(n * p * (1 - p)) * _normal_quantile(u) + 0.5)
        return min(max(value, 0.0), n)
    mass = _power(1.0 - p, n)
    if mass >= u:
        return 0.0
    odds = p / (1.0 - p)
    total = mass
    k = 0
    while total < u and k < n:
        mass *= odds * (n - k) / (k + 1)
        total += mass
        k += 1
    return float(k)


@njit(cache=True)
def _poisson(u: float, mean: float) -> float:
    """Inverse of the Poisson distribution function: grows with ``mean`` for the same ``u``."""
    if mean <= 0.0:
        return 0.0
    if mean > 100.0:
        return max(np.floor(mean + np.sqrt(mean) * _normal_quantile(u) + 0.5), 0.0)
    mass = np.exp(-mean)
    total = mass
    k = 0
    while total < u and k < 400:
        k += 1
        mass *= mean / k
        total += mass
    return float(k)


@njit(cache=True)
def _normal_quantile(u: float) -> float:
    """Abramowitz and Stegun 26.2.23, to 4.5e-4."""
    tail = min(u, 1.0 - u)
    t = np.sqrt(-2.0 * np.log(max(tail, 1e-300)))
    value = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (
        1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t
    )
    return value if u > 0.5 else -value


@njit(cache=True)
def _log(table: np.ndarray, factor: np.ndarray, cell: int, count: float) -> float:
    """``log1p(factor * count)`` of a cell, looked up where the count is small."""
    if count < table.shape[1]:
        return table[cell, int(count)]
    return np.log1p(factor[cell] * count)


@njit(cache=True)
def _between(low: float, high: float, at_low: float, at_high: float, wanted: float) -> float:
    """The point of an interval at which a straight line has the wanted value, not too close to its ends."""
    share = (wanted - at_low) / (at_high - at_low) if at_high != at_low else 0.5
    return low + (high - low) * min(max(share, _INSIDE), 1 - _INSIDE)


@njit(cache=True)
def thin_genes(
    counts: np.ndarray,
    factor: np.ndarray,
    table: np.ndarray,
    weights: np.ndarray,
    target: np.ndarray,
    noise: np.ndarray,
) -> None:
    """Thin the counts ``(G, N)``, in place, until every gene has its target mean or less."""
    n_genes, n_cells = counts.shape
    cell, active = np.empty(n_cells, np.int64), np.empty(n_cells, np.int64)
    most, least, middle = np.empty(n_cells), np.empty(n_cells), np.empty(n_cells)
    for g in range(n_genes):
        wanted, n_used = target[g] * n_cells, 0
        at_low = at_high = 0.0
        for i in range(n_cells):
            k = counts[g, i]
            if k > 0:
                cell[n_used], most[n_used] = i, k
                least[n_used] = _binomial(noise[g, i], k, np.exp(-_LARGEST_STRENGTH * weights[g, i]))
                at_low += _log(table, factor, i, k)
                at_high += _log(table, factor, i, least[n_used])
                n_used += 1
        low, high = 0.0, _LARGEST_STRENGTH
        n_active, settled = 0, 0.0
        for j in range(n_used):
            if most[j] > least[j]:
                active[n_active] = j
                n_active += 1
            else:
                settled += _log(table, factor, cell[j], least[j])
        strength = min(max(np.log(at_low / wanted), 1e-6), 0.5 * high) if wanted > 0 else 0.5 * high
        while at_high < wanted and high - low > _NARROW * high:
            if n_active == 1 and most[active[0]] - least[active[0]] == 1:
                break
            total = settled
            for a in range(n_active):
                j = active[a]
                i = cell[j]
                middle[j] = _binomial(noise[g, i], counts[g, i], np.exp(-strength * weights[g, i]))
                total += _log(table, factor, i, middle[j])
            above = total > wanted
            if above:
                low, at_low = strength, total
            else:
                high, at_high = strength, total
            kept = 0
            for a in range(n_active):
                j = active[a]
                if above:
                    most[j] = middle[j]
                else:
                    least[j] = middle[j]
                if most[j] > least[j]:
                    active[kept] = j
                    kept += 1
                else:
                    settled += _log(table, factor, cell[j], least[j])
            n_active = kept
            if low == 0.0:
                strength = high / _WIDEN
            elif high == _LARGEST_STRENGTH:
                strength = min(low * _WIDEN, 0.5 * (low + high))
            else:
                strength = _between(low, high, at_low, at_high, wanted)
        for j in range(n_used):
            counts[g, cell[j]] = least[j]


@njit(cache=True)
def add_to_genes(
    counts: np.ndarray,
    factor: np.ndarray,
    table: np.ndarray,
    pace: np.ndarray,
    target: np.ndarray,
    noise: np.ndarray,
    waits: np.ndarray,
) -> None:
    """Add to the counts ``(G, N)``, in place, as long as no gene exceeds its target mean."""
    n_genes, n_cells = counts.shape
    active = np.empty(n_cells, np.int64)
    least, most, middle = np.zeros(n_cells), np.zeros(n_cells), np.zeros(n_cells)
    before = np.empty(n_cells)
    for g in range(n_genes):
        wanted, base, slope = target[g] * n_cells, 0.0, 0.0
        for i in range(n_cells):
            before[i] = _log(table, factor, i, counts[g, i])
            base += before[i]
            slope += (_log(table, factor, i, counts[g, i] + 1) - before[i]) * pace[g, i]
            least[i] = 0.0
        # as if every count added were the only one of its cell
        rate = min(max((wanted - base) / max(slope, 1e-300), 10 * _SMALLEST_RATE), 0.5 * _LARGEST_RATE)
        low, high, at_low, at_high = _SMALLEST_RATE, _LARGEST_RATE, base, base
        n_active, settled = -1, 0.0  # until both ends of the interval have been looked at
        while high - low > _NARROW * high:
            if n_active == 1 and most[active[0]] - least[active[0]] == 1:
                break
            if n_active < 0:
                total = base
                for i in range(n_cells):
                    mean = rate * pace[g, i]
                    middle[i] = 0.0
                    if mean > waits[g, i]:
                        middle[i] = _poisson(noise[g, i], mean)
                        total += _log(table, factor, i, counts[g, i] + middle[i]) - before[i]
            else:
                total = settled
                for a in range(n_active):
                    i = active[a]
                    middle[i] = _poisson(noise[g, i], rate * pace[g, i])
                    total += _log(table, factor, i, counts[g, i] + middle[i])
            end = least if total < wanted else most
            if total < wanted:
                low, at_low = rate, total
            else:
                high, at_high = rate, total
            if n_active < 0:
                end[:] = middle
                if low > _SMALLEST_RATE and high < _LARGEST_RATE:
                    n_active, settled = 0, base
                    for i in range(n_cells):
                        if most[i] > least[i]:
                            settled -= before[i]
                            active[n_active] = i
                            n_active += 1
                        elif least[i] > 0:
                            settled += _log(table, factor, i, counts[g, i] + least[i]) - before[i]
            else:
                kept = 0
                for a in range(n_active):
                    i = active[a]
                    end[i] = middle[i]
                    if most[i] > least[i]:
                        active[kept] = i
                        kept += 1
                    else:
                        settled += _log(table, factor, i, counts[g, i] + least[i])
                n_active = kept
            if low == _SMALLEST_RATE:
                rate = max(high / _WIDEN, 0.5 * (low + high) if high < _WIDEN * low else 0.0)
            elif high == _LARGEST_RATE:
                rate = min(low * _WIDEN, 0.5 * (low + high))
            else:
                rate = _between(low, high, at_low, at_high, wanted)
        for i in range(n_cells):
            counts[g, i] += least[i]


@njit(cache=True)
def thin_expected(counts: np.ndarray, factor: np.ndarray, weights: np.ndarray, target: np.ndarray) -> None:
    """Scale the counts ``(G, N)`` down, in place and without drawing, to the target mean of every gene."""
    n_genes, n_cells = counts.shape
    for g in range(n_genes):
        low, high, strength = 0.0, _LARGEST_STRENGTH, 0.5
        for _ in range(_NEWTON_STEPS):
            total, slope = -target[g] * n_cells, 0.0
            for i in range(n_cells):
                if counts[g, i] > 0:
                    value = factor[i] * counts[g, i] * np.exp(-strength * weights[g, i])
                    total += np.log1p(value)
                    slope -= weights[g, i] * value / (1 + value)
            if total > 0:
                low = strength
            else:
                high = strength
            if high - low < _NARROW or abs(total) < _NARROW * n_cells:
                break
            strength = _next(strength, total, slope, low, high)
        for i in range(n_cells):
            counts[g, i] *= np.exp(-strength * weights[g, i])


@njit(cache=True)
def add_expected(counts: np.ndarray, factor: np.ndarray, weights: np.ndarray, target: np.ndarray) -> None:
    """Add a rate to the counts ``(G, N)``, in place and without drawing, up to the target mean of every gene."""
    n_genes, n_cells = counts.shape
    for g in range(n_genes):
        # in the logarithm: added rates span many orders of magnitude
        low, high = np.log(_SMALLEST_RATE), np.log(_LARGEST_RATE)
        log_rate = 0.0
        for _ in range(_NEWTON_STEPS):
            total, slope, rate = -target[g] * n_cells, 0.0, np.exp(log_rate)
            for i in range(n_cells):
                added = rate * weights[g, i]
                value = factor[i] * counts[g, i] + added
                total += np.log1p(value)
                slope += added / (1 + value)
            if total < 0:
                low = log_rate
            else:
                high = log_rate
            if high - low < _NARROW or abs(total) < _NARROW * n_cells:
                break
            log_rate = _next(log_rate, total, slope, low, high)
        rate = np.exp(log_rate)
        for i in range(n_cells):
            counts[g, i] += rate * weights[g, i] / factor[i]


@njit(cache=True)
def _next(point: float, value: float, slope: float, low: float, high: float) -> float:
    """One step of Newton's method, or the middle of the interval where that would leave it."""
    if slope != 0.0:
        step = point - value / slope
        if low < step < high:
            return step
    return 0.5 * (low + high)
