"""Adaptive shrinkage: what the effects of a condition in some contexts say about another context, gene by gene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

__all__ = ["Component", "EffectMixture", "Evidence"]

_N_SCALES = 8
# shares of the variance of an effect that are the same everywhere, where the rest is private or follows a kernel
_SHARED, _SHARED_BESIDE_KERNEL = (0.0, 0.5, 0.8, 0.95, 1.0), (0.0, 0.5, 0.8)
# shares of the main effect of its context that an effect may have
_MAIN = (0.0, 0.5, 1.0)
_N_STEPS, _N_STEPS_OF_CONDITION = 60, 20
# in the weights of one condition all conditions count as much as so many of its genes
_PRIOR_GENES = 50.0
# components with less weight cost time and change nothing
_LEAST_WEIGHT = 0.005


@dataclass(frozen=True, slots=True)
class Component:
    """One way in which the true effects of a gene may go together over contexts.

    Parameters
    ----------
    scale
        Standard deviation of an effect; 0 for none.
    shared
        Share of its variance that is the same in all contexts.
    kernel
        Number of the kernel that the rest follows; -1 for a rest that is private to each context.
    main
        Share of the main effect of its context that an effect has besides.
    """

    scale: float
    shared: float
    kernel: int
    main: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Effects of one condition in ``R`` contexts, for a target context where it was not measured.

    Parameters
    ----------
    effects, variances : (R, G)
        Effects and their sampling variances.
    factors
        Kernels of the contexts as ``(R + 1, K)`` factors, the target last; what they leave of 1 is private.
    main, main_variance : (R + 1, G)
        Main effects of the contexts over other perturbations, the target last; ``None`` where not all have one.
    """

    effects: np.ndarray
    variances: np.ndarray
    factors: tuple[np.ndarray, ...] = ()
    main: np.ndarray | None = None
    main_variance: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class EffectMixture:
    """A prior of effects over genes and contexts, learned from all conditions.

    Parameters
    ----------
    components
        The ways in which effects may go together.
    weights
        How often each of them occurs.

    Notes
    -----
    Stephens (2017), "False discovery rates: a new deal", Biostatistics 18:275; Urbut et al. (2019), "Flexible
    statistical methods for estimating and testing effects in genomic studies with multiple conditions", Nature Genetics
    51:187. Here the contexts include one in which nothing was measured, and sampling variances are those of the cells.
    """

    components: tuple[Component, ...]
    weights: tuple[float, ...]

    @classmethod
    def fit(cls, evidence: Sequence[Evidence]) -> Self:
        """Learn how effects go together by expectation and maximisation over genes and conditions.

        Parameters
        ----------
        evidence
            Of some conditions, at least one.

        Returns
        -------
        The prior, without components that hardly occur.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.transport import EffectMixture, Evidence
        >>> rng = np.random.default_rng(0)
        >>> same = np.repeat(rng.normal(size=(1, 300)), 4, axis=0)
        >>> evidence = Evidence(same + 0.1 * rng.normal(size=same.shape), np.full(same.shape, 0.01))
        >>> error = EffectMixture.fit([evidence]).mean(evidence) - same[0]
        >>> bool(np.abs(error).mean() < 0.1)
        True
        """
        noise = float(np.sqrt(np.median(np.concatenate([one.variances.ravel() for one in evidence]))))
        largest = max(float(np.abs(one.effects).max()) for one in evidence)
        n_kernels = max(len(one.factors) for one in evidence)
        components = _grid(noise, largest, n_kernels, any(one.main is not None for one in evidence))
        likelihood = np.hstack([_under_all(components, one)[0] for one in evidence])
        equal = np.full(len(components), 1 / len(components))
        weights = _maximised(likelihood, equal, np.full(len(components), 0.5), _N_STEPS)
        kept = weights >= min(_LEAST_WEIGHT, float(weights.max()))
        used = tuple(component for component, keep in zip(components, kept, strict=True) if keep)
        return cls(used, tuple((weights[kept] / weights[kept].sum()).tolist()))

    def mean(self, evidence: Evidence) -> np.ndarray:
        """Return the expected effect in the target context, ``(G,)``.

        Parameters
        ----------
        evidence
            Effects of the condition elsewhere. The weights are adapted to its genes.
        """
        likelihood, means = _under_all(self.components, evidence)
        prior = np.array(self.weights)
        weights = _maximised(likelihood, prior, _PRIOR_GENES * prior, _N_STEPS_OF_CONDITION)
        shares = _scaled(likelihood) * weights[:, None]
        return (shares * means).sum(axis=0) / shares.sum(axis=0)


