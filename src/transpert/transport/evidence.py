"""What was measured that bears on a condition in a context where it was not."""

from __future__ import annotations

import numpy as np

from transpert.conditions import Condition

from .coefficients import EffectTable, context_coefficients, weighted_sum
from .dependence import ContextScores
from .mixture import EffectMixture, Evidence

__all__ = ["FEWEST_CONTEXTS_OF_KERNEL", "fit_mixture", "gather_evidence"]

# with fewer contexts a kernel fits what their genes happen to have in common
FEWEST_CONTEXTS_OF_KERNEL = 6
_N_COMPONENTS, _WIDTHS, _MOST_FACTORS = 8, (0.5, 1.0), 4
# conditions, and genes in all, from which a mixture is learned
_MOST_CONDITIONS, _MOST_GENES = 10, 6_000
_MOST_GENES_OF_CONDITION = 1_500


def gather_evidence(
    table: EffectTable,
    effects: np.ndarray,
    variances: np.ndarray,
    condition: Condition,
    context: str,
    profile: np.ndarray,
    allowed: np.ndarray,
    genes: np.ndarray | slice = slice(None),
) -> Evidence | None:
    """Gather the effects of a condition in other contexts.

    Parameters
    ----------
    table
        The measured effects.
    effects, variances : (P, G)
        Their values in one space, and their sampling variances.
    condition, context
        The target.
    profile : (G,)
        Mean log1p of the controls of the target.
    allowed : (P,)
        Effects that may be used.
    genes
        Genes to gather.

    Returns
    -------
    The evidence; ``None`` where the condition was measured in no other context.
    """
    rows = np.flatnonzero(table.of_condition(condition) & allowed & ~table.of_context(context))
    if not len(rows):
        return None
    # where a gene is hardly expressed, its effect is as small as its error: that must not count as precision
    errors = variances[rows][:, genes]
    typical = errors.mean(axis=0)
    errors = typical * np.median(errors / np.maximum(typical, 1e-12), axis=1)[:, None]
    factors: tuple[np.ndarray, ...] = ()
    if len(rows) >= FEWEST_CONTEXTS_OF_KERNEL:
        scores = ContextScores.of(table, condition, context, profile, allowed, n_components=_N_COMPONENTS)
        factors = () if scores is None else tuple(_kernel_factors(scores, width) for width in _WIDTHS)
    main = np.array([context_coefficients(table, c, allowed, without=condition) for c in table.contexts[rows]])
    own = context_coefficients(table, context, allowed, without=condition)
    if not (main.any(axis=1).all() and own.any()):
        return Evidence(effects[rows][:, genes], errors, factors)
    coefficients = np.vstack([main, own])
    means, squared = weighted_sum(coefficients, effects)[:, genes], weighted_sum(coefficients**2, variances)[:, genes]
    return Evidence(effects[rows][:, genes], errors, factors, means, squared)


def _kernel_factors(contexts: ContextScores, width: float) -> np.ndarray:
    """Leading factors of a Gaussian kernel on control profiles, the target last, ``(R + 1, K)``."""
    scores = np.vstack([contexts.scores, contexts.target])
    between = np.square(scores[:, None] - scores).sum(axis=2)
    typical = np.median(between[:-1, :-1][np.triu_indices(len(scores) - 1, 1)])
    values, vectors = np.linalg.eigh(np.exp(-between / (2 * width**2 * max(float(typical), 1e-12))))
    return vectors[:, -_MOST_FACTORS:] * np.sqrt(np.maximum(values[-_MOST_FACTORS:], 0))


def fit_mixture(table: EffectTable, effects: np.ndarray, variances: np.ndarray, *, seed: int) -> EffectMixture | None:
    """Learn how effects go together over contexts.

    Parameters
    ----------
    table
        The measured effects.
    effects, variances : (P, G)
        Their values in one space, and their sampling variances.
    seed
        Seed for choosing conditions and genes where there are many.

    Returns
    -------
    The mixture; ``None`` where no condition was measured in two contexts.
    """
    rng = np.random.default_rng(seed)
    conditions = list(dict.fromkeys(table.conditions))
    several = [c for c in conditions if table.of_condition(c).sum() > 1]
    chosen = [several[i] for i in rng.permutation(len(several))[:_MOST_CONDITIONS]]
    if not chosen:
        return None
    n_genes = min(_MOST_GENES_OF_CONDITION, _MOST_GENES // len(chosen))
    genes = np.sort(rng.permutation(effects.shape[1])[:n_genes])
    everything, found = np.ones(len(table.weights), dtype=bool), []
    for condition in chosen:
        # any of its contexts may be the target: how the others go together is what is learned
        row = int(np.flatnonzero(table.of_condition(condition))[0])
        target = table.contexts[row], table.profiles[row]
        found.append(gather_evidence(table, effects, variances, condition, *target, everything, genes))
    return EffectMixture.fit([one for one in found if one is not None])
