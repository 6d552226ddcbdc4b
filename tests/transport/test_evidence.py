from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from transpert.conditions import Condition
from transpert.errors import OptionError
from transpert.groups import Design
from transpert.transport import Evidence
from transpert.transport.shrinkage import shrink_effects

GENES = ("A", "B", "C")


def evidence(**changes) -> Evidence:
    rows = [Condition(("P0",)), Condition(("P0",)), Condition(("P1",)), Condition(("P2",), (1.0,))]
    values = np.array([[1.0, 0.0, 2.0], [3.0, 0.0, 0.0], [-1.0, 1.0, 0.5], [0.2, 0.2, 0.2]])
    given = {"conditions": tuple(rows), "contexts": ("x", "y", "x", "y"), "genes": GENES, "log_fold": values}
    return Evidence(**{**given, "variance": np.full((4, 3), 0.25), **changes})


def test_effects_of_the_context_itself_come_before_the_mean_over_contexts() -> None:
    own = evidence().effect(Condition(("P0",)), "y")
    np.testing.assert_allclose(own, shrink_effects(np.array([3.0, 0, 0]), np.full(3, 0.25)))
    mean = evidence().effect(Condition(("P0",)), "elsewhere")
    np.testing.assert_allclose(mean, shrink_effects(np.array([2.0, 0, 1.0]), np.full(3, 0.125)))


def test_a_combination_is_the_sum_of_its_parts_and_another_dose_stands_for_one_that_is_unknown() -> None:
    both = evidence().effect(Condition(("P0", "P1")), "x")
    np.testing.assert_allclose(both, shrink_effects(np.array([0.0, 1.0, 2.5]), np.full(3, 0.5)))
    assert evidence().effect(Condition(("P2",), (10.0,)), "y") is not None
    assert evidence().effect(Condition(("P0", "P9")), "x") is None
    assert evidence().effect(Condition(("P9",)), "x") is None


def test_genes_that_were_not_measured_are_not_taken_as_unchanged() -> None:
    aligned = evidence().of_genes(["C", "new", "A"])
    assert aligned.genes == ("C", "new", "A")
    np.testing.assert_array_equal(np.isnan(aligned.effect(Condition(("P1",)), "x")), [False, True, False])


def lineages(effects_follow_profiles: bool, name_profiles: bool = True) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """Effects of eight contexts of two lineages; the profile and the effect of a ninth of the first lineage."""
    rng = np.random.default_rng(0)
    lineage = np.arange(9) // 4 % 2  # the ninth is of the first
    profiles = np.where(lineage[:, None] == 1, rng.uniform(0, 4, 60), rng.uniform(0, 4, 60))
    profiles = np.maximum(profiles + 0.3 * rng.normal(size=profiles.shape), 0.5)
    of_lineage = rng.normal(size=(2, 60))
    effects = of_lineage[lineage if effects_follow_profiles else np.arange(9) % 2]
    effects = effects + 0.05 * rng.normal(size=effects.shape)
    conditions, contexts = (Condition(("P",)),) * 8, tuple(f"c{number}" for number in range(8))
    genes, nothing = tuple(f"g{number}" for number in range(60)), np.zeros((8, 60))
    given = profiles[:8] if name_profiles else None
    return Evidence(conditions, contexts, genes, effects[:8], nothing, profiles=given), profiles[8], effects[8]


def test_contexts_with_like_controls_count_more_where_that_predicts_contexts_better() -> None:
    screen, profile, effect = lineages(effects_follow_profiles=True)
    like = np.square(screen.effect(Condition(("P",)), "new", profile) - effect).mean()
    mean = np.square(screen.log_fold.mean(axis=0) - effect).mean()
    assert like < 0.1 * mean
    np.testing.assert_allclose(screen.effect(Condition(("P",)), "new"), screen.log_fold.mean(axis=0))


@pytest.mark.parametrize("change", [{"effects_follow_profiles": False}, {"name_profiles": False}])
def test_all_contexts_count_the_same_where_controls_tell_nothing(change) -> None:
    screen, profile, _ = lineages(**{"effects_follow_profiles": True, **change})
    np.testing.assert_allclose(screen.effect(Condition(("P",)), "new", profile), screen.log_fold.mean(axis=0))


