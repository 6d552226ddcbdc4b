"""Curves of scores by size: a saturating power law, against a constant and a saturating exponential."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from transpert._arguments import check_whole
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, OptionError

type Kind = Literal["constant", "exponential", "power"]

_KINDS: tuple[Kind, ...] = ("constant", "exponential", "power")
_EXPONENTS = np.geomspace(0.02, 4.0, 160)
_REACH = np.geomspace(0.2, 5.0, 160)  # of the scale of an exponential, relative to the smallest and the largest size
_FEWEST = 4  # sizes, for three unknowns


@dataclass(frozen=True, slots=True, eq=False)
class ScalingCurve:
    """A fitted curve, with the draws of a bootstrap.

    Parameters
    ----------
    kind
        ``"constant"`` (the score does not depend on the size), ``"exponential"`` or ``"power"``.
    floor
        Score without any training data.
    best, amplitude, rate : (1 + B,)
        Of the estimate and of each draw: the score that is approached, what the smallest size lacks of it, and the
        exponent ``b`` of a power law, or the scale of an exponential. ``score(n) = best - amplitude * x(n)``, with
        ``x = (n / n_min) ** -b`` or ``exp(-(n - n_min) / scale)``.
    sizes : (S,)
        The sizes that were measured.
    aicc
        Corrected information criterion of each kind; the smallest was chosen.
    """

    kind: Kind
    floor: float
    best: np.ndarray
    amplitude: np.ndarray
    rate: np.ndarray
    sizes: np.ndarray
    aicc: dict[str, float]

    def predict(self, sizes: np.ndarray) -> np.ndarray:
        """Return the curves at other sizes.

        Parameters
        ----------
        sizes : (K,)
            Sizes from the smallest measured one upwards.

        Returns
        -------
        ``(1 + B, K)``: the estimate, then the draws.
        """
        sizes = np.atleast_1d(np.asarray(sizes, dtype=np.float64))
        return self.best[:, None] - self.amplitude[:, None] * _shape(self.kind, sizes, self.sizes.min(), self.rate)

    def saturation(self, share: float = 0.95) -> np.ndarray:
        """Return the smallest measured size whose mean score exceeds a share of the way from floor to best.

        Parameters
        ----------
        share
            The share, between 0 and 1.

        Returns
        -------
        ``(1 + B,)``; infinite where none of the measured sizes does.
        """
        if not 0 < share < 1:
            raise OptionError(f"share is {share}", remedy="Give a number between 0 and 1, like 0.95.")
        reached = self.predict(self.sizes) >= self.floor + share * (self.best - self.floor)[:, None] - 1e-12
        first = np.argmax(reached, axis=1)
        return np.where(reached.any(axis=1), self.sizes[first], np.inf)

    def gain(self, now: float, more: float) -> np.ndarray:
        """Return what growing by ``more`` adds to the score at size ``now``, ``(1 + B,)``.

        Parameters
        ----------
        now, more
            The size there is, and by how much it grows.

        Returns
        -------
        The estimate, then the draws.
        """
        values = self.predict(np.array([now, now + more]))
        return values[:, 1] - values[:, 0]


@as_annotated()
def fit_curve(
    sizes: np.ndarray, scores: np.ndarray, *, floor: float = 0.0, n_bootstrap: int = 500, seed: int = 0
) -> ScalingCurve:
    """Fit curves to scores by size, and keep the kind with the smallest AICc.

    Parameters
    ----------
    sizes : (S,)
        Sizes above 0, in ascending order.
    scores : (S, R, K)
        Scores of ``R`` seeds on ``K`` test conditions, for example normalised between baseline and ceiling.
    floor
        Score of size 0.
    n_bootstrap
        Draws of seeds and of test conditions.
    seed
        Seed of the draws.

    Returns
    -------
    The curve.

    Raises
    ------
    transpert.errors.MetricInputError
        If there are fewer than four sizes, or scores are missing.

    Notes
    -----
    The curve is linear in ``best`` and ``amplitude``, so that only the rate is searched. A bootstrap of so few seeds is
    too narrow by ``sqrt((R - 1) / R)``, which is put right. AICc: Hurvich and Tsai (1989), Biometrika 76:297.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import fit_curve
    >>> sizes = np.array([10, 30, 100, 300, 1000, 3000])
    >>> curve = fit_curve(sizes, (0.8 - 0.5 * (sizes / 10) ** -0.7)[:, None, None], n_bootstrap=10)
    >>> curve.kind, float(curve.rate[0].round(1)), float(curve.best[0].round(2))
    ('power', 0.7, 0.8)
    """
    sizes, scores = np.asarray(sizes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if scores.ndim != 3 or sizes.ndim != 1 or len(sizes) != len(scores) or len(sizes) < _FEWEST:
        raise MetricInputError(
            f"there are {sizes.size} sizes, and scores of the shape {scores.shape}",
            remedy=f"Give at least {_FEWEST} sizes, and scores as sizes x seeds x conditions.",
        )
    if not np.isfinite(scores).all() or not (np.diff(sizes) > 0).all() or sizes[0] <= 0:
        raise MetricInputError(
            "scores are missing, or sizes do not ascend from above 0",
            remedy="Leave sizes without scores out, and sort the others.",
        )
    check_whole(n_bootstrap, name="n_bootstrap", most=10**6)
    runs = scores.mean(axis=2)
    means = runs.mean(axis=1)
    draws = np.vstack([means, _bootstrap(scores, n_bootstrap, np.random.default_rng(check_seed(seed)))])
    spread = ((runs - means[:, None]) ** 2).sum()
    fits = {kind: _fit(kind, sizes, draws) for kind in _KINDS}
    aicc: dict[str, float] = {
        kind: _aicc(fit[3][0] * runs.shape[1] + spread, runs.size, 2 if kind == "constant" else 4)
        for kind, fit in fits.items()
    }
    kind = min(_KINDS, key=lambda name: aicc[name])
    best, amplitude, rate, _ = fits[kind]
    return ScalingCurve(kind, float(floor), best, amplitude, rate, sizes, aicc)


@as_annotated(sizes="S", runs="S R")
def published_saturation(sizes: np.ndarray, runs: np.ndarray, share: float = 0.95) -> float:
    """Return the learning saturation point as DenAdel et al. define it.

    The smallest size at which any run exceeds a share of the largest single run of all. The maximum is biased upwards
    and the best seed downwards; :meth:`ScalingCurve.saturation` compares means.

    Parameters
    ----------
    sizes : (S,)
        Sizes in ascending order.
    runs : (S, R)
        Scores of the runs, as they are.
    share
        The share of the largest run.

    Returns
    -------
    A size that was measured.

    Notes
    -----
    DenAdel et al. (2026), Nature Methods, 10.1038/s41592-026-03120-y.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import published_saturation
    >>> float(published_saturation(np.array([1, 10, 100]), np.array([[0.2, 0.3], [0.5, 0.97], [0.9, 1.0]])))
    10.0
    """
    runs = np.asarray(runs, dtype=np.float64)
    return float(np.asarray(sizes)[np.argmax((runs > share * np.nanmax(runs)).any(axis=1))])


def _bootstrap(scores: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw seeds and conditions, the same at every size, and average, ``(B, S)``."""
    n_seeds, n_conditions = scores.shape[1:]
    counts = [rng.multinomial(n, np.full(n, 1 / n), n_draws) / n for n in (n_seeds, n_conditions)]
    mean = scores.mean(axis=(1, 2))
    by_condition = np.einsum("src,bc->bsr", scores, counts[1])
    drawn = np.einsum("bsr,br->bs", by_condition, counts[0])
    fewest = n_seeds if n_seeds > 1 else n_conditions
    return mean + (drawn - mean) * np.sqrt(fewest / max(fewest - 1, 1))


