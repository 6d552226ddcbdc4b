"""The effect of a perturbation that was never measured, from the embeddings of those that were."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from transpert._amounts import amount_gap
from transpert.conditions import Condition, Embedding
from transpert.conditions.condition import opposed

from .coefficients import EffectTable, context_coefficients

Kernel = Literal["linear", "gaussian"]

# with fewer perturbations there is nothing to learn about how effects follow an embedding
FEWEST_PERTURBATIONS = 5
# penalties relative to the mean of the diagonal of the kernel, which is 1
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# an intercept, as a constant in the kernel: what all perturbations have in common is not to be learned from them
_INTERCEPT = 100.0
# a smaller share of explained variance is what choosing among many gives by chance, and counts as none
_LEAST_GAIN = 0.01
# how much more the target's own context counts than the mean over all contexts
_OWN_SHARES = (0.0, 0.5, 1.0)
# a perturbation with more cells than this multiple of the mean is not trusted more
_LARGEST_WEIGHT = 3.0
# hyperparameters are compared on at most this many contexts
_MOST_CONTEXTS = 12

# and on at most this many perturbations
_MOST_PERTURBATIONS = 800

type Setting = tuple[tuple[float | None, ...], float | None, tuple[str | None, ...]]
type _Question = tuple[Setting, str, bytes]


@dataclass(frozen=True, slots=True)
class RidgeChoice:
    """What leaving perturbations out has chosen.

    Parameters
    ----------
    kernel
        ``"linear"``: effects are linear in the embedding; ``"gaussian"``: only similar perturbations have similar
        effects.
    block
        Which of several tables is used; ``None`` for all of them.
    penalty
        Ridge penalty, relative to the mean of the diagonal of the kernel.
    own_share
        Weight of the effects in the target's own context, against their mean over all contexts.
    gain
        Share of the squared deviations from the context means that is explained for perturbations left out; at most 1,
        0 for no better than the context mean.
    """

    kernel: Kernel
    block: int | None
    penalty: float
    own_share: float
    gain: float


@dataclass(frozen=True, slots=True, eq=False)
class PerturbationRidge:
    """A kernel ridge regression of effects on embeddings of perturbations, one for each space of effects.

    For a perturbation that was not measured it gives weights of measured effects, the same for every gene: each
    measured perturbation stands for its deviation from the mean effect of its context. Doses and times
    are matched: of every measured perturbation the rows nearest to what is asked for are used, and none of another
    direction.

    Parameters
    ----------
    embedding
        Vectors of all perturbations, measured or not.
    parts
        The single perturbations that were measured, in the order of ``inverse``.
    weights : (Q,)
        How much each counts, by its cells.
    choices
        For each space what was chosen.
    inverse
        For each space the inverse of the penalised kernel of the measured perturbations, ``(Q, Q)``.
    """

    embedding: Embedding
    parts: tuple[str, ...]
    weights: np.ndarray
    choices: Mapping[str, RidgeChoice]
    inverse: Mapping[str, np.ndarray]
    _centre: np.ndarray = field(init=False, repr=False)
    _scale: np.ndarray = field(init=False, repr=False)
    _known: np.ndarray = field(init=False, repr=False)
    # the deviations asked for last: both spaces, and all perturbations of a context, ask for the same ones
    _last: dict[_Question, tuple[EffectTable, _Deviations]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        vectors = self.embedding.lookup(self.parts).astype(np.float64)
        object.__setattr__(self, "_centre", vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1]))
        object.__setattr__(self, "_scale", _block_scales(vectors, self.embedding.blocks))
        object.__setattr__(self, "_known", (vectors - self._centre) / self._scale)

    @classmethod
    def fit(
        cls,
        table: EffectTable,
        effects: Mapping[str, np.ndarray],
        variances: Mapping[str, np.ndarray],
        embedding: Embedding,
    ) -> Self | None:
        """Choose kernel, table, penalty and weight of the own context by leaving perturbations out.

        Parameters
        ----------
        table
            The measured effects.
        effects, variances
            The effects in each space and their sampling variances, ``(P, G)``.
        embedding
            A vector for every perturbation.

        Returns
        -------
        The regression, or ``None`` with fewer than five single perturbations.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a measured perturbation has no vector.
        """
        parts, weights = _measured(table)
        embedding.require({part for condition in table.conditions for part in condition.parts})
        if len(parts) < FEWEST_PERTURBATIONS:
            return None
        unfitted = cls(embedding, parts, weights, {}, {})
        # evenly spaced by name, so that the time to choose does not grow with the third power of the perturbations
        some = np.unique(np.linspace(0, len(parts) - 1, min(len(parts), _MOST_PERTURBATIONS)).astype(int))
        compared = cls(embedding, tuple(parts[i] for i in some), weights[some], {}, {})
        return unfitted._with(compared._choose(table, effects, variances))

    def coefficients(
        self, space: str, table: EffectTable, condition: Condition, context: str, allowed: np.ndarray
    ) -> np.ndarray:
        """Weights of the measured effects in the deviation of a perturbation from the mean of its context.

        Parameters
        ----------
        space
            Space of the effects.
        table
            The effects it was fitted to.
        condition
            A single perturbation; combinations get zeros.
        context
            Where it is given.
        allowed : (P,)
            Effects that may be used.

        Returns
        -------
        ``(P,)``; all zero if fewer than five measured perturbations are left, or the condition is none of one part.

        Raises
        ------
        transpert.errors.UnknownNameError
            If the perturbation has no vector.
        """
        nothing = np.zeros(len(table.weights))
        if len(condition.parts) != 1:
            return nothing
        self.embedding.require(condition.parts)
        choice = self.choices[space]
        if choice.gain < _LEAST_GAIN:
            return nothing
        deviations = self._deviations(table, _setting(condition), context, allowed)
        # a perturbation says nothing about itself here: it is either unknown or to be taken for unknown
        kept = deviations.known & np.array([part != condition.parts[0] for part in self.parts])
        if kept.sum() < FEWEST_PERTURBATIONS:
            return nothing
        target = self._kernel(choice, self._standard(condition.parts), self._known)[0]
        inverse, left = self.inverse[space], ~kept
        by_part = inverse @ np.where(kept, target, 0.0)
        if left.any():
            # the inverse without some rows, from the one with all of them
            by_part -= np.linalg.solve(inverse[np.ix_(left, left)], by_part[left]) @ inverse[left]
            by_part[left] = 0.0
        return deviations.weights_of(by_part, choice.own_share)

    def _deviations(self, table: EffectTable, setting: Setting, context: str, allowed: np.ndarray) -> _Deviations:
        question = (setting, context, allowed.tobytes())
        of, found = self._last.get(question, (None, None))
        if found is None or of is not table:
            found = _deviations(table, self.parts, setting, context, allowed)
            self._last.clear()
            self._last[question] = (table, found)
        return found

    # --- choosing -------------------------------------------------------------------------------------------

    def _choose(
        self, table: EffectTable, effects: Mapping[str, np.ndarray], variances: Mapping[str, np.ndarray]
    ) -> dict[str, RidgeChoice]:
        """Choose for every space by the error of what the others say about each perturbation."""
        place = {part: i for i, part in enumerate(self.parts)}
        usable = np.array([len(c.parts) == 1 and c.parts[0] in place for c in table.conditions])
        contexts = list(dict.fromkeys(table.contexts[usable]))[:_MOST_CONTEXTS]
        n_shares = len(_OWN_SHARES) if len(contexts) > 1 else 1
        # genes count by how well they are measured
        weighted = {
            space: values / np.sqrt(np.maximum(variances[space][usable].mean(axis=0), 1e-12))
            for space, values in effects.items()
        }
        errors = {space: [_LeftOutErrors() for _ in range(n_shares)] for space in effects}
        settings = list(dict.fromkeys(_setting(c) for c, ok in zip(table.conditions, usable, strict=True) if ok))
        for context in contexts:
            main, here = context_coefficients(table, context, usable), usable & table.of_context(context)
            for setting in settings:
                rows = [row for row in np.flatnonzero(here) if _setting(table.conditions[row]) == setting]
                if len(rows) < FEWEST_PERTURBATIONS:
                    continue
                own = tuple(place[table.conditions[row].parts[0]] for row in rows)
                deviations = _deviations(table, self.parts, setting, context, usable)
                for space, values in weighted.items():
                    observed = values[rows] - main @ values
                    for share, found in zip(_OWN_SHARES, errors[space], strict=False):
                        found.add(own, observed, deviations.apply(values, share))
        return self._best_of_all(errors)

    def _best_of_all(self, errors: Mapping[str, list[_LeftOutErrors]]) -> dict[str, RidgeChoice]:
        """Try every kernel, table and penalty, and in every space every weight of the own context."""
        alone = np.linalg.inv(np.diag(1 / self.weights) + _INTERCEPT)
        total = {space: max(found[0].of(alone), 1e-12) for space, found in errors.items()}
        best = dict.fromkeys(errors, RidgeChoice("linear", None, max(_PENALTIES), _OWN_SHARES[0], 0.0))
        blocks: list[int | None] = [None]
        if len(self.embedding.blocks) > 1:
            blocks += list(range(len(self.embedding.blocks)))
        kernels: tuple[Kernel, ...] = ("linear", "gaussian")
        for kernel, block, penalty in itertools.product(kernels, blocks, _PENALTIES):
            inverse = self._inverse(RidgeChoice(kernel, block, penalty, 0.0, 0.0))
            for space, found in errors.items():
                for share, own in zip(_OWN_SHARES, found, strict=False):
                    gain = 1 - own.of(inverse) / total[space]
                    if gain > best[space].gain:
                        best[space] = RidgeChoice(kernel, block, penalty, share, gain)
        return best

    def _with(self, choices: Mapping[str, RidgeChoice]) -> Self:
        # spaces mostly choose alike
        made: dict[tuple[Kernel, int | None, float], np.ndarray] = {}
        inverse = {}
        for space, choice in choices.items():
            key = choice.kernel, choice.block, choice.penalty
            made[key] = inverse[space] = made[key] if key in made else self._inverse(choice)
        return type(self)(self.embedding, self.parts, self.weights, choices, inverse)

    def _inverse(self, choice: RidgeChoice) -> np.ndarray:
        """Invert the penalised kernel, which is positive definite, by its Cholesky factor."""
        kernel = self._kernel(choice, self._known, self._known)
        kernel[np.diag_indices(len(kernel))] += choice.penalty / self.weights
        factor, failed = lapack.dpotrf(kernel, lower=True, overwrite_a=True)
        assert not failed  # the penalties are far above what rounding leaves of equal vectors
        inverse, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
        lower = np.tril(inverse, -1)
        return lower + lower.T + np.diag(np.diag(inverse))

    def _standard(self, parts: Sequence[str]) -> np.ndarray:
        """Vectors on the scale of the measured ones, every table on the same footing."""
        return (self.embedding.lookup(parts) - self._centre) / self._scale

    def _kernel(self, choice: RidgeChoice, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Similarities of perturbations by their standard vectors."""
        columns = _columns(self.embedding.blocks, choice.block)
        # the total variance of the measured perturbations in these columns
        variance = max(float(self._known[:, columns].var(axis=0).sum()), 1e-12)
        if choice.kernel == "linear":
            return left[:, columns] @ right[:, columns].T / variance + _INTERCEPT
        # the mean squared distance of two of them is twice that
        return np.exp(-_squared_distances(left[:, columns], right[:, columns]) / (2 * variance)) + _INTERCEPT

    # --- files ----------------------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """Return what was chosen as plain data; the embedding and the effects are kept elsewhere."""
        names = ("kernel", "block", "penalty", "own_share", "gain")
        return {space: {name: getattr(choice, name) for name in names} for space, choice in self.choices.items()}

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], table: EffectTable, embedding: Embedding) -> Self:
        """Make a regression from what :meth:`to_state` returned."""
        parts, weights = _measured(table)
        choices = {space: RidgeChoice(**values) for space, values in plain.items()}
        return cls(embedding, parts, weights, {}, {})._with(choices)


