"""Fit an anchor: what it leaves open is chosen by predicting measured groups that are left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import islice, product
from typing import get_args

import numpy as np

from transpert._signatures import as_annotated
from transpert.conditions import Embedding

from .anchor import ADDITIVE, Anchor, Situation, as_statistics
from .coefficients import EffectTable, condition_coefficients
from .dependence import ContextScores, Dependence
from .effects import GroupEffects
from .evidence import Evidence, WeighedEvidence
from .options import AnchorOptions
from .perturbation_ridge import PerturbationRidge
from .rates import visibility
from .stack import fit_stack
from .weighing import fit_weight, units_of

# weights are learned from at most this many left-out groups
_MOST_LEFT_OUT = 150
# weights of the parts of a prediction that are tried, and the share of the gain that a larger weight may cost
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_TOLERANCE = 0.05
# so many left-out groups would have to say otherwise before a weight is nearer to another value than to 1
_PRIOR_GROUPS = 4
# left-out units that let evidence count: it was measured, so that fewer are enough than for a network
_FEWEST_OF_EVIDENCE = 3
# so many combinations that are the sum of their parts are taken as seen, so that a few noisy ones do not decide
_PRIOR_COMBINATIONS = 2
_TINY = 1e-12
# predicted effects are made larger than least squares has them by no more than this factor
_MOST_SPREAD = 2.0


@as_annotated(dispersion="G")
def fit_anchor(
    effects: GroupEffects,
    options: AnchorOptions,
    dispersion: np.ndarray,
    *,
    embedding: Embedding | None = None,
    evidence: Sequence[Evidence] = (),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Anchor:
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
    evidence
        Effects that other screens measured, of the same genes in the same order.
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
    anchor = measured_anchor(effects, options, dispersion)
    if embedding is not None:
        say("Choosing how effects follow the embeddings by leaving perturbations out")
        ridge = PerturbationRidge.fit(anchor.table, anchor.effects, anchor.variances, embedding)
        anchor = dataclasses.replace(anchor, ridge=ridge)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(effects))
    left_out = order[:_MOST_LEFT_OUT]
    say("Choosing how effects depend on the context by leaving contexts out")
    anchor = dataclasses.replace(anchor, dependence=_choose_dependence(anchor, left_out))
    say("Weighting main effects by leaving groups out")
    anchor = dataclasses.replace(anchor, parts=_fit_parts(anchor, left_out))
    anchor = dataclasses.replace(anchor, combination=_fit_combination(anchor, order))
    say("Stacking the spaces of effects")
    anchor = dataclasses.replace(anchor, stack=_fit_stack(anchor, left_out, effects))
    for source in evidence:
        say(f"Weighing {source.name} by what it says of left-out groups")
        weights = {situation: _weigh(anchor, source, situation, left_out, effects) for situation in get_args(Situation)}
        anchor = dataclasses.replace(anchor, evidence=(*anchor.evidence, WeighedEvidence(source, weights)))
    return anchor


def measured_anchor(effects: GroupEffects, options: AnchorOptions, dispersion: np.ndarray) -> Anchor:
    """Return an anchor that knows the measured effects, and weighs nothing yet: what a rule over them needs."""
    measured = {space: effects.in_space(space, options.pseudo_rate) for space in options.spaces}
    table = EffectTable(
        effects.contexts,
        effects.conditions,
        np.minimum(effects.treated.n_cells, effects.control.n_cells).astype(float),
        effects.control.mean_log,
    )
    cells = effects.statistics
    scale = float(np.average(cells.mean_inverse_library, weights=np.maximum(cells.n_cells, 1e-9)))
    return Anchor(
        options,
        table,
        effects.control.mean_rate,
        {space: effect for space, (effect, _) in measured.items()},
        {space: variance for space, (_, variance) in measured.items()},
        np.asarray(dispersion, dtype=float),
        scale,
        dict.fromkeys(options.spaces),
        {space: {} for space in options.spaces},
        dict.fromkeys(options.spaces, ADDITIVE),
        dict.fromkeys(options.spaces, 1 / len(options.spaces)),
    )


def _choose_dependence(anchor: Anchor, rows: np.ndarray) -> dict[str, Dependence | None]:
    tried = anchor.options.dependences()
    if len(tried) < 2:
        return dict.fromkeys(anchor.options.spaces, tried[0] if tried else None)
    errors: dict[str, np.ndarray] = {space: np.zeros(len(tried)) for space in anchor.options.spaces}
    for row in rows:
        for space, found in _left_out_errors(anchor, int(row), tried).items():
            errors[space] += found
    # where no context can be left out, nothing speaks for any of them
    return {space: tried[int(np.argmin(found))] if found.any() else None for space, found in errors.items()}


def _left_out_errors(anchor: Anchor, row: int, tried: Sequence[Dependence]) -> dict[str, np.ndarray]:
    """Squared error of each dependence in a context that it has not seen, by space."""
    table = anchor.table
    condition, context, before = table.conditions[row], table.contexts[row], table.profiles[row]
    allowed = ~anchor.leave_out(row, "context")
    most = max(dependence.n_components for dependence in tried)
    contexts = ContextScores.of(table, condition, context, before, allowed, n_components=most)
    if contexts is None:
        return {}
    mean = condition_coefficients(table, condition, context, allowed)
    coefficients = np.array([mean + dependence.coefficients(contexts, len(mean)) for dependence in tried])
    errors: dict[str, np.ndarray] = {}
    for space in anchor.options.spaces:
        observed = anchor.apply(space, anchor.effects[space][row], before, anchor.rates[row])
        # errors count as they will show: in mean log1p, where genes that are hardly expressed weigh little
        effects = anchor.sums(space).weighted(coefficients)
        predicted = [anchor.apply(space, effect, before, anchor.rates[row]) for effect in effects]
        errors[space] = np.sqrt(table.weights[row]) * np.square(np.array(predicted) - observed).mean(axis=1)
    return errors


def _fit_parts(anchor: Anchor, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Non-negative weights of the three parts, for each situation that can be imitated."""
    fitted: dict[str, dict[str, np.ndarray]] = {}
    for space in anchor.options.spaces:
        fitted[space] = {}
        for situation in ("pair", "context", "perturbation"):
            gram, moment, n_groups, power = np.zeros((3, 3)), np.zeros(3), 0, 0.0
            for row in rows:
                allowed = ~anchor.leave_out(row, situation)
                condition, context = anchor.table.conditions[row], anchor.table.contexts[row]
                if condition.is_combination or not allowed.any():
                    continue
                if anchor.situation(condition, context, allowed) != situation:
                    continue
                # weights are fitted to what they will be applied to: parts that have been shrunken
                parts = anchor.shrunken_parts(space, condition, context, anchor.table.profiles[row], allowed)
                weight = np.sqrt(anchor.table.weights[row])
                gram += weight * (parts @ parts.T)
                effect = anchor.effects[space][row]
                moment += weight * (parts @ effect)
                power += weight * max(float(effect @ effect - anchor.variances[space][row].sum()), 0.0)
                n_groups += 1
            if gram.any():
                # what similar perturbations say may be worth nothing; what the perturbation did elsewhere is not
                groups = 0 if situation == "perturbation" else _PRIOR_GROUPS
                prior = groups / n_groups * np.diag(gram)
                weights = _largest_good_weights(gram + np.diag(prior), moment + prior)
                if situation == "context" and space == "log1p":
                    weights = weights * _missing_spread(power, float(weights @ gram @ weights))
                fitted[space][situation] = weights
    return fitted


