"""Weighted sums of measured effects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from transpert.conditions import Condition
from transpert.transport.coefficients import (
    EffectTable,
    SumsByContext,
    condition_coefficients,
    context_coefficients,
    weighted_sum,
)

N_CONTEXTS, N_CONDITIONS, N_GENES = 4, 90, 7


@pytest.fixture(scope="module")
def table() -> EffectTable:
    rng = np.random.default_rng(0)
    contexts = np.repeat([f"c{i}" for i in range(N_CONTEXTS)], N_CONDITIONS).astype(object)
    conditions = tuple(Condition((f"P{i}",)) for i in range(N_CONDITIONS)) * N_CONTEXTS
    sizes = np.exp(rng.normal(3, 1, len(contexts)))  # some of them above three times the average
    return EffectTable(contexts, conditions, sizes, rng.normal(size=(len(contexts), N_GENES)))


@pytest.fixture(scope="module", params=[np.float64, np.float32])
def values(table: EffectTable, request: pytest.FixtureRequest) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(table.weights), N_GENES)).astype(request.param)


def asked(table: EffectTable) -> Iterator[np.ndarray]:
    """Coefficients of main effects with a pair, a condition, or a context left out, and of any sum."""
    condition, everything = table.conditions[3], np.ones(len(table.weights), dtype=bool)
    for left_out in (table.of_condition(condition), table.of_context("c1"), np.zeros_like(everything)):
        allowed = everything & ~left_out
        main = context_coefficients(table, "c1", allowed, without=condition)
        yield np.stack([main, condition_coefficients(table, condition, "c1", allowed)])
    yield np.random.default_rng(2).normal(size=(3, len(everything)))
    yield np.zeros((2, len(everything)))


@pytest.mark.parametrize("power", [1, 2])
def test_sums_made_of_those_of_contexts_are_weighted_sums(table: EffectTable, values: np.ndarray, power: int) -> None:
    sums = SumsByContext(table, values, power)
    for coefficients in asked(table):
        expected = coefficients**power @ values.astype(float)
        np.testing.assert_allclose(sums.weighted(coefficients**power), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(weighted_sum(coefficients**power, values), expected, rtol=1e-9, atol=1e-12)


def test_a_main_effect_is_made_of_few_single_effects(table: EffectTable, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.ones((len(table.weights), N_GENES))
    sums, read = SumsByContext(table, values, 1), []

    def counted(coefficients: np.ndarray, values: np.ndarray) -> np.ndarray:
        read.append(np.count_nonzero(coefficients.any(axis=0)))
        return coefficients @ values

    monkeypatch.setattr("transpert.transport.coefficients.weighted_sum", counted)
    for coefficients in [*asked(table)][:3]:
        sums.weighted(coefficients)
    assert max(read) < len(table.weights) / 10, read
