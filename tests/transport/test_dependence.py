from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

import transpert as tp
from transpert.conditions import Condition
from transpert.errors import OptionError
from transpert.transport import AnchorOptions
from transpert.transport.coefficients import EffectTable, condition_coefficients
from transpert.transport.dependence import ContextScores, Dependence

P0 = Condition(("P0",))


def table(profiles, n_cells=100.0):
    n = len(profiles)
    names = np.array([f"c{i}" for i in range(n)], dtype=object)
    return EffectTable(names, (P0,) * n, np.full(n, n_cells), np.asarray(profiles, dtype=float))


def scores_of(profiles, profile, n_components=8):
    known = table(profiles)
    return ContextScores.of(known, P0, "new", profile, np.ones(len(profiles), dtype=bool), n_components=n_components)


@pytest.fixture
def contexts():
    rng = np.random.default_rng(0)
    return rng.normal(size=(9, 30)), rng.normal(size=30), rng.normal(size=(9, 5))


@pytest.mark.parametrize("width", [0.4, 1.0])
def test_a_kernel_is_the_kernel_ridge_of_scikit_learn(contexts, width) -> None:
    profiles, profile, effects = contexts
    found = scores_of(profiles, profile)
    distances = np.square(found.scores[:, None] - found.scores).sum(axis=2)
    gamma = 1 / (2 * width**2 * np.median(distances[np.triu_indices(9, 1)]))
    oracle = KernelRidge(alpha=0.3, kernel="rbf", gamma=gamma)
    oracle.fit(found.scores, effects - effects.mean(axis=0))
    coefficients = Dependence(8, 0.3, width).coefficients(found, 9)
    np.testing.assert_allclose(coefficients @ effects, oracle.predict(found.target[None])[0], atol=1e-10)


@pytest.mark.parametrize("rounding", [0.0, 1e-9])
def test_contexts_with_the_same_controls_say_nothing_about_how_effects_follow_them(rounding) -> None:
    rng = np.random.default_rng(0)
    shared = rng.uniform(0, 3, size=30)
    profiles = shared + rounding * rng.normal(size=(6, 30))
    for profile in (shared, rng.uniform(0, 3, size=30)):
        found = scores_of(profiles, profile)
        assert found is None
        assert not Dependence(2, 0.3, 1.0).coefficients(found, 6).any()
    # with one context that has controls of its own there is something to follow
    assert scores_of(np.vstack([profiles, shared + 0.1]), shared).scores.shape[0] == 7


def test_without_a_width_it_is_the_ridge_of_scikit_learn(contexts) -> None:
    profiles, profile, effects = contexts
    found = scores_of(profiles, profile, 3)
    oracle = Ridge(alpha=0.3).fit(found.scores, effects)
    expected = oracle.predict(found.target[None])[0] - effects.mean(axis=0)
    np.testing.assert_allclose(Dependence(3, 0.3).coefficients(found, 9) @ effects, expected, atol=1e-10)


def test_fewer_components_are_the_leading_ones(contexts) -> None:
    profiles, profile, _ = contexts
    for width in (None, 0.5):
        few = Dependence(2, 0.1, width).coefficients(scores_of(profiles, profile, 2), 9)
        np.testing.assert_allclose(Dependence(2, 0.1, width).coefficients(scores_of(profiles, profile, 8), 9), few)


@given(arrays(float, (6, 4), elements=st.floats(-3, 3)), st.floats(0.01, 1), st.sampled_from([None, 0.25, 1.0]))
@settings(max_examples=40, deadline=None)
def test_equal_effects_depend_on_no_context(profiles, penalty, width) -> None:
    if np.ptp(profiles, axis=0).max() < 1e-3:
        return  # contexts that do not differ have no components
    found = scores_of(profiles, profiles.mean(axis=0) + 1, 4)
    assert abs(Dependence(4, penalty, width).coefficients(found, 6) @ np.full(6, 2.5)) < 1e-6


def test_a_context_like_one_that_was_measured_answers_like_it(contexts) -> None:
    profiles, _, effects = contexts
    known = table(profiles)
    everything = np.ones(9, dtype=bool)
    found = scores_of(profiles, profiles[4])
    mean = condition_coefficients(known, P0, "new", everything)
    near = (mean + Dependence(8, 1e-6, 0.25).coefficients(found, 9)) @ effects
    np.testing.assert_allclose(near, effects[4], atol=1e-3)


def test_a_context_unlike_all_others_answers_like_their_mean(contexts) -> None:
    profiles, _, _ = contexts
    found = scores_of(profiles, profiles[0] + 1e3)
    np.testing.assert_allclose(Dependence(8, 0.1, 0.5).coefficients(found, 9), 0, atol=1e-12)


def test_three_contexts_say_nothing_about_a_dependence(contexts) -> None:
    profiles, profile, _ = contexts
    assert scores_of(profiles[:3], profile) is None
    np.testing.assert_array_equal(Dependence(2, 0.1, 0.5).coefficients(None, 3), np.zeros(3))


def test_contexts_with_the_same_controls_do_not_differ() -> None:
    profiles = np.tile(np.arange(4.0), (7, 1))
    profiles[6] += 1  # one that differs, so that there is a component
    found = scores_of(profiles, profiles[0])
    np.testing.assert_array_equal(Dependence(2, 0.1, 0.5).coefficients(found, 7), np.zeros(7))


def test_more_is_predicted_of_what_depends_on_the_context_in_jumps() -> None:
    adata = tp.datasets.simulate(
        n_contexts=24, n_perturbations=3, n_genes=100, n_cells=50, context_dependence="nonlinear", dependence=1.0,
        n_programmes=2, context_spread=0.7, seed=11,
    )  # fmt: skip
    tp.pp.split(adata, by="context", context_keys="context")
    correlations = {}
    for cls in (tp.KernelTransport, tp.RidgeTransport):
        cls.setup_anndata(
            adata, perturbation_key="perturbation", context_keys="context", split_key="split", layer="counts"
        )
        model = cls(adata)
        model.train()
        asked = adata.obs.loc[adata.obs["split"] == "test", ["context", "perturbation"]].drop_duplicates()
        pred = model.predict_populations(list(asked.itertuples(index=False, name=None)), seed=0)
        table = tp.tl.evaluate(
            pred, adata, metrics=["pearson_delta"], baselines=[], progress=False,
            design=tp.Design("perturbation", "control", ("context",)),
        )  # fmt: skip
        correlations[cls.__name__] = table.loc[table["model"] == cls.__name__, "value"].mean()
    assert correlations["KernelTransport"] > correlations["RidgeTransport"] + 0.05


def test_each_kind_has_dependences_of_its_own_to_choose_from() -> None:
    assert AnchorOptions(kind="mean").dependences() == []
    assert all(tried.width is None for tried in AnchorOptions(kind="ridge").dependences())
    assert len(AnchorOptions().dependences()) == 36
    # also where one kind takes the place of another
    assert replace(AnchorOptions(), kind="ridge").dependences() == AnchorOptions(kind="ridge").dependences()
    chosen = AnchorOptions(n_components=(3,), penalties=(0.1,), widths=(0.5,))
    assert chosen.dependences() == [Dependence(3, 0.1, 0.5)]
    assert AnchorOptions.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


@pytest.mark.parametrize(
    "wrong", [{"widths": ()}, {"widths": (0.0,)}, {"n_components": (0,)}, {"penalties": (-1.0,)}, {"kind": "cubic"}]
)
def test_impossible_dependences_are_named(wrong) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        AnchorOptions(**wrong)
