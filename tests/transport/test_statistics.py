"""Statistics of groups whose batches are pooled in the pass."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from transpert.groups import Design, make_groups, match_controls
from transpert.transport import effects_from_statistics, estimate_dispersion, group_statistics, rows_of_groups
from transpert.transport.effects import _summed
from transpert.transport.statistics import pooled_statistics


def screen(seed: int = 0):
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "perturbation": rng.choice(["control", "A", "B", "C"], 600, p=[0.4, 0.2, 0.2, 0.2]),
            "context": rng.choice(["x", "y"], 600),
            "batch": rng.choice([f"b{i}" for i in range(12)], 600),
        }
    )
    batch = obs["batch"].astype("category").cat.codes.to_numpy()
    counts = rng.poisson(rng.gamma(1, 1, 15) * np.exp(rng.normal(0, 0.5, (12, 15)))[batch])
    library = rng.uniform(50, 400, 600)
    groups = make_groups(obs, Design("perturbation", "control", ("context",), batch_key="batch"))
    return sparse.csr_matrix(counts.astype(np.float32)), library, groups, match_controls(groups, warn=False)


def by_hand(values: np.ndarray, groups, matching, row) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and error of the mean of treated cells, and of their controls in the same proportions of batches."""
    members = [g for g in groups.perturbed_groups if (groups.table.context[g], groups.conditions[g]) == row]
    cells = [values[groups.cells(g)] for g in members]
    n, free = sum(map(len, cells)), sum(len(c) - 1 for c in cells)
    within = sum(((c - c.mean(axis=0)) ** 2).sum(axis=0) for c in cells)
    weight: dict[int, float] = {}
    for g, own in zip(members, cells, strict=True):
        matched = matching.control_groups[g]
        sizes = np.array([len(groups.cells(c)) for c in matched])
        for control, size in zip(matched, sizes, strict=True):
            weight[control] = weight.get(control, 0) + len(own) / n * size / sizes.sum()
    zero = {c: values[groups.cells(c)] for c in weight}
    n_zero = sum(map(len, zero.values()))
    unbiased = n_zero / max(n_zero - len(zero), 1)
    error = sum(w**2 * zero[c].var(axis=0) / len(zero[c]) for c, w in weight.items()) * unbiased
    mean = sum(w * zero[c].mean(axis=0) for c, w in weight.items())
    return np.concatenate(cells).mean(axis=0), within / n / max(free, 1), mean, error


def test_effects_with_pooled_batches_are_those_of_every_batch_on_its_own() -> None:
    counts, library, groups, matching = screen()
    assert len(groups) > 60
    statistics = pooled_statistics(counts, library, groups.codes, rows_of_groups(groups))
    assert len(statistics.mean_rate) == 6 + len(groups.control_groups)
    effects = effects_from_statistics(statistics, groups, matching)
    logs = np.log1p(counts.toarray() / library[:, None] * 1e4)
    for row, key in enumerate(zip(effects.contexts, effects.conditions, strict=True)):
        for values, kind in ((logs, "log"), (np.expm1(logs), "rate")):
            expected = by_hand(values, groups, matching, key)
            found = [
                getattr(side, f"{what}_{kind}")[row]
                for side in (effects.treated, effects.control)
                for what in ("mean", "error")
            ]
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_dispersion_of_pooled_statistics_is_that_of_the_groups() -> None:
    counts, library, groups, _ = screen()
    pooled = pooled_statistics(counts, library, groups.codes, rows_of_groups(groups))
    every = group_statistics(counts, library, groups.codes, len(groups))
    np.testing.assert_allclose(estimate_dispersion(pooled), estimate_dispersion(every), rtol=1e-9)
    np.testing.assert_allclose(pooled.mean_inverse_library, every.mean_inverse_library)
    logs = np.log1p(counts.toarray() / library[:, None] * 1e4)
    for found, expected in zip(pooled.mean_and_spread(), (logs.mean(axis=0), logs.std(axis=0)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_statistics_do_not_grow_with_batches() -> None:
    counts, library, groups, _ = screen()
    pooled = pooled_statistics(counts, library, groups.codes, rows_of_groups(groups))
    assert sum(array.shape[0] for array in (pooled.mean_rate, pooled.error_log)) == 2 * (6 + len(groups.control_groups))


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_sums_over_control_groups_are_the_same_dense_and_sparse(share) -> None:
    rng = np.random.default_rng(0)
    weights = sparse.csr_array(rng.random((300, 90)) * (rng.random((300, 90)) < share))
    values = rng.normal(size=(90, 7))
    np.testing.assert_allclose(_summed(weights, values), weights.toarray() @ values)


def test_groups_of_one_cell_count_in_sums_and_squares_alone() -> None:
    counts = sparse.csr_matrix(np.array([[1.0, 0, 40], [0, 2, 0], [3, 0, 0]]))
    library = np.array([1e4, 5e3, 1e4])
    # two groups of one cell and one without are a row, a third of one cell another
    found = pooled_statistics(counts, library, np.array([0, 2, 1]), np.array([0, 1, 0, 0]))
    rates = counts.toarray() / library[:, None] * 1e4
    np.testing.assert_allclose(found.mean_rate, [rates[:2].mean(axis=0), rates[2]], rtol=1e-6)
    np.testing.assert_allclose(found.total[2:], [np.log1p(rates).sum(axis=0), (np.log1p(rates) ** 2).sum(axis=0)])
    assert not found.error_rate.any() and not found.error_log.any() and not found.excess.any()
