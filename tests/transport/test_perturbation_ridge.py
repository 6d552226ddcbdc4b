"""Effects of perturbations that were never measured, from the embeddings of those that were."""

from __future__ import annotations

import numpy as np
import pytest

from transpert.conditions import Condition, Embedding, combine
from transpert.errors import UnknownNameError
from transpert.transport import PerturbationRidge, perturbation_ridge
from transpert.transport.coefficients import EffectTable
from transpert.transport.perturbation_ridge import _LeftOutErrors

N, G, E = 40, 30, 4


def screen(seed: int = 0, *, noise: float = 0.05, contexts: int = 1, doses: tuple[float | None, ...] = (None,)):
    """Effects that are linear in an embedding, with a shift of their own in every context."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(N, E))
    readings = rng.normal(size=(E, G))
    common = 2 * rng.normal(size=(contexts, G))
    rows = [(c, i, dose) for c in range(contexts) for i in range(N) for dose in doses]
    effects = np.array(
        [common[c] + (1 if d is None else d) * vectors[i] @ readings + noise * rng.normal(size=G) for c, i, d in rows]
    )
    table = EffectTable(
        np.array([f"c{c}" for c, _, _ in rows], dtype=object),
        tuple(Condition((f"P{i}",), (d,)) for _, i, d in rows),
        np.full(len(rows), 50.0),
        np.zeros((len(rows), G)),
    )
    embedding = Embedding(tuple(f"P{i}" for i in range(N)), vectors)
    return table, {"log1p": effects}, {"log1p": np.full_like(effects, noise**2 + 1e-6)}, embedding, common


def left_out(ridge, table, effects, part, context="c0", dose=None):
    """Deviation that is predicted without a perturbation, and the one that was measured."""
    allowed = np.array([part not in condition.parts for condition in table.conditions])
    condition = Condition((part,), (dose,))
    return ridge.coefficients("log1p", table, condition, context, allowed) @ effects["log1p"]


@pytest.mark.parametrize("contexts", [1, 3])
def test_effects_of_unseen_perturbations_are_predicted(contexts) -> None:
    table, effects, variances, embedding, common = screen(contexts=contexts)
    ridge = PerturbationRidge.fit(table, effects, variances, embedding)
    assert ridge is not None and ridge.choices["log1p"].gain > 0.9
    for number in range(5):
        row = table.conditions.index(Condition((f"P{number}",)))
        expected = effects["log1p"][row] - common[0]
        predicted = left_out(ridge, table, effects, f"P{number}")
        predicted += effects["log1p"][:N].mean(axis=0) - common[0]
        assert np.corrcoef(predicted, expected)[0, 1] > 0.95


def test_leaving_rows_out_is_the_same_as_never_having_had_them() -> None:
    table, effects, variances, embedding, _ = screen(noise=0.5)
    ridge = PerturbationRidge.fit(table, effects, variances, embedding)
    gone = {"P0", "P3", "P7", "P8"}
    kept = np.array([condition.parts[0] not in gone for condition in table.conditions])
    # by hand: a ridge with an intercept on the vectors that are left
    vectors = np.asarray(embedding.lookup([c.parts[0] for c in table.conditions]), dtype=float)
    vectors = (vectors - vectors.mean(axis=0)) / np.sqrt(vectors.var(axis=0).sum())
    choice = ridge.choices["log1p"]
    assert choice.kernel == "linear"
    kernel = vectors @ vectors.T + 100
    inverse = np.linalg.inv(kernel[np.ix_(kept, kept)] + choice.penalty * np.eye(kept.sum()))
    measured = effects["log1p"][kept]
    expected = kernel[0, kept] @ inverse @ (measured - measured.mean(axis=0))
    predicted = ridge.coefficients("log1p", table, Condition(("P0",)), "c0", kept) @ effects["log1p"]
    np.testing.assert_allclose(predicted, expected, atol=1e-6)


def test_the_order_of_questions_makes_no_difference() -> None:
    table, effects, variances, embedding, _ = screen(contexts=3, noise=0.5)
    everything = np.ones(len(table.weights), dtype=bool)
    questions = [
        (Condition((part,)), context, allowed)
        for part in ("P0", "P1")
        for context in ("c0", "c2")
        for allowed in (everything, table.contexts != "c1")
    ]

    def answer(ridge: PerturbationRidge, question: tuple) -> np.ndarray:
        condition, context, allowed = question
        return ridge.coefficients("log1p", table, condition, context, allowed)

    one = PerturbationRidge.fit(table, effects, variances, embedding)
    for question in [*questions, *reversed(questions)]:
        fresh = PerturbationRidge.from_state(one.to_state(), table, embedding)
        np.testing.assert_array_equal(answer(one, question), answer(fresh, question))


def test_an_embedding_that_says_nothing_gets_no_weight() -> None:
    table, effects, variances, embedding, _ = screen()
    ridge = PerturbationRidge.fit(table, effects, variances, embedding.shuffle(3))
    assert ridge.choices["log1p"].gain < 0.1
    assert np.abs(left_out(ridge, table, effects, "P0")).max() < 0.3 * np.abs(effects["log1p"]).max()


def test_the_table_that_tells_something_is_chosen() -> None:
    table, effects, variances, embedding, _ = screen(noise=1.0)
    useless = Embedding(embedding.names, np.random.default_rng(9).normal(size=(N, 20)), "noise")
    ridge = PerturbationRidge.fit(table, effects, variances, combine([useless, embedding]))
    assert ridge.choices["log1p"].block == 1


def test_effects_that_only_near_neighbours_share_need_the_gaussian_kernel() -> None:
    table, effects, variances, _, _ = screen()
    places = np.linspace(0, 3 * np.pi, N)
    waves = np.sin(np.outer(places, np.linspace(0.5, 2, G)))
    embedding = Embedding(tuple(f"P{i}" for i in range(N)), places[:, None])
    ridge = PerturbationRidge.fit(table, {"log1p": waves}, variances, embedding)
    assert ridge.choices["log1p"].kernel == "gaussian" and ridge.choices["log1p"].gain > 0.3


def test_the_dose_that_was_asked_for_is_matched() -> None:
    table, effects, variances, embedding, common = screen(doses=(0.1, 1.0))
    ridge = PerturbationRidge.fit(table, effects, variances, embedding)
    low, high = (left_out(ridge, table, effects, "P0", dose=dose) for dose in (0.1, 1.0))
    assert np.linalg.norm(low) < 0.4 * np.linalg.norm(high)


def test_what_has_no_vector_or_is_too_little_is_said() -> None:
    table, effects, variances, embedding, _ = screen()
    with pytest.raises(UnknownNameError, match="'P3'"):
        PerturbationRidge.fit(table, effects, variances, embedding.restrict([f"P{i}" for i in range(N) if i != 3]))
    few = np.arange(4)
    small = EffectTable(table.contexts[few], table.conditions[:4], table.weights[few], table.profiles[few])
    assert PerturbationRidge.fit(small, {"log1p": effects["log1p"][few]}, variances, embedding) is None
    ridge = PerturbationRidge.fit(table, effects, variances, embedding)
    with pytest.raises(UnknownNameError, match="'Q'"):
        ridge.coefficients("log1p", table, Condition(("Q",)), "c0", np.ones(N, dtype=bool))
    pair = ridge.coefficients("log1p", table, Condition(("P0", "P1")), "c0", np.ones(N, dtype=bool))
    assert not pair.any()


def test_errors_by_inner_products_are_those_of_every_prediction_written_out() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    inverse = root @ root.T + np.eye(6)
    errors, expected = _LeftOutErrors(), 0.0
    for own in ((0, 1, 2, 3, 4, 5), (1, 4, 5), (0, 1, 2, 3, 4, 5)):
        observed, deviations = rng.normal(size=(len(own), 9)), rng.normal(size=(6, 9))
        errors.add(own, observed, deviations)
        left_out = deviations - (inverse @ deviations) / np.diag(inverse)[:, None]
        expected += ((observed - left_out[list(own)]) ** 2).sum()
    assert errors.of(inverse) == pytest.approx(expected, rel=1e-10)


def test_a_choice_among_some_perturbations_still_uses_all_of_them(monkeypatch) -> None:
    table, effects, variances, embedding, _ = screen(noise=0.5)
    whole = PerturbationRidge.fit(table, effects, variances, embedding)
    monkeypatch.setattr(perturbation_ridge, "_MOST_PERTURBATIONS", 25)
    some = PerturbationRidge.fit(table, effects, variances, embedding)
    assert whole is not None and some is not None
    assert some.choices["log1p"].kernel == whole.choices["log1p"].kernel == "linear"
    assert some.inverse["log1p"].shape == (N, N)
    found = [left_out(ridge, table, effects, "P0") for ridge in (some, whole)]
    assert np.corrcoef(*found)[0, 1] > 0.99
