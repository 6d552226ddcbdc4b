"""The anchor: the mean effect of a condition in a context, in closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, Self

import msgspec
import numpy as np

from transpert._schema import DAMAGED, checked
from transpert._signatures import as_annotated
from transpert.conditions import Condition, Embedding
from transpert.errors import ModelFileError, list_names

from .coefficients import EffectTable, condition_coefficients, context_coefficients, weighted_sum
from .dependence import FEWEST_CONTEXTS, ContextScores, Dependence
from .dose import given_parts, interpolate_over
from .effects import GroupEffects
from .evidence import FEWEST_CONTEXTS_OF_KERNEL, fit_mixture, gather_evidence
from .mixture import EffectMixture
from .options import AnchorOptions, EffectSpace
from .perturbation_ridge import PerturbationRidge
from .rates import shift_mean_log
from .shrinkage import shrink_effects
from .stack import fit_stack
from .statistics import GroupStatistics

Situation = Literal["pair", "context", "perturbation"]
# weights are learned from at most this many left-out groups
_MOST_LEFT_OUT = 150
# weights of the parts of a prediction that are tried, and the share of the gain that a larger weight may cost
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_TOLERANCE = 0.05


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
    interaction
        For each space by how much the sum of the parts of a combination is multiplied.
    stack
        Weight of each space.
    ridge
        How effects follow the embeddings of the perturbations; ``None`` without embeddings, or with too few.
    mixtures
        For each space how effects of a gene go together over contexts; none without ``adaptive``, and where no
        condition was measured in two.
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
    interaction: dict[str, float]
    stack: dict[str, float]
    ridge: PerturbationRidge | None = None
    mixtures: Mapping[str, EffectMixture] = field(default_factory=dict)

    @classmethod
    @as_annotated(dispersion="G")
    def fit(
        cls,
        effects: GroupEffects,
        options: AnchorOptions,
        dispersion: np.ndarray,
        *,
        embedding: Embedding | None = None,
        seed: int = 0,
        progress: Callable[[str], None] | None = None,
    ) -> Self:
        """Fit the anchor to measured effects.

        Parameters
        ----------
        effects
            Effects of the training groups.
        options
            How to predict.
        dispersion : (G,)
            Negative-binomial dispersion of every gene.
        embedding
            A vector for every perturbation, from which those that were not measured are predicted.
        seed
            Seed for choosing which groups are left out where there are many.
        progress
            Called with a line of text before each part.

        Returns
        -------
        The fitted anchor.

        Examples
        --------
        >>> import transpert as tp
        >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=30, n_cells=50)
        >>> tp.RidgeTransport.setup_anndata(
        ...     adata, perturbation_key="perturbation", context_keys="context", layer="counts"
        ... )
        >>> model = tp.RidgeTransport(adata)
        >>> model.train()
        >>> sorted(model.anchor.stack)
        ['log1p', 'log_fold']
        """
        say = progress or (lambda _: None)
        if options.adaptive:
            options = dataclasses.replace(options, pseudo_rate=max(options.pseudo_rate, effects.molecule()))
        measured = {space: effects.in_space(space, options.pseudo_rate) for space in options.spaces}
        table = EffectTable(
            effects.contexts,
            effects.conditions,
            np.minimum(effects.treated.n_cells, effects.control.n_cells).astype(float),
            effects.control.mean_log,
        )
        cells = effects.statistics
        scale = float(np.average(cells.mean_inverse_library, weights=np.maximum(cells.n_cells, 1e-9)))
        anchor = cls(
            options,
            table,
            effects.control.mean_rate,
            {space: effect for space, (effect, _) in measured.items()},
            {space: variance for space, (_, variance) in measured.items()},
            np.asarray(dispersion, dtype=float),
            scale,
            dict.fromkeys(options.spaces),
            {space: {} for space in options.spaces},
            dict.fromkeys(options.spaces, 1.0),
            dict.fromkeys(options.spaces, 1 / len(options.spaces)),
        )
        if embedding is not None:
            say("Choosing how effects follow the embeddings by leaving perturbations out")
            ridge = PerturbationRidge.fit(table, anchor.effects, anchor.variances, embedding)
            anchor = dataclasses.replace(anchor, ridge=ridge)
        rng = np.random.default_rng(seed)
        left_out = rng.permutation(len(effects))[:_MOST_LEFT_OUT]
        say("Choosing how effects depend on the context by leaving contexts out")
        anchor = dataclasses.replace(anchor, dependence=anchor._choose_dependence(left_out))
        say("Weighting main effects by leaving groups out")
        anchor = dataclasses.replace(anchor, parts=anchor._fit_parts(left_out))
        if options.adaptive:
            say("Learning how effects go together over contexts")
            anchor = dataclasses.replace(anchor, mixtures=anchor._fit_mixtures(seed))
        anchor = dataclasses.replace(anchor, interaction=anchor._fit_interaction())
        say("Stacking the spaces of effects")
        return dataclasses.replace(anchor, stack=anchor._fit_stack(left_out, effects))

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
        mean = sum(self.stack[space] * value for space, value in by_space.items())
        return AnchorPrediction(np.maximum(mean, 0), by_space)

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

    def predict_groups(self, effects: GroupEffects) -> np.ndarray:
        """Predict groups that the anchor was not fitted to.

        Parameters
        ----------
        effects
            The groups.

        Returns
        -------
        ``(P, G)``: predicted shifts of the mean log1p.
        """
        everything = np.ones(len(self.table.weights), dtype=bool)
        return np.array([self.shift_of_group(effects, row, everything) for row in range(len(effects))])

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
        control = _as_statistics(effects, row)
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
        if self._is_known(given, allowed) and not (self.table.of_condition(condition) & allowed).any():
            condition = given
        if condition.is_combination and not self._is_known(condition, allowed):
            parts = [self._effect_and_variance(space, c, context, profile, allowed, True) for c in condition.singles()]
            factor = self.interaction[space]
            effect = factor * np.sum([part for part, _ in parts], axis=0)
            variance = factor**2 * np.sum([variance for _, variance in parts], axis=0)
        else:
            effect, variance = self._effect_and_variance(space, condition, context, profile, allowed, measured)
        weighted = shrink_effects(effect, self.options.shrinkage * variance)
        adaptive = self._adaptive_effect(space, condition, context, profile, allowed, measured)
        if adaptive is None:
            return weighted
        # one chooses weights for all genes, the other shrinks each by itself: they err differently
        share = self.options.adaptive
        return (1 - share) * weighted + share * adaptive

    def _adaptive_effect(
        self,
        space: EffectSpace,
        condition: Condition,
        context: str,
        profile: np.ndarray,
        allowed: np.ndarray,
        measured: bool,
    ) -> np.ndarray | None:
        """What the mixture says; nothing where no other context tells, or the context itself was measured."""
        mixture, table = self.mixtures.get(space), self.table
        known, here = table.of_action(condition) & allowed, table.of_context(context)
        if mixture is None or (measured and (known & here).any()) or not (known & ~here).any():
            return None
        effects, variances = self.effects[space], self.variances[space]

        def at(other: Condition) -> tuple[np.ndarray, np.ndarray]:
            evidence = gather_evidence(table, effects, variances, other, context, profile, allowed)
            mean = np.zeros(effects.shape[1]) if evidence is None else mixture.mean(evidence)
            return mean, np.zeros_like(mean)

        conditions = [table.conditions[row] for row in np.flatnonzero(known & ~here)]
        return interpolate_over(condition, conditions, at)[0]

    def _effect_and_variance(
        self,
        space: str,
        condition: Condition,
        context: str,
        profile: np.ndarray,
        allowed: np.ndarray,
        measured: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        def at(known: Condition) -> tuple[np.ndarray, np.ndarray]:
            coefficients = self._coefficients(space, known, context, profile, allowed, measured)
            # an effect that several groups agree on is trusted more than its sampling error says
            groups = max(np.abs(coefficients).sum() ** 2 / max(float((coefficients**2).sum()), 1e-12), 1.0)
            effect = weighted_sum(coefficients, self.effects[space])
            return effect, weighted_sum(coefficients**2, self.variances[space]) / groups

        usable = np.flatnonzero(self.table.of_action(condition) & allowed)
        return interpolate_over(condition, [self.table.conditions[row] for row in usable], at)

    def _is_known(self, condition: Condition, allowed: np.ndarray) -> bool:
        return bool((self.table.of_action(condition) & allowed).any())

    def _coefficients(
        self,
        space: str,
        condition: Condition,
        context: str,
        profile: np.ndarray,
        allowed: np.ndarray,
        measured: bool,
    ) -> np.ndarray:
        own = self.table.of_context(context) & self.table.of_condition(condition) & allowed
        if measured and own.any():
            return own / own.sum()
        three = self._three_parts(space, condition, context, profile, allowed)
        situation = self.situation(condition, context, allowed)
        return self.parts[space].get(situation, np.ones(3)) @ three

    def _three_parts(
        self, space: str, condition: Condition, context: str, profile: np.ndarray, allowed: np.ndarray
    ) -> np.ndarray:
        """Coefficients of the context's main effect, the condition's, and its dependence on the context."""
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

    def missing(self) -> list[str]:
        """Return what is off because conditions were measured in too few contexts, one sentence each."""
        if self.options.kind == "mean" or not self.table.conditions:
            return []
        most = max(int(self.table.of_condition(condition).sum()) for condition in set(self.table.conditions))
        needed = {"how effects follow control profiles": FEWEST_CONTEXTS + 1}
        if self.options.adaptive:
            needed |= {"adaptive shrinkage": 2, "the likeness of contexts in it": FEWEST_CONTEXTS_OF_KERNEL}
        found = f"no condition was measured in more than {most}"
        return [f"{part} needs {n} contexts; {found}" for part, n in needed.items() if most < n]

    # --- learning from left-out groups ----------------------------------------------------------------------

    def _choose_dependence(self, rows: np.ndarray) -> dict[str, Dependence | None]:
        tried = self.options.dependences()
        if len(tried) < 2:
            return dict.fromkeys(self.options.spaces, tried[0] if tried else None)
        errors: dict[str, np.ndarray] = {space: np.zeros(len(tried)) for space in self.options.spaces}
        for row in rows:
            for space, found in self._left_out_errors(int(row), tried).items():
                errors[space] += found
        # where no context can be left out, nothing speaks for any of them
        return {space: tried[int(np.argmin(found))] if found.any() else None for space, found in errors.items()}

    def _left_out_errors(self, row: int, tried: Sequence[Dependence]) -> dict[str, np.ndarray]:
        """Squared error of each dependence in a context that it has not seen, by space."""
        table = self.table
        condition, context, before = table.conditions[row], table.contexts[row], table.profiles[row]
        allowed = ~self.leave_out(row, "context")
        most = max(dependence.n_components for dependence in tried)
        contexts = ContextScores.of(table, condition, context, before, allowed, n_components=most)
        if contexts is None:
            return {}
        mean = condition_coefficients(table, condition, context, allowed)
        coefficients = np.array([mean + dependence.coefficients(contexts, len(mean)) for dependence in tried])
        errors: dict[str, np.ndarray] = {}
        for space in self.options.spaces:
            observed = self.apply(space, self.effects[space][row], before, self.rates[row])
            # errors count as they will show: in mean log1p, where genes that are hardly expressed weigh little
            effects = weighted_sum(coefficients, self.effects[space])
            predicted = [self.apply(space, effect, before, self.rates[row]) for effect in effects]
            errors[space] = np.sqrt(table.weights[row]) * np.square(np.array(predicted) - observed).mean(axis=1)
        return errors

    def _fit_parts(self, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Non-negative weights of the three parts, for each situation that can be imitated."""
        fitted: dict[str, dict[str, np.ndarray]] = {}
        for space in self.options.spaces:
            fitted[space] = {}
            for situation in ("pair", "context", "perturbation"):
                gram, moment = np.zeros((3, 3)), np.zeros(3)
                for row in rows:
                    allowed = ~self.leave_out(row, situation)
                    condition, context = self.table.conditions[row], self.table.contexts[row]
                    if condition.is_combination or not allowed.any():
                        continue
                    if self.situation(condition, context, allowed) != situation:
                        continue
                    three = self._three_parts(space, condition, context, self.table.profiles[row], allowed)
                    parts = weighted_sum(three, self.effects[space])
                    weight = np.sqrt(self.table.weights[row])
                    gram += weight * (parts @ parts.T)
                    moment += weight * (parts @ self.effects[space][row])
                if gram.any():
                    fitted[space][situation] = _largest_good_weights(gram, moment)
        return fitted

    def _fit_mixtures(self, seed: int) -> dict[str, EffectMixture]:
        """How effects go together over contexts, for each space in which that can be learned."""
        found = {
            space: fit_mixture(self.table, self.effects[space], self.variances[space], seed=seed)
            for space in self.options.spaces
        }
        return {space: mixture for space, mixture in found.items() if mixture is not None}

    def _fit_interaction(self) -> dict[str, float]:
        """How much of the sum of its parts the effect of a combination is, from combinations that were seen."""
        factors: dict[str, float] = {}
        everything = np.ones(len(self.table.weights), dtype=bool)
        for space in self.options.spaces:
            top = bottom = 0.0
            for row, condition in enumerate(self.table.conditions):
                if not condition.is_combination or not all(self._is_known(c, everything) for c in condition.singles()):
                    continue
                context, profile = self.table.contexts[row], self.table.profiles[row]
                parts = [
                    self._effect_and_variance(space, single, context, profile, everything, True)[0]
                    for single in condition.singles()
                ]
                total = np.sum(parts, axis=0)
                top += float(total @ self.effects[space][row])
                bottom += float(total @ total)
            # one pseudo-combination that is additive keeps a few noisy ones from deciding
            factors[space] = (top + bottom / 5) / (bottom + bottom / 5) if bottom else 1.0
        return factors

    def _fit_stack(self, rows: np.ndarray, effects: GroupEffects) -> dict[str, float]:
        if len(self.options.spaces) == 1:
            return {self.options.spaces[0]: 1.0}
        situation = self._main_situation()
        predicted: dict[str, list[np.ndarray]] = {space: [] for space in self.options.spaces}
        used = []
        for row in rows:
            allowed = ~self.leave_out(row, situation)
            if not allowed.any():
                continue
            control = _as_statistics(effects, int(row))
            prediction = self.predict(
                self.table.conditions[row], self.table.contexts[row], control, allowed=allowed, measured=False
            )
            used.append(row)
            for space, mean in prediction.by_space.items():
                predicted[space].append(mean - control.mean_log[0])
        if not used:
            return self.stack
        return fit_stack(
            {space: np.array(values) for space, values in predicted.items()},
            effects.shift()[used],
            np.sqrt(self.table.weights[used]),
        )

    def _main_situation(self) -> Situation:
        """What most data sets of this shape are used to predict."""
        contexts = len(set(self.table.contexts))
        if contexts == 1:
            return "perturbation"
        return "context" if len(self.table.weights) < 2 * contexts else "pair"

    # --- files ----------------------------------------------------------------------------------------------

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the anchor as plain data and arrays."""
        plain = {
            "options": self.options.to_dict(),
            "contexts": list(self.table.contexts),
            "conditions": [dataclasses.asdict(condition) for condition in self.table.conditions],
            "scale": self.scale,
            "dependence": {s: None if d is None else dataclasses.asdict(d) for s, d in self.dependence.items()},
            "parts": {s: {k: list(map(float, v)) for k, v in by.items()} for s, by in self.parts.items()},
            "interaction": self.interaction,
            "stack": self.stack,
            "ridge": None if self.ridge is None else self.ridge.to_state(),
            "mixtures": {space: dataclasses.asdict(mixture) for space, mixture in self.mixtures.items()},
        }
        arrays = {
            "weights": self.table.weights,
            "profiles": self.table.profiles,
            "rates": self.rates,
            "dispersion": self.dispersion,
        }
        for space in self.options.spaces:
            arrays[f"effects_{space}"] = self.effects[space]
            arrays[f"variances_{space}"] = self.variances[space]
        return plain, arrays

    @classmethod
    def from_state(
        cls, plain: dict[str, Any], arrays: dict[str, np.ndarray], embedding: Embedding | None = None
    ) -> Self:
        """Make an anchor from what :meth:`to_state` returned, and the embedding it was fitted with."""
        saved = checked(plain, _SavedAnchor, ModelFileError, "anchor", DAMAGED)
        options = saved.options
        _check_shapes(saved, arrays)
        contexts = np.array(saved.contexts, dtype=object)
        table = EffectTable(contexts, tuple(saved.conditions), arrays["weights"], arrays["profiles"])
        ridge = None
        if saved.ridge is not None and embedding is not None:
            ridge = PerturbationRidge.from_state(saved.ridge, table, embedding)
        return cls(
            options,
            table,
            arrays["rates"],
            {space: arrays[f"effects_{space}"] for space in options.spaces},
            {space: arrays[f"variances_{space}"] for space in options.spaces},
            arrays["dispersion"],
            saved.scale,
            saved.dependence,
            {space: {k: np.array(v) for k, v in by.items()} for space, by in saved.parts.items()},
            saved.interaction,
            saved.stack,
            ridge,
            saved.mixtures,
        )


class _SavedAnchor(msgspec.Struct):
    """What an anchor remembers beside its arrays."""

    options: AnchorOptions
    contexts: list[str]
    conditions: list[Condition]
    scale: float
    dependence: dict[str, Dependence | None]
    parts: dict[str, dict[str, list[float]]]
    interaction: dict[str, float]
    stack: dict[str, float]
    ridge: dict[str, dict[str, Any]] | None = None
    mixtures: dict[str, EffectMixture] = {}


def _check_shapes(saved: _SavedAnchor, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not those of the measured effects and their genes."""
    names = [f"{kind}_{space}" for space in saved.options.spaces for kind in ("effects", "variances")]
    rows, genes = len(saved.conditions), arrays["dispersion"].shape
    expected = {"weights": (rows,), **dict.fromkeys(["profiles", "rates", *names], (rows, *genes))}
    wrong = [name for name, shape in expected.items() if arrays[name].shape != shape or arrays[name].dtype.kind != "f"]
    if wrong or len(saved.contexts) != rows:
        raise ModelFileError(
            f"{list_names(wrong or ['contexts'])} do not fit the conditions", where="anchor", remedy=DAMAGED
        )


