"""Adaptive shrinkage: agrees with the exact posterior, and shrinks each gene by what its own contexts say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from transpert.conditions import Condition
from transpert.transport import EffectMixture, Evidence
from transpert.transport.coefficients import EffectTable
from transpert.transport.evidence import FEWEST_CONTEXTS_OF_KERNEL, fit_mixture, gather_evidence
from transpert.transport.mixture import Component, _under


def test_likelihood_and_mean_of_a_component_are_those_of_the_joint_normal() -> None:
    rng = np.random.default_rng(0)
    effects, variances = rng.normal(size=(4, 3)), rng.uniform(0.1, 1.0, size=(4, 3))
    kernel = rng.normal(size=(5, 2))
    kernel /= 1.5 * np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    main, main_variance = rng.normal(size=(5, 3)), rng.uniform(0.01, 0.1, size=(5, 3))
    component = Component(scale=1.3, shared=0.5, kernel=0, main=0.5)
    likelihood, mean = _under(component, Evidence(effects, variances, (kernel,), main, main_variance))
    similar = kernel @ kernel.T
    np.fill_diagonal(similar, 1.0)
    prior = 1.3**2 * (0.5 + 0.5 * similar)
    for gene in range(3):
        covariance = prior[:4, :4] + np.diag(variances[:, gene] + 0.25 * main_variance[:4, gene])
        own = effects[:, gene] - 0.5 * main[:4, gene]
        exact = multivariate_normal(np.zeros(4), covariance).logpdf(own) + 2 * np.log(2 * np.pi)
        assert likelihood[gene] == pytest.approx(exact)
        expected = 0.5 * main[4, gene] + prior[4, :4] @ np.linalg.solve(covariance, own)
        assert mean[gene] == pytest.approx(expected)


def test_genes_on_which_contexts_agree_are_shrunk_less_than_those_on_which_they_do_not() -> None:
    rng = np.random.default_rng(1)
    shared = np.repeat(rng.normal(size=(1, 200)), 3, axis=0)
    private = rng.normal(size=(3, 200))
    effects = np.hstack([shared, private]) + 0.1 * rng.normal(size=(3, 400))
    evidence = Evidence(effects, np.full(effects.shape, 0.01))
    mean = EffectMixture.fit([evidence]).mean(evidence)
    average = effects.mean(axis=0)
    kept = [float(mean[s] @ average[s] / (average[s] @ average[s])) for s in (slice(200), slice(200, None))]
    assert kept[0] > 0.9
    assert kept[1] < 0.6


def test_noise_alone_gives_almost_no_effect() -> None:
    rng = np.random.default_rng(2)
    evidence = Evidence(rng.normal(size=(4, 500)), np.ones((4, 500)))
    mean, average = EffectMixture.fit([evidence]).mean(evidence), evidence.effects.mean(axis=0)
    assert np.square(mean).mean() < 0.1 * np.square(average).mean()


def table_of(n_contexts: int, n_perturbations: int = 1) -> tuple[EffectTable, np.ndarray]:
    rng = np.random.default_rng(4)
    names = [(f"c{c}", Condition((f"P{p}",))) for c in range(n_contexts) for p in range(n_perturbations)]
    profiles = np.repeat(rng.random((n_contexts, 20)), n_perturbations, axis=0)
    contexts = np.array([context for context, _ in names], dtype=object)
    table = EffectTable(contexts, tuple(condition for _, condition in names), np.full(len(names), 50.0), profiles)
    return table, rng.normal(size=(len(names), 20))


@pytest.mark.parametrize(("n_contexts", "n_kernels"), [(FEWEST_CONTEXTS_OF_KERNEL, 0), (7, 2)])
def test_a_kernel_needs_six_contexts_besides_the_target(n_contexts: int, n_kernels: int) -> None:
    table, effects = table_of(n_contexts)
    everything = np.ones(len(effects), dtype=bool)
    evidence = gather_evidence(
        table, effects, np.ones_like(effects), Condition(("P0",)), "c0", table.profiles[0], everything
    )
    assert evidence is not None
    assert len(evidence.effects) == n_contexts - 1  # never that of the target itself
    assert len(evidence.factors) == n_kernels


def test_main_effects_are_evidence_where_every_context_has_one() -> None:
    table, effects = table_of(3, 2)
    everything = np.ones(len(effects), dtype=bool)
    question = (Condition(("P0",)), "c0", table.profiles[0])
    evidence = gather_evidence(table, effects, np.ones_like(effects), *question, everything)
    assert evidence is not None
    assert evidence.main is not None
    np.testing.assert_allclose(evidence.main, effects[[3, 5, 1]])
    without = gather_evidence(table, effects, np.ones_like(effects), *question, everything & ~table.of_context("c0"))
    assert without is not None
    assert without.main is None


def test_errors_are_averaged_over_contexts_so_that_silent_genes_do_not_look_precise() -> None:
    table, effects = table_of(3)
    variances = np.ones_like(effects)
    variances[1, 0] = 1e-6
    everything = np.ones(len(effects), dtype=bool)
    evidence = gather_evidence(table, effects, variances, Condition(("P0",)), "c0", table.profiles[0], everything)
    assert evidence is not None
    assert evidence.variances[0, 0] == pytest.approx(0.5, rel=0.01)


def test_one_context_alone_teaches_no_mixture() -> None:
    table, effects = table_of(1, 5)
    assert fit_mixture(table, effects, np.ones_like(effects), seed=0) is None