def _grid(noise: float, largest: float, n_kernels: int, with_main: bool) -> tuple[Component, ...]:
    """All components that are tried; those of scale 0 say that nothing happens beyond the main effect."""
    scales = np.geomspace(noise / 4, max(1.2 * largest, noise), _N_SCALES)
    structures = [(shared, -1) for shared in _SHARED]
    structures += [(shared, kernel) for kernel in range(n_kernels) for shared in _SHARED_BESIDE_KERNEL]
    mains = _MAIN if with_main else (0.0,)
    varied = [Component(float(s), shared, kernel, m) for m in mains for shared, kernel in structures for s in scales]
    return (*(Component(0.0, 0.0, -1, main) for main in mains), *varied)


def _under_all(components: Sequence[Component], evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood of every gene and mean of the target under every component, each ``(M, G)``."""
    likelihoods, means = zip(*(_under(component, evidence) for component in components), strict=True)
    return np.array(likelihoods), np.array(means)


def _under(component: Component, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood of every gene and mean of the target under one component, each ``(G,)``."""
    effects, noise, start = evidence.effects, evidence.variances, np.zeros(evidence.effects.shape[1])
    if component.main and evidence.main is not None and evidence.main_variance is not None:
        effects = effects - component.main * evidence.main[:-1]
        noise = noise + component.main**2 * evidence.main_variance[:-1]
        start = component.main * evidence.main[-1]
    factors = component.scale * _factors(component, evidence)
    # what the factors leave of the variance is private to each context
    diagonal = noise + np.maximum(component.scale**2 - (factors[:-1] ** 2).sum(axis=1), 0)[:, None]
    solved, determinant = effects / diagonal, np.log(diagonal).sum(axis=0)
    columns = [factor[:, None] / diagonal for factor in factors[:-1].T]
    # one factor after the other (Sherman and Morrison), so that no matrix of a gene is inverted
    for number, factor in enumerate(factors[:-1].T):
        own = columns[number]
        growth = 1 + factor @ own
        determinant += np.log(growth)
        for other in (solved, *columns[number + 1 :]):
            other -= own * ((factor @ other) / growth)
    likelihood = -0.5 * (determinant + (effects * solved).sum(axis=0))
    return likelihood, start + (factors[:-1] @ factors[-1]) @ solved


def _factors(component: Component, evidence: Evidence) -> np.ndarray:
    """Factors of the covariance of contexts and target at scale 1, ``(R + 1, K)``."""
    shared = np.full((len(evidence.effects) + 1, 1), np.sqrt(component.shared))
    if not 0 <= component.kernel < len(evidence.factors):
        return shared
    return np.hstack([shared, np.sqrt(1 - component.shared) * evidence.factors[component.kernel]])


def _scaled(likelihood: np.ndarray) -> np.ndarray:
    """Likelihoods relative to the largest of each gene."""
    return np.exp(likelihood - likelihood.max(axis=0))


def _maximised(likelihood: np.ndarray, weights: np.ndarray, prior: np.ndarray, n_steps: int) -> np.ndarray:
    """Weights of components after steps of expectation and maximisation, with a Dirichlet prior."""
    scaled = _scaled(likelihood)
    for _ in range(n_steps):
        counts = weights * (scaled @ (1 / np.maximum(weights @ scaled, 1e-300))) + prior
        weights = counts / counts.sum()
    return weights