def test_genes_without_a_profile_do_not_count_for_likeness() -> None:
    screen, profile, _ = lineages(effects_follow_profiles=True)
    wider = screen.of_genes([*screen.genes, "unknown"])
    expected = screen.effect(Condition(("P",)), "new", profile)
    np.testing.assert_allclose(wider.effect(Condition(("P",)), "new", np.append(profile, 7.0))[:-1], expected)


def test_a_table_of_log2_fold_changes_is_read_with_its_errors() -> None:
    table = pd.DataFrame([[1.0, -2.0]], index=["A+B"], columns=["X", "Y"])
    found = Evidence.from_frame(table, table.abs() / 10, base=2)
    np.testing.assert_allclose(found.log_fold, table * math.log(2))
    np.testing.assert_allclose(np.sqrt(found.variance), table.abs() / 10 * math.log(2))
    assert found.conditions == (Condition(("A", "B")),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genes": ("A", "A", "B")}, "genes occur twice"),
        ({"variance": -np.ones((4, 3))}, "variance"),
        ({"log_fold": np.full((4, 3), np.inf)}, "log_fold"),
        ({"log_fold": np.ones((4, 2))}, "log_fold"),
        ({"profiles": np.ones((3, 3))}, "profiles"),
        ({"contexts": ("x",)}, "no effects"),
    ],
)
def test_evidence_that_cannot_be_is_refused(change, message) -> None:
    with pytest.raises(OptionError, match=message):
        evidence(**change)


def test_evidence_of_other_genes_is_refused() -> None:
    with pytest.raises(OptionError, match="not one gene"):
        evidence().of_genes(["ENSG1", "ENSG2"])


def test_tables_that_do_not_fit_or_hold_text_are_refused() -> None:
    table = pd.DataFrame([[1.0]], index=["A"], columns=["X"])
    with pytest.raises(OptionError, match="other rows or columns"):
        Evidence.from_frame(table, table.rename(columns={"X": "Y"}))
    with pytest.raises(OptionError, match="something else than numbers"):
        Evidence.from_frame(table.astype(str) + "x")


def pseudobulks(n_samples: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summed counts of two lines, controls and one perturbation that doubles the first gene."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        [(line, label) for line in "xy" for label in ("control", "P") for _ in range(n_samples)],
        columns=["line", "perturbation"],
    )
    rates = np.full((len(obs), 200), 50.0)
    rates[obs["perturbation"] == "P", 0] *= 2
    # samples differ by more than their counts do
    rates *= np.exp(0.2 * rng.normal(size=rates.shape))
    return pd.DataFrame(rng.poisson(rates), columns=[f"g{number}" for number in range(200)]), obs


def test_pseudobulks_give_fold_changes_with_the_variance_between_samples() -> None:
    counts, obs = pseudobulks()
    found = Evidence.from_pseudobulks(counts, obs, Design("perturbation", "control", ("line",)))
    assert found.contexts == ("x", "y") and found.perturbations == ("P",)
    rates = counts.div(counts.sum(axis=1), axis=0) * 1e4
    at = {key: rates[(obs["line"] == "x") & (obs["perturbation"] == key)].mean() for key in ("P", "control")}
    np.testing.assert_allclose(found.log_fold[0], np.log((at["P"] + 0.05) / (at["control"] + 0.05)))
    # the variance of a difference of two means of three samples with a spread of .2, and of counting 50
    np.testing.assert_allclose(found.variance.mean(), 2 * (0.04 + 1 / 50) / 3, rtol=0.1)
    inside = np.abs(found.log_fold[:, 1:]) < 1.96 * np.sqrt(found.variance[:, 1:])
    assert 0.9 <= inside.mean() <= 0.99


def test_single_pseudobulks_have_the_variance_of_counting() -> None:
    counts, obs = pseudobulks(n_samples=1)
    found = Evidence.from_pseudobulks(counts, obs, Design("perturbation", "control", ("line",)))
    expected = 1 / (counts.iloc[1] + 1) + 1 / (counts.iloc[0] + 1)
    np.testing.assert_allclose(found.variance[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda counts: counts / 3, "no raw counts"),
        (lambda counts: counts * 0, "no counts"),
        (lambda counts: counts.iloc[::-1], "other samples"),
        (lambda counts: counts.astype(str) + "x", "something else than numbers"),
    ],
)
def test_what_are_no_pseudobulks_is_refused(change, message) -> None:
    counts, obs = pseudobulks()
    with pytest.raises(OptionError, match=message):
        Evidence.from_pseudobulks(change(counts), obs, Design("perturbation", "control", ("line",)))