def _missing_spread(measured: float, predicted: float) -> float:
    """Return by which factor predicted effects are too small, from the squares of measured and predicted ones.

    What is expected of an effect varies less over genes than effects do, so that too few genes come out significant
    (Louis 1984, JASA 79:393). It is made up for only where contexts are left out and in mean log1p: squares of log
    fold changes are mostly those of genes that are hardly expressed.
    """
    return float(np.clip(np.sqrt(measured / predicted), 1.0, _MOST_SPREAD)) if predicted > 0 else 1.0


def _fit_combination(anchor: Anchor, order: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of the terms of a combination's effect, from the first combinations that were seen."""
    everything = np.ones(len(anchor.table.weights), dtype=bool)

    def is_usable(row: int) -> bool:
        condition = anchor.table.conditions[row]
        return condition.is_combination and all(anchor.is_known(part, everything) for part in condition.singles())

    rows = list(islice(filter(is_usable, order.tolist()), _MOST_LEFT_OUT))
    if not rows:
        return anchor.combination
    fitted: dict[str, np.ndarray] = {}
    for space in anchor.options.spaces:
        gram, moment = np.zeros((3, 3)), np.zeros(3)
        for row in rows:
            condition, context = anchor.table.conditions[row], anchor.table.contexts[row]
            terms = anchor.combination_terms(space, condition, context, anchor.table.profiles[row], everything)
            # errors count as they will show: in mean log1p
            shown = np.square(visibility(anchor.rates[row])) if space == "log_fold" else 1.0
            weighted = np.sqrt(anchor.table.weights[row]) * shown * terms
            gram += weighted @ terms.T
            moment += weighted @ anchor.effects[space][row]
        prior = np.diag(_PRIOR_COMBINATIONS / len(rows) * np.diag(gram) + _TINY)
        fitted[space] = np.linalg.solve(gram + prior, moment + prior @ ADDITIVE)
    return fitted


def _fit_stack(anchor: Anchor, rows: np.ndarray, effects: GroupEffects) -> dict[str, float]:
    """Fit the weight of each space to groups that the anchor has not seen."""
    if len(anchor.options.spaces) == 1:
        return {anchor.options.spaces[0]: 1.0}
    situation = _main_situation(anchor)
    predicted: dict[str, list[np.ndarray]] = {space: [] for space in anchor.options.spaces}
    used = []
    for row in rows:
        allowed = ~anchor.leave_out(row, situation)
        if not allowed.any():
            continue
        control = as_statistics(effects, int(row))
        prediction = anchor.predict(
            anchor.table.conditions[row], anchor.table.contexts[row], control, allowed=allowed, measured=False
        )
        used.append(row)
        for space, mean in prediction.by_space.items():
            predicted[space].append(mean - control.mean_log[0])
    if not used:
        return anchor.stack
    return fit_stack(
        {space: np.array(values) for space, values in predicted.items()},
        effects[np.array(used)].shift(),
        np.sqrt(anchor.table.weights[used]),
    )


def _weigh(anchor: Anchor, source: Evidence, situation: Situation, rows: np.ndarray, effects: GroupEffects) -> float:
    """Return how much evidence counts beside the anchor in one situation, by the groups that can imitate it."""
    used, known, told = [], [], []
    for row in map(int, rows):
        allowed = ~anchor.leave_out(row, situation)
        condition, context = anchor.table.conditions[row], anchor.table.contexts[row]
        if not allowed.any() or anchor.situation(condition, context, allowed) != situation:
            continue
        if source.effect(condition, context) is None:
            continue
        control = as_statistics(effects, row)
        mean = anchor.predict(condition, context, control, allowed=allowed, measured=False).mean_log
        used.append(row)
        known.append(mean - control.mean_log[0])
        told.append(known[-1] + anchor.told_by(source, condition, context, control, mean))
    if not used:
        return 0.0
    asked = effects[np.array(used)]
    units = units_of(asked.contexts, asked.conditions, situation)
    return fit_weight(asked.shift(), np.array(known), np.array(told), units, fewest=_FEWEST_OF_EVIDENCE).weight


def _main_situation(anchor: Anchor) -> Situation:
    """What most data sets of this shape are used to predict."""
    contexts = len(set(anchor.table.contexts))
    if contexts == 1:
        return "perturbation"
    return "context" if len(anchor.table.weights) < 2 * contexts else "pair"


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
