from __future__ import annotations

import numpy as np
import pytest

from transpert.errors import MetricInputError
from transpert.scaling import Energies, HalvedEffects, effect_energies
from transpert.scaling.shares import without_shared_errors


def drawn(rng, n_contexts, n_perturbations, n_genes, noise, missing=0):
    """Effects whose parts were drawn with the variances 4 (conserved), 1 (context) and 2 (interaction) a gene."""
    conserved = rng.normal(scale=2, size=(1, n_perturbations, n_genes))
    context = rng.normal(size=(n_contexts, 1, n_genes))
    own = rng.normal(scale=np.sqrt(2), size=(n_contexts, n_perturbations, n_genes))
    effects = conserved + context + own
    keep = np.sort(rng.permutation(effects.shape[0] * effects.shape[1])[missing:])
    contexts, perturbations = np.divmod(keep, n_perturbations)
    # the controls of a context are shared by its perturbations, those of the two halves are not
    shared = rng.normal(scale=noise, size=(2, n_contexts, n_genes))
    halves = [
        effects.reshape(-1, n_genes)[keep] + rng.normal(scale=noise, size=(len(keep), n_genes)) + shared[half][contexts]
        for half in (0, 1)
    ]
    return HalvedEffects(*halves, contexts.astype(str), perturbations.astype(str))


def estimate(effects):
    sizes = [len(set(labels)) for labels in (effects.contexts, effects.perturbations)]
    weights = [np.ones((1, size)) for size in sizes]
    return effect_energies(effects, context_weights=weights[0], perturbation_weights=weights[1])


@pytest.mark.parametrize("missing", [0, 20], ids=["complete", "with gaps"])
def test_parts_are_those_that_were_drawn_whatever_the_noise_of_shared_controls(missing) -> None:
    rng = np.random.default_rng(0)
    effects = drawn(rng, 6, 30, 4_000, noise=2.0, missing=missing)
    found = estimate(effects)
    a_gene = 1 / 4_000
    assert found.conserved.mean() * a_gene == pytest.approx(4, abs=0.15)
    assert (found.within - found.systematic)[0] * a_gene == pytest.approx(1, abs=0.15)
    assert found.signal.mean() * a_gene == pytest.approx(7, abs=0.25)
    # the error of the mean of two halves, of treated cells and of controls
    assert found.noise.mean() * a_gene == pytest.approx(4, abs=0.15)
    assert abs(found.systematic[0]) * a_gene < 0.15


def test_two_contexts_do_not_count_half_of_the_interaction_as_conserved() -> None:
    found = estimate(drawn(np.random.default_rng(1), 2, 40, 3_000, noise=0.0))
    assert found.conserved.mean() / 3_000 == pytest.approx(4, abs=0.2)


def test_a_context_that_counts_twice_is_not_compared_with_itself() -> None:
    rng = np.random.default_rng(2)
    effects = drawn(rng, 3, 5, 50, noise=0.5)
    once = effect_energies(effects, context_weights=np.array([[1, 1, 0]]), perturbation_weights=np.ones((1, 5)))
    twice = effect_energies(effects, context_weights=np.array([[2, 2, 0]]), perturbation_weights=np.ones((1, 5)))
    assert once.conserved == pytest.approx(twice.conserved)
    alone = effect_energies(effects, context_weights=np.array([[3, 0, 0]]), perturbation_weights=np.ones((1, 5)))
    assert np.isnan(alone.conserved).all()


def test_what_is_shared_is_believed_as_far_as_it_exceeds_the_error_of_shared_controls() -> None:
    found = Energies(*(np.array(values) for values in ([[9.0]], [[4.0]], [[5.0]], [3.0], [1.0])))
    less = without_shared_errors(found, within=0.5, systematic=0.125)
    common, context = 1 - 0.25 / 1, 2.25 - 1 / 2.25
    assert less.systematic == pytest.approx(common)
    assert less.within == pytest.approx(common + context)
    assert less.signal == pytest.approx(9 + common + context - 3) and less.noise == pytest.approx(
        4 + 3 - common - context
    )
    assert less.conserved == pytest.approx(5 + common - 1)
    nothing = without_shared_errors(found, within=4.6, systematic=0.5)
    assert nothing.systematic == 0 and nothing.within == 0 and nothing.signal == pytest.approx(6)
    one_context = Energies(found.signal, found.noise, np.array([[np.nan]]), found.within, np.array([np.nan]))
    alone = without_shared_errors(one_context, within=0.5, systematic=0.0)
    assert alone.within == pytest.approx(3 - 1 / 3) and np.isnan(alone.systematic).all()


def test_weights_for_another_number_of_contexts_are_refused() -> None:
    effects = drawn(np.random.default_rng(3), 3, 2, 5, noise=0.1)
    with pytest.raises(MetricInputError, match="4 contexts"):
        effect_energies(effects, context_weights=np.ones((1, 4)), perturbation_weights=np.ones((1, 2)))