class _LeftOutErrors:
    """Squared errors of what the others say about each perturbation, the closed form of leaving one out.

    The effects are reduced to their inner products once, so that another penalty costs nothing per gene. Contexts in
    which the same perturbations were measured are one sum.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, ...], list[Any]] = {}

    def add(self, own: tuple[int, ...], observed: np.ndarray, deviations: np.ndarray) -> None:
        """Add a context: deviations ``(Q, G)``, and what was observed ``(m, G)`` of the perturbations ``own``."""
        rest = observed - deviations[list(own)]
        found = float((rest**2).sum()), rest @ deviations.T, deviations @ deviations.T
        before = self._sums.get(own)
        self._sums[own] = list(found) if before is None else [a + b for a, b in zip(before, found, strict=True)]

    def of(self, inverse: np.ndarray) -> float:
        """Return the error with the inverse ``(Q, Q)`` of a penalised kernel."""
        error, diagonal = 0.0, np.diag(inverse)[:, None]
        for own, (square, crossed, within) in self._sums.items():
            chosen = list(own)
            smoothed = inverse[chosen] / diagonal[chosen]
            error += square + float((smoothed * (2 * crossed + smoothed @ within)).sum())
        return error


def _measured(table: EffectTable) -> tuple[tuple[str, ...], np.ndarray]:
    """The single perturbations that were measured and how much each counts, 1 on average or less."""
    cells: dict[str, float] = {}
    for condition, weight in zip(table.conditions, table.weights, strict=True):
        if len(condition.parts) == 1:
            cells[condition.parts[0]] = cells.get(condition.parts[0], 0.0) + float(weight)
    parts = tuple(sorted(cells))
    weights = np.array([cells[part] for part in parts])
    return parts, np.minimum(weights / weights.mean(), _LARGEST_WEIGHT) if len(parts) else weights


@dataclass(frozen=True, slots=True, eq=False)
class _Deviations:
    """How each measured perturbation deviates from the means of its contexts, as weights of measured effects."""

    everywhere: sparse.csr_array
    here: sparse.csr_array
    of_context: sparse.csr_array
    centre: sparse.csr_array

    @property
    def known(self) -> np.ndarray:
        """Which perturbations have an effect that may be used, ``(Q,)``."""
        return np.diff(self.everywhere.indptr) > 0

    def _share(self, own_share: float) -> sparse.csr_array:
        if own_share == 0:
            return self.everywhere
        # where the own context has nothing to say, the others speak for it
        own = own_share * (np.diff(self.here.indptr) > 0)
        return sparse.csr_array(sparse.diags_array(own) @ self.here + sparse.diags_array(1 - own) @ self.everywhere)

    def apply(self, effects: np.ndarray, own_share: float) -> np.ndarray:
        """Return the deviations themselves, ``(Q, G)``."""
        share = self._share(own_share)
        return share @ effects - (share @ self.of_context) @ (self.centre @ effects)

    def weights_of(self, by_part: np.ndarray, own_share: float) -> np.ndarray:
        """Return the weights of the measured effects, ``(P,)``, in a weighted sum of deviations."""
        rows = by_part @ self._share(own_share)
        return rows - (rows @ self.of_context) @ self.centre


def _deviations(
    table: EffectTable, parts: tuple[str, ...], setting: Setting, context: str, allowed: np.ndarray
) -> _Deviations:
    """Choose the measured rows nearest to dose and time, as weights of what each perturbation does in a context."""
    place = {part: i for i, part in enumerate(parts)}
    nearest: dict[tuple[int, str], tuple[float, list[int]]] = {}
    for row in np.flatnonzero(allowed):
        condition = table.conditions[row]
        if len(condition.parts) != 1:
            continue
        if opposed(condition.directions[0], setting[2][0]):
            continue
        key, apart = (place[condition.parts[0]], table.contexts[row]), _apart(condition, setting)
        best = nearest.get(key)
        if best is None or apart < best[0]:
            nearest[key] = (apart, [int(row)])
        elif apart == best[0]:
            best[1].append(int(row))
    used = [(part, row, where) for (part, where), (_, rows) in nearest.items() for row in rows]
    contexts = list(dict.fromkeys(table.contexts))
    number = {where: i for i, where in enumerate(contexts)}
    size = len(table.weights)

    def share(chosen: list[tuple[int, int, str]]) -> sparse.csr_array:
        rows = np.array([part for part, _, _ in chosen], dtype=int)
        columns = np.array([row for _, row, _ in chosen], dtype=int)
        weights = table.weights[columns]
        total = np.bincount(rows, weights, minlength=len(parts))
        return sparse.csr_array((weights / total[rows], (rows, columns)), shape=(len(parts), size))

    centre = sparse.csr_array(np.array([context_coefficients(table, where, allowed) for where in contexts]))
    codes = np.array([number[where] for where in table.contexts])
    of_context = sparse.csr_array((np.ones(size), (np.arange(size), codes)), shape=(size, len(contexts)))
    return _Deviations(share(used), share([u for u in used if u[2] == context]), of_context, centre)


def _setting(condition: Condition) -> Setting:
    return condition.doses, condition.time, condition.directions


def _apart(condition: Condition, setting: Setting) -> float:
    """How far dose and time of a condition are from those asked for, on log scales."""
    (dose, *_), time, _ = setting
    own = condition.doses[0]
    doses = amount_gap(own, dose) if own is not None and dose is not None else 0.0
    times = amount_gap(condition.time, time) if condition.time is not None and time is not None else 0.0
    return float(doses + times)


def _columns(blocks: tuple[int, ...], block: int | None) -> slice:
    if block is None:
        return slice(None)
    start = sum(blocks[:block])
    return slice(start, start + blocks[block])


def _block_scales(vectors: np.ndarray, blocks: tuple[int, ...]) -> np.ndarray:
    """Divide the columns of each table by this, and every table has the same total variance, ``(E,)``."""
    variance = vectors.var(axis=0) if len(vectors) else np.ones(vectors.shape[1])
    totals = [variance[_columns(blocks, i)].sum() for i in range(len(blocks))]
    return np.repeat(np.sqrt(np.maximum(totals, 1e-12)), blocks)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T, 0)
