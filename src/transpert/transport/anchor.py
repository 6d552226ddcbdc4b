"""The anchor: the mean effect of a condition in a context, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from transpert.conditions import Condition

from .coefficients import EffectTable, SumsByContext, condition_coefficients, context_coefficients, weighted_sum
from .dependence import FEWEST_CONTEXTS, ContextScores, Dependence
from .dose import given_parts, interpolate_over
from .effects import GroupEffects
from .evidence import Evidence, WeighedEvidence
from .options import AnchorOptions, EffectSpace
from .perturbation_ridge import PerturbationRidge
from .rates import shift_mean_log
from .shrinkage import shrink_effects
from .statistics import GroupStatistics

Situation = Literal["pair", "context", "perturbation"]
# weights of the terms of a combination where none was seen: its effect is the sum of its parts
ADDITIVE = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True, slots=True, eq=False)
class AnchorPrediction:
    """What the anchor says about one population.

    Parameters
    ----------
    mean_log : (G,)
        Predicted mean log1p counts per 10k.
    by_space
        The same from each space of effects alone.
    """

    mean_log: np.ndarray
    by_space: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """A fitted anchor.

    Parameters
    ----------
    options
        How it predicts.
    table
        The effects it knows.
    rates : (P, G)
        Mean counts per 10k of the controls of each effect.
    effects, variances
        The effects in each space and their sampling variances, ``(P, G)``.
    dispersion : (G,)
        Negative-binomial dispersion.
    scale
        ``1e4 / library size`` of a typical cell.
    dependence
        How effects follow the control profiles of their contexts, for each space; ``None`` for not at all.
    parts
        For each space and situation the weights of the context's main effect, the condition's main effect and the
        dependence on the context.
    combination
        For each space the weights of what the effect of a combination is made of, ``(3,)``: the sum of its parts, what
        the effects of its context have in common, and its largest part.
    stack
        Weight of each space.
    ridge
        How effects follow the embeddings of the perturbations; ``None`` without embeddings, or with too few.
    evidence
        Effects that other screens measured, with their weights.
    """

    options: AnchorOptions
    table: EffectTable
    rates: np.ndarray
    effects: dict[str, np.ndarray]
    variances: dict[str, np.ndarray]
    dispersion: np.ndarray
    scale: float
    dependence: dict[str, Dependence | None]
    parts: dict[str, dict[str, np.ndarray]]
    combination: dict[str, np.ndarray]
    stack: dict[str, float]
    ridge: PerturbationRidge | None = None
    evidence: tuple[WeighedEvidence, ...] = ()
    # made when they are asked for, and handed on to an anchor that is made of this one
    _sums: dict[tuple[str, int], SumsByContext] = field(default_factory=dict, repr=False)

    # --- prediction -----------------------------------------------------------------------------------------

    def predict(
        self,
        condition: Condition,
        context: str,
        control: GroupStatistics,
        *,
        allowed: np.ndarray | None = None,
        measured: bool = True,
    ) -> AnchorPrediction:
        """Predict the mean of one population.

        Parameters
        ----------
        condition
            What is done to the cells.
        context
            Where; a context that was never perturbed is predicted from its control profile.
        control
            Statistics of the control cells that are moved, one group.
        allowed : (P,)
            Measured effects that may be used; all by default.
        measured
            Use the effect itself where just this condition was measured in this context; where other doses of it were
            measured too, what the curve through all of them says.

        Returns
        -------
        The prediction; for the control condition the control mean itself.
        """
        before, rate = control.mean_log[0], control.mean_rate[0]
        if condition.is_control:
            return AnchorPrediction(before, dict.fromkeys(self.options.spaces, before))
        allowed = np.ones(len(self.table.weights), dtype=bool) if allowed is None else allowed
        by_space: dict[str, np.ndarray] = {}
        for space in self.options.spaces:
            effect = self._effect(space, condition, context, before, allowed, measured)
            by_space[space] = self.apply(space, effect, before, rate)
        mean = np.maximum(sum(self.stack[space] * value for space, value in by_space.items()), 0)
        own = self.table.of_context(context) & self.table.of_action(condition) & allowed if self.evidence else None
        if own is not None and not (measured and own.any()):
            situation = self.situation(condition, context, allowed)
            for source in self.evidence:
                weight = source.weights.get(situation, 0.0)
                mean += weight * self.told_by(source.evidence, condition, context, control, mean)
        return AnchorPrediction(mean, by_space)

    def told_by(
        self, evidence: Evidence, condition: Condition, context: str, control: GroupStatistics, mean: np.ndarray
    ) -> np.ndarray:
        """Return by how much evidence has the mean log1p of a population above a prediction of it, ``(G,)``.

        It is 0 for genes that the evidence does not have, and everywhere if it does not know the condition.
        """
        effect = evidence.effect(condition, context, control.mean_log[0])
        if effect is None:
            return np.zeros_like(mean)
        known = np.isfinite(effect)
        told = self.apply("log_fold", np.where(known, effect, 0), control.mean_log[0], control.mean_rate[0])
        return np.where(known, told - mean, 0)

    def predict_left_out(self, effects: GroupEffects, leave_out: Callable[[int], np.ndarray]) -> np.ndarray:
        """Predict training groups from an anchor that has not seen them.

        Parameters
        ----------
        effects
            The effects the anchor was fitted to.
        leave_out
            Maps a row to the effects, ``(P,)`` bool, that must not be used for it.

        Returns
        -------
        ``(P, G)``: predicted shifts of the mean log1p.
        """
        return np.array([self.shift_of_group(effects, row, ~leave_out(row)) for row in range(len(effects))])

    def shift_of_group(
        self, effects: GroupEffects, row: int, allowed: np.ndarray, *, measured: bool = False
    ) -> np.ndarray:
        """Predict the shift of the mean log1p of one group from some of the measured effects.

        Parameters
        ----------
        effects
            The groups.
        row
            The one to predict.
        allowed : (P,)
            The effects that may be used, bool.
        measured
            Take what was measured in the context itself as it is, where it may be used.

        Returns
        -------
        ``(G,)``.
        """
        control = as_statistics(effects, row)
        prediction = self.predict(
            effects.conditions[row], effects.contexts[row], control, allowed=allowed, measured=measured
        )
        return prediction.mean_log - control.mean_log[0]

    def leave_out(self, row: int, situation: Situation) -> np.ndarray:
        """Return the effects that must not be seen if a row is to be new in a given way, ``(P,)`` bool."""
        context, condition = self.table.contexts[row], self.table.conditions[row]
        if situation == "context":
            return self.table.of_context(context)
        if situation == "perturbation":
            return self.table.n_shared_parts(condition) > 0
        return self.table.of_context(context) & self.table.of_action(condition)

    def apply(self, space: str, effect: np.ndarray, before: np.ndarray, rate: np.ndarray) -> np.ndarray:
        """Apply an effect in one space to a population with a given mean log1p and mean rate, each ``(G,)``."""
        if space == "log1p":
            return np.maximum(before + effect, 0)
        return shift_mean_log(
            before, rate, effect, pseudo_rate=self.options.pseudo_rate, dispersion=self.dispersion, scale=self.scale
        )

    def _effect(
        self,
        space: EffectSpace,
        condition: Condition,
        context: str,
        profile: np.ndarray,
        allowed: np.ndarray,
        measured: bool,
    ) -> np.ndarray:
        """The shrunken effect in one space."""
        given = given_parts(condition) if condition.is_combination else condition
        if self.is_known(given, allowed) and not (self.table.of_condition(condition) & allowed).any():
            condition = given
        if condition.is_combination and not self.is_known(condition, allowed):
            return self.combination[space] @ self.combination_terms(space, condition, context, profile, allowed)
        effect, variance = self.effect_and_variance(space, condition, context, profile, allowed, measured)
        return shrink_effects(effect, self.options.shrinkage * variance)

    def combination_terms(
        self, space: str, condition: Condition, context: str, profile: np.ndarray, allowed: np.ndarray
    ) -> np.ndarray:
        """Return the terms whose weighted sum is the effect of a combination, ``(3, G)``.

        The first is the sum of its parts. The second is what the effects of the context have in common, or those of all
        contexts where it has none: the sum counts it once for every part. The third is, gene by gene, the largest part:
        it remains where effects saturate.
        """
        found = [self.effect_and_variance(space, c, context, profile, allowed, True) for c in condition.singles()]
        parts, variances = (np.array(values) for values in zip(*found, strict=True))
        penalty = self.options.shrinkage * variances
        total = shrink_effects(parts.sum(axis=0), penalty.sum(axis=0))
        main = context_coefficients(self.table, context, allowed, without=condition)
        if not main.any():  # a context of which no effect is known is taken to be like the others
            main = _everything(self.table, allowed)
        common = self.sums(space).weighted(main[None])[0]
        variance = self.sums(space, power=2).weighted(main[None] ** 2)[0]
        common = shrink_effects(common, self.options.shrinkage * variance)
        shrunken = shrink_effects(parts, penalty)
        largest = np.take_along_axis(shrunken, np.abs(shrunken).argmax(axis=0)[None], axis=0)[0]
        return np.stack([total, (len(parts) - 1) * common, largest])

    def effect_and_variance(
        self,
        space: str,
        condition: Condition,
        context: str,
        profile: np.ndarray,
        allowed: np.ndarray,
        measured: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the effect in one space and the variance by which it is still to be shrunken, each ``(G,)``."""

        def at(known: Condition) -> tuple[np.ndarray, np.ndarray]:
            own = self.table.of_context(context) & self.table.of_condition(known) & allowed
            if measured and own.any():
                share = own / own.sum()
                return weighted_sum(share, self.effects[space]), weighted_sum(share**2, self.variances[space])
            parts = self.shrunken_parts(space, known, context, profile, allowed)
            weights = self.parts[space].get(self.situation(known, context, allowed), np.ones(3))
            return weights @ parts, np.zeros(parts.shape[1])

        usable = np.flatnonzero(self.table.of_action(condition) & allowed)
        return interpolate_over(condition, [self.table.conditions[row] for row in usable], at)

    def is_known(self, condition: Condition, allowed: np.ndarray) -> bool:
        """Return whether some dose or time of a condition is among the effects that may be used, ``(P,)`` bool."""
        return bool((self.table.of_action(condition) & allowed).any())

    def shrunken_parts(
        self, space: str, condition: Condition, context: str, profile: np.ndarray, allowed: np.ndarray
    ) -> np.ndarray:
        """Return the main effect of the context, that of the condition, and its dependence on the context, ``(3, G)``.

        The last two are shrunken gene by gene by their sampling error, each for itself.
        """
        coefficients = self.three_parts(space, condition, context, profile, allowed)
        parts = self.sums(space).weighted(coefficients)
        variances = self.sums(space, power=2).weighted(coefficients[1:] ** 2)
        parts[1:] = shrink_effects(parts[1:], self.options.shrinkage * variances)
        return parts

    def sums(self, space: str, *, power: int = 1) -> SumsByContext:
        """Return the effects in one space, or with the power 2 their variances, ready to be summed."""
        if (space, power) not in self._sums:
            values = (self.effects if power == 1 else self.variances)[space]
            self._sums[space, power] = SumsByContext(self.table, values, power)
        return self._sums[space, power]

    def three_parts(
        self, space: str, condition: Condition, context: str, profile: np.ndarray, allowed: np.ndarray
    ) -> np.ndarray:
        """Return coefficients of the context's main effect, the condition's, and its dependence on the context."""
        table = self.table
        main = context_coefficients(table, context, allowed, without=condition)
        of_condition = condition_coefficients(table, condition, context, allowed)
        if self.ridge is not None and not of_condition.any():
            # seen nowhere else: what similar perturbations do stands for what it does
            of_condition = self.ridge.coefficients(space, table, condition, context, allowed)
            if not main.any():
                main = _everything(table, allowed)
        if not main.any() and not of_condition.any():
            # nothing is known of either: the mean over everything is the least wrong
            main = _everything(table, allowed)
        chosen = self.dependence[space]
        dependence = np.zeros_like(main)
        if chosen is not None:
            contexts = ContextScores.of(table, condition, context, profile, allowed, n_components=chosen.n_components)
            dependence = chosen.coefficients(contexts, len(main))
        return np.stack([main, of_condition, dependence])

    def situation(self, condition: Condition, context: str, allowed: np.ndarray) -> Situation:
        """Return what would be new if only some effects, ``(P,)`` bool, had been measured."""
        others = ~self.table.of_condition(condition)
        if not (self.table.of_context(context) & others & allowed).any():
            return "context"
        if not (self.table.of_condition(condition) & allowed & ~self.table.of_context(context)).any():
            return "perturbation"
        return "pair"

    def known_from_evidence(self) -> set[str]:
        """Return the perturbations that other screens have effects of, where they count for one measured nowhere."""
        counting = [source.evidence for source in self.evidence if source.weights.get("perturbation")]
        return {name for evidence in counting for name in evidence.perturbations}

    def evidence_texts(self) -> list[str]:
        """Return how much each source of evidence counts in each situation, a line a source."""
        return [
            f"{source.evidence.name}: weight "
            + ", ".join(f"{weight:.2f} for an unseen {name}" for name, weight in source.weights.items())
            for source in self.evidence
        ]

    def remarks(self) -> list[str]:
        """Return lines for a summary: what is off, and how much evidence counts."""
        return [*(f"  off: {reason}" for reason in self.missing()), *(f"  {text}" for text in self.evidence_texts())]

    def missing(self) -> list[str]:
        """Return what is off because conditions were measured in too few contexts, one sentence each."""
        if self.options.kind == "mean" or not self.table.conditions:
            return []
        most = max(int(self.table.of_condition(condition).sum()) for condition in set(self.table.conditions))
        if most > FEWEST_CONTEXTS:
            return []
        found = f"no condition was measured in more than {most}"
        return [f"how effects follow control profiles needs {FEWEST_CONTEXTS + 1} contexts; {found}"]


def _everything(table: EffectTable, allowed: np.ndarray) -> np.ndarray:
    """Coefficients of the mean over all measured effects."""
    return np.where(allowed, table.weights, 0) / max(table.weights[allowed].sum(), 1e-9)


def as_statistics(effects: GroupEffects, row: int) -> GroupStatistics:
    """The control population of a training group, in the form in which new ones come."""
    control = effects.control
    rate, log = control.mean_rate[[row]].astype(float), control.mean_log[[row]].astype(float)
    nothing = np.zeros_like(rate)
    return GroupStatistics(control.n_cells[[row]], rate, nothing, log, nothing, np.ones(1))
