"""How much of the response of a screen is conserved, belongs to the context, to their interaction, or is noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transpert._signatures import as_annotated
from transpert.errors import MetricInputError
from transpert.transport import shrink_effects

COMPONENTS = ("conserved", "context", "interaction", "noise")


@dataclass(frozen=True, slots=True, eq=False)
class HalvedEffects:
    """Effects that were measured twice, in disjoint halves of the treated cells and of the controls.

    Parameters
    ----------
    first, second : (R, G)
        Effects in the two halves, of the same space, for example differences of mean log1p.
    contexts, perturbations : (R,)
        Labels of the rows; a pair occurs once.
    """

    first: np.ndarray
    second: np.ndarray
    contexts: np.ndarray
    perturbations: np.ndarray

    def __post_init__(self) -> None:
        if self.first.ndim != 2 or self.first.shape != self.second.shape or not len(self.first):
            raise MetricInputError(
                f"the halves have the shapes {self.first.shape} and {self.second.shape}",
                remedy="Give both as effects x genes.",
            )
        if not len(self.contexts) == len(self.perturbations) == len(self.first):
            raise MetricInputError(
                "there is not one context and one perturbation for each effect",
                remedy="Give a label of both for each row.",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Energies:
    """Mean squared lengths of the parts of an effect, summed over genes; for every draw of a bootstrap.

    Parameters
    ----------
    signal, noise, conserved : (B, P)
        Of every perturbation: the effect itself, the error of its measurement, and the part that is the same in all
        contexts. NaN where a draw has no two contexts of a perturbation.
    within, systematic : (B,)
        What two perturbations share in one context, and what they share in two. The latter is part of what is
        conserved; the difference is what a context does whatever the perturbation.
    """

    signal: np.ndarray
    noise: np.ndarray
    conserved: np.ndarray
    within: np.ndarray
    systematic: np.ndarray


@as_annotated(context_weights="finite B C", perturbation_weights="finite B P")
def effect_energies(
    effects: HalvedEffects, *, context_weights: np.ndarray, perturbation_weights: np.ndarray
) -> Energies:
    """Split the energy of effects by products of effects that share a perturbation, a context, both or neither.

    A product of the effects of one perturbation in two contexts contains what the two share, and no noise, for their
    cells are different. So does the product of two perturbations in one context where one is taken from each half, for
    then their controls are different too. Averages of such products are unbiased, also with few contexts.

    Parameters
    ----------
    effects
        Effects measured twice, ``R`` of them, of ``P`` perturbations in ``C`` contexts.
    context_weights : (B, C)
        How often each context counts in each draw, contexts in sorted order; ones for the estimate itself.
    perturbation_weights : (B, P)
        The same for the perturbations, in sorted order.

    Returns
    -------
    The energies of every draw. Negative values occur where there is little but noise.

    Raises
    ------
    transpert.errors.MetricInputError
        If there is not one weight for each context and perturbation.

    Notes
    -----
    Estimates of variance components by products of effects with independent errors, as in split-half analyses; the
    draws are those of Owen (2007), "The pigeonhole bootstrap", Annals of Applied Statistics 1:386.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import HalvedEffects, effect_energies
    >>> values = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> twice = HalvedEffects(values, values, np.array(["a", "b"]), np.array(["P", "P"]))
    >>> energies = effect_energies(twice, context_weights=np.ones((1, 2)), perturbation_weights=np.ones((1, 1)))
    >>> float(energies.signal[0, 0]), float(energies.conserved[0, 0]), float(energies.noise[0, 0])
    (1.0, 1.0, 0.0)
    """
    table = _Table.of(effects)
    w, v = context_weights.astype(np.float64), perturbation_weights.astype(np.float64)
    if (w.shape[1], v.shape[1]) != table.measured.shape:
        raise MetricInputError(
            f"the weights are for {w.shape[1]} contexts and {v.shape[1]} perturbations, of which there are "
            f"{table.measured.shape[0]} and {table.measured.shape[1]}",
            remedy="Give a weight for each context and each perturbation.",
        )
    twice = np.einsum("rg,rg->r", effects.first, effects.second)
    error = ((effects.first - effects.second) ** 2).sum(axis=1) / 4
    there = w @ table.measured
    crossed = table.crossed(w)
    conserved = _ratio(crossed - (w**2) @ table.put(table.squares), there**2 - (w**2) @ table.measured)
    signal, noise = (_ratio(w @ table.put(values), there) for values in (twice, error))
    within = _within_contexts(table, effects, table.put(twice), w, v)
    return Energies(signal, noise, conserved, within, _across(table, crossed, w, v))


def without_shared_errors(energies: Energies, *, within: float, systematic: float) -> Energies:
    """Believe in what perturbations share as far as it exceeds what shared controls make of nothing.

    The perturbations of a context have their controls in common, and so the error of these. Its energy averages 0, but
    over a few contexts only, and where effects are weak it is as large as they are. ``within`` and ``systematic`` are
    the sampling variances of the energies of these names; an energy below 1.4 standard errors is taken for none.
    """
    common = _believed(energies.systematic, systematic)
    context = _believed(energies.within - np.nan_to_num(common), within)
    shared = context + np.nan_to_num(common)
    less, less_common = (
        np.nan_to_num(new - old)[:, None] for new, old in ((shared, energies.within), (common, energies.systematic))
    )
    return Energies(energies.signal + less, energies.noise - less, energies.conserved + less_common, shared, common)


def _believed(energy: np.ndarray, variance: float) -> np.ndarray:
    """The non-negative garrote with twice the variance, 0 where it is negative."""
    return shrink_effects(np.maximum(energy, 0), np.full(energy.shape, 2 * variance))


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Where the effects stand in the table of contexts and perturbations."""

    context: np.ndarray
    perturbation: np.ndarray
    measured: np.ndarray
    whole: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, effects: HalvedEffects) -> _Table:
        """Number contexts and perturbations in sorted order."""
        context, perturbation = (
            np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
            for labels in (effects.contexts, effects.perturbations)
        )
        measured = np.zeros((context.max() + 1, perturbation.max() + 1))
        measured[context, perturbation] = 1
        whole = (effects.first + effects.second) / 2
        return cls(context, perturbation, measured, whole, np.einsum("rg,rg->r", whole, whole))

    def put(self, values: np.ndarray) -> np.ndarray:
        """Put one value an effect into the table, 0 where nothing was measured."""
        table = np.zeros(self.measured.shape)
        table[self.context, self.perturbation] = values
        return table

    def crossed(self, w: np.ndarray) -> np.ndarray:
        """Squared lengths of the weighted sums over contexts of every perturbation, ``(B, P)``."""
        found = np.zeros((len(w), self.measured.shape[1]))
        order = np.argsort(self.perturbation, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(self.perturbation[order])) + 1):
            weights = w[:, self.context[rows]]
            products = self.whole[rows] @ self.whole[rows].T
            found[:, self.perturbation[rows[0]]] = np.einsum("bi,ij,bj->b", weights, products, weights, optimize=True)
        return found


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Divide sums by counts, NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0.5)