def _shape(kind: Kind, sizes: np.ndarray, smallest: float, rate: np.ndarray) -> np.ndarray:
    """What is lacked at each size, of what is lacked at the smallest, ``(rates, sizes)``."""
    rate = np.atleast_1d(rate)[:, None]
    if kind == "power":
        return (sizes / smallest) ** -rate
    return np.exp(-(sizes - smallest) / rate) if kind == "exponential" else np.zeros((len(rate), len(sizes)))


def _fit(kind: Kind, sizes: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit every draw by least squares, and return best, amplitude, rate and the sum of squares."""
    mean = draws.mean(axis=1)
    total = ((draws - mean[:, None]) ** 2).sum(axis=1)
    if kind == "constant":
        return mean, np.zeros_like(mean), np.full_like(mean, np.nan), total
    rates = _EXPONENTS if kind == "power" else np.geomspace(_REACH[0] * sizes[0], _REACH[-1] * sizes[-1], len(_REACH))
    x = _shape(kind, sizes, sizes[0], rates)
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.maximum((centred**2).sum(axis=1), 1e-300)
    amplitude = np.maximum(-(draws @ centred.T) / variance, 0)  # more cells are not worse
    left = total[:, None] + 2 * amplitude * (draws @ centred.T) + amplitude**2 * variance
    chosen = np.argmin(left, axis=1)
    rows = np.arange(len(draws))
    picked = amplitude[rows, chosen]
    return mean + picked * x.mean(axis=1)[chosen], picked, rates[chosen], left[rows, chosen]


def _aicc(residual: float, n: int, k: int) -> float:
    """Information criterion of least squares, corrected for few observations."""
    if n - k - 1 <= 0:
        return float("inf") if k > 2 else n * float(np.log(max(residual, 1e-300) / n)) + 2 * k
    return n * float(np.log(max(residual, 1e-300) / n)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
