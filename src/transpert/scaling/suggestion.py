"""Which perturbations to measure next, so that most is known of the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist

from transpert._arguments import check_whole
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

_WIDTHS = (0.5, 1.0, 2.0)  # of a Gaussian kernel, relative to the middle distance
_NOISES = (0.03, 0.1, 0.3, 1.0)  # variance that no neighbour tells, relative to what neighbours share
_UNRELATED = "unrelated"
_MARGIN = 0.98  # a kernel that is not better than this, of the error without one, is taken for luck


_LEAST = 0.01  # weight from which a kernel counts


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One way in which effects may be alike.

    Parameters
    ----------
    weight
        How much it is believed.
    covariance : (P, P)
        Expected covariance of effects, of mean 1 on the diagonal.
    noise
        Variance of an effect that no neighbour tells, in the same unit.
    """

    weight: float
    covariance: np.ndarray
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """How alike the effects of perturbations are expected to be.

    Parameters
    ----------
    kind
        ``"linear"`` or ``"gaussian"`` in the vectors; ``"unrelated"`` if neither predicts left-out effects.
    covariance : (P, P)
        Expected covariance of effects, of mean 1 on the diagonal.
    noise
        Variance of an effect that no neighbour tells, in the same unit.
    error
        Squared error of left-out effects, relative to predicting their mean.
    kernels
        All that may be right, with their weights; the one above alone by default.
    """

    kind: str
    covariance: np.ndarray
    noise: float
    error: float
    kernels: tuple[Kernel, ...] = ()

    @property
    def believed(self) -> tuple[Kernel, ...]:
        """The kernels that a choice is made with."""
        return self.kernels or (Kernel(1.0, self.covariance, self.noise),)


@as_annotated(vectors="finite P d", measured="positions M", effects="finite M G")
def fit_similarity(vectors: np.ndarray, measured: np.ndarray, effects: np.ndarray) -> Similarity:
    """Choose kernels on vectors by how well they predict effects that are left out.

    Parameters
    ----------
    vectors : (P, d)
        A vector for each perturbation.
    measured : (M,)
        Which of them were measured.
    effects : (M, G)
        Their effects.

    Returns
    -------
    The similarity of all ``P`` perturbations.

    Raises
    ------
    transpert.errors.MetricInputError
        If there is not one effect for each measured perturbation.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import fit_similarity
    >>> vectors = np.random.default_rng(0).normal(size=(30, 3))
    >>> fit_similarity(vectors, np.arange(15), vectors[:15] @ np.ones((3, 5))).kind
    'linear'
    """
    _check_inside(measured, len(vectors), "measured")
    unrelated = Similarity(_UNRELATED, np.eye(len(vectors)), 0.0, 1.0)
    if len(measured) < 4:
        return unrelated
    centred = effects - effects.mean(axis=0)
    # every other perturbation predicts a left-out one by the mean of the rest
    base = ((centred * len(effects) / (len(effects) - 1)) ** 2).sum()
    if base <= 0:
        return unrelated
    own = np.ix_(measured, measured)
    tried = []
    for kind, kernel in _kernels(vectors):
        for noise in _NOISES:
            error = _left_out_error(kernel[own] + noise * np.eye(len(measured)), effects) / base
            tried.append(Similarity(kind, kernel, noise, float(error)))
    best = min(tried, key=lambda similarity: similarity.error)
    return replace(best, kernels=_weighted(tried, len(measured))) if best.error < _MARGIN else unrelated


def in_contexts(similarity: Similarity, perturbation: np.ndarray, context: np.ndarray, shared: float) -> Similarity:
    """Return the similarity of pairs ``(Q,)``, when the effects of one perturbation in two contexts share so much."""
    factor = np.where(context[:, None] == context, 1.0, shared)
    pairs = np.ix_(perturbation, perturbation)
    kernels = tuple(replace(kernel, covariance=kernel.covariance[pairs] * factor) for kernel in similarity.kernels)
    return replace(similarity, covariance=similarity.covariance[pairs] * factor, kernels=kernels)


def _weighted(tried: list[Similarity], n_measured: int) -> tuple[Kernel, ...]:
    """Weigh kernels by how well they predict, the more so the more was measured: a few effects do not tell which."""
    errors = np.array([similarity.error for similarity in tried])
    weights = (errors.min() / errors) ** n_measured
    weights /= weights.sum()
    return tuple(
        Kernel(float(weight), similarity.covariance, similarity.noise)
        for weight, similarity in zip(weights, tried, strict=True)
        if weight > _LEAST
    )