def _everything(table: EffectTable, allowed: np.ndarray) -> np.ndarray:
    """Coefficients of the mean over all measured effects."""
    return np.where(allowed, table.weights, 0) / max(table.weights[allowed].sum(), 1e-9)


def _as_statistics(effects: GroupEffects, row: int) -> GroupStatistics:
    """The control population of a training group, in the form in which new ones come."""
    control = effects.control
    nothing = np.zeros_like(control.mean_rate[[row]])
    return GroupStatistics(
        control.n_cells[[row]], control.mean_rate[[row]], nothing, control.mean_log[[row]], nothing, np.ones(1)
    )


def _largest_good_weights(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Choose, among weights that predict left-out groups about equally well, the largest.

    Least squares draws weights towards zero by the noise in what is weighted. That costs little error, but makes every
    effect smaller than it is, and then too few genes come out significant.
    """
    grid = np.array(list(product(_WEIGHTS, repeat=3)))
    gain = 2 * grid @ moment - np.einsum("ij,jk,ik->i", grid, gram, grid)
    good = gain >= gain.max() - _TOLERANCE * max(gain.max(), 0.0)
    # a part that never varies says nothing about its weight, and keeps its meaning: 1
    return grid[good][np.argmax(grid[good].sum(axis=1) + 1e-6 * gain[good] / max(gain.max(), 1e-12))]