def _within_contexts(
    table: _Table, effects: HalvedEffects, twice: np.ndarray, w: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Mean product of two perturbations in one context, one of each half, ``(B,)``."""
    sums = np.zeros(len(w))
    for context in range(len(table.measured)):
        rows = np.flatnonzero(table.context == context)
        weights = v[:, table.perturbation[rows]]
        first, second = weights @ effects.first[rows], weights @ effects.second[rows]
        sums += w[:, context] * np.einsum("bg,bg->b", first, second)
    counts = (w * (v @ table.measured.T) ** 2).sum(axis=1)
    return _ratio(sums - _weighted(w, twice, v**2), counts - _weighted(w, table.measured, v**2))


def _across(table: _Table, crossed: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Mean product of two perturbations in two contexts, ``(B,)``."""
    total, same = np.zeros((len(w), table.whole.shape[1])), np.zeros(len(w))
    for context in range(len(table.measured)):
        rows = np.flatnonzero(table.context == context)
        summed = w[:, context, None] * (v[:, table.perturbation[rows]] @ table.whole[rows])
        same += np.einsum("bg,bg->b", summed, summed)
        total += summed
    sums = np.einsum("bg,bg->b", total, total) - same - (v**2 * crossed).sum(axis=1)
    sizes = w * (v @ table.measured.T)
    counts = sizes.sum(axis=1) ** 2 - (sizes**2).sum(axis=1) - (v**2 * (w @ table.measured) ** 2).sum(axis=1)
    # what shares both was taken away twice
    both = (_weighted(w**2, values, v**2) for values in (table.put(table.squares), table.measured))
    return _ratio(sums + next(both), counts + next(both))


def _weighted(w: np.ndarray, table: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sum a table with weights of contexts and perturbations, ``(B,)``."""
    return np.einsum("bc,cp,bp->b", w, table, v, optimize=True)