@as_annotated(measured="positions M", candidates="positions C")
def choose_next(
    similarity: Similarity, measured: np.ndarray, candidates: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose perturbations one after the other, each the one that tells most about the rest given those before.

    Parameters
    ----------
    similarity
        Of :func:`fit_similarity`.
    measured : (M,)
        Perturbations that are known.
    candidates : (C,)
        Those that can be chosen.
    n
        How many are chosen.
    rng
        Breaks ties; where nothing is known of similarities, all are ties.

    Returns
    -------
    The chosen ones ``(n,)``, and the share of the unknown variance of the candidates that is left after each.

    Notes
    -----
    Greedy choice by the expected variance that is left (active learning of Cohn et al. 1996, for a Gaussian process),
    averaged over the kernels that may be right.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import Similarity, choose_next
    >>> alike = Similarity("gaussian", np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1.0]]), 0.1, 0.5)
    >>> chosen, left = choose_next(alike, np.array([], dtype=int), np.arange(3), 2, np.random.default_rng(0))
    >>> sorted(chosen.tolist())[-1], bool(left[1] < left[0])
    (2, True)
    """
    check_whole(n, name="n")
    for name, positions in (("measured", measured), ("candidates", candidates)):
        _check_inside(positions, len(similarity.covariance), name)
    known = set(measured)
    left = np.array([index for index in candidates if index not in known])
    beliefs = [_Belief.of(kernel, measured, left) for kernel in similarity.believed]
    chosen: list[int] = []
    shares = []
    for _ in range(min(n, len(left))):
        gain = np.sum([belief.gain(left) for belief in beliefs], axis=0)
        best = np.flatnonzero(gain >= gain.max() * (1 - 1e-9))
        pick = int(left[rng.choice(best)])
        chosen.append(pick)
        left = left[left != pick]
        for belief in beliefs:
            belief.learn(pick)
        total = sum(belief.weight for belief in beliefs)
        shares.append(sum(belief.weight * belief.unknown(left) for belief in beliefs) / total)
    return np.array(chosen, dtype=np.int64), np.array(shares)


@dataclass(slots=True, eq=False)
class _Belief:
    """What is known of the effects if one kernel is right."""

    weight: float
    covariance: np.ndarray
    noise: float
    total: float = 1.0

    @classmethod
    def of(cls, kernel: Kernel, measured: np.ndarray, left: np.ndarray) -> _Belief:
        belief = cls(kernel.weight, kernel.covariance.astype(np.float64), kernel.noise)
        for known in measured:
            belief.learn(int(known))
        belief.total = float((np.diag(belief.covariance)[left] + belief.noise).sum())
        return belief

    def learn(self, known: int) -> None:
        """Take an effect as known."""
        self.covariance = _conditioned(self.covariance, known, self.noise)

    def gain(self, left: np.ndarray) -> np.ndarray:
        """Return the share of the unknown variance that measuring each would remove, times the weight."""
        block = self.covariance[np.ix_(left, left)]
        variance = np.diag(block) + self.noise
        # measuring one removes its own variance too
        removed = ((block**2).sum(axis=1) - np.diag(block) ** 2) / np.maximum(variance, 1e-12) + variance
        return self.weight * removed / max(self.total, 1e-12)

    def unknown(self, left: np.ndarray) -> float:
        """Return the share of the unknown variance that is left."""
        return float((np.diag(self.covariance)[left] + self.noise).sum()) / max(self.total, 1e-12)


def _check_inside(positions: np.ndarray, n: int, name: str) -> None:
    """Refuse positions beyond the perturbations that there are."""
    if len(positions) and positions.max() >= n:
        raise MetricInputError(
            f"position {positions.max()} is beyond the {n} perturbations",
            where=name,
            remedy="Count them from 0, in the order of the vectors.",
        )


def _conditioned(covariance: np.ndarray, known: int, noise: float) -> np.ndarray:
    """Covariance once one effect is known."""
    row = covariance[known]
    return covariance - np.outer(row, row) / max(row[known] + noise, 1e-12)


def _kernels(vectors: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Candidate kernels, of mean 1 on the diagonal."""
    centred = vectors - vectors.mean(axis=0)
    linear = centred @ centred.T
    found = [("linear", linear / max(np.diag(linear).mean(), 1e-12))]
    apart = cdist(vectors, vectors)
    middle = np.median(apart[np.triu_indices_from(apart, 1)]) if len(vectors) > 1 else 1.0
    return found + [("gaussian", np.exp(-((apart / max(width * middle, 1e-12)) ** 2) / 2)) for width in _WIDTHS]


def _left_out_error(covariance: np.ndarray, effects: np.ndarray) -> float:
    """Squared error of each effect predicted from the others, with an unknown mean."""
    n = len(covariance)
    inverse = np.linalg.inv(covariance + 1e-9 * np.eye(n))
    sums = inverse.sum(axis=1)
    inverse = inverse - np.outer(sums, sums) / sums.sum()  # the mean is estimated from the rest
    return float((((inverse @ effects) / np.diag(inverse)[:, None]) ** 2).sum())
