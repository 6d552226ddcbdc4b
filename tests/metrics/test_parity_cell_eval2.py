"""Our numbers are those of cell-eval2 0.20.0, preset ``vcc2026``, member by member and in the score."""

from __future__ import annotations

import dataclasses
import importlib.resources
import logging

import numpy as np
import pytest
from scipy import sparse

from transpert import metrics

NAMES = {
    "pds_cosine": "pds_cosine",
    "nmse": "expr_mse_unbiased_capped_norm",
    "direction_fidelity": "de_wilcoxon_direction_fidelity_yield_raw",
    "direction_reach": "de_wilcoxon_direction_reach_raw",
    "sig_jaccard": "de_wilcoxon_sig_jaccard",
    "lfc_nmae": "de_wilcoxon_lfc_nmae",
}


@pytest.fixture(scope="module")
def cell_eval2():
    """The tables of cell-eval2 of a screen: a value a perturbation, and the means."""
    import cell_eval2 as package

    logging.getLogger("cell_eval2").setLevel(logging.ERROR)
    path = importlib.resources.files(package) / "configs" / "vcc2026.yaml"
    config = dataclasses.replace(package.EvalConfig.from_yaml(str(path)), control="control", num_threads=1)

    def tables(screen, make):
        found = package.compute_metrics(
            screen.adata(screen.predicted.astype(np.float64), make),
            screen.adata(screen.real.astype(np.float64), make),
            config=config,
        )
        means = package.aggregate_metrics(found, metrics=[*found["metric"].unique().to_list(), NAMES["nmse"]])
        each = found.to_pandas().pivot(index="perturbation", columns="metric", values="value")
        return each.reindex(screen.perturbations), dict(zip(means["metric"], means["mean"], strict=True))

    return tables


@pytest.mark.slow  # pdex and scanpy compile their kernels
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_every_member_agrees(any_screen, make, cell_eval2) -> None:
    each, means = cell_eval2(any_screen, make)
    ours = metrics.score_prediction(any_screen.comparisons(make, reference="real"), "vcc2026")
    assert set(ours) == set(NAMES)
    for name, theirs in NAMES.items():
        if name == "nmse":  # one value a prediction
            assert ours[name] == pytest.approx(means[theirs], abs=1e-6)
        else:
            np.testing.assert_allclose(ours[name], each[theirs].to_numpy(float), atol=1e-6, err_msg=name)
    # the unscored columns are the two sums of the normalised error, and the error without the cap on its correction
    summaries = metrics.Summaries.gather(
        [
            metrics.summarise(comparison, metrics.METRICS["nmse"].needs)
            for comparison in any_screen.comparisons(make, reference="real")
        ]
    )
    parts = [summaries[name] for name in ("bulk_predicted", "bulk_real", "bulk_controls")]
    parts += [summaries[name] for name in ("noise_predicted", "noise_real", "noise_controls")]
    for capped, column in ((True, "expr_mse_unbiased_capped"), (False, "expr_mse_unbiased")):
        errors, effects = metrics.noise_corrected_errors(*parts, targets=summaries.targets, capped=capped)
        np.testing.assert_allclose(errors, each[column].to_numpy(float), atol=1e-6)
        np.testing.assert_allclose(effects, each["expr_distance_unbiased"].to_numpy(float), atol=1e-6)


def test_the_only_column_left_out_is_a_constant() -> None:
    from cell_eval2.catalog import CATALOG

    theirs = {name for name, spec in CATALOG.items() if "vcc2026" in spec.profiles}
    parts = {"expr_mse_unbiased", "expr_mse_unbiased_capped", "expr_distance_unbiased"}
    assert theirs - set(NAMES.values()) - parts == {"expr_real_mass_ratio"}
    counts = np.random.default_rng(0).poisson(2.0, (5, 9))
    assert np.expm1(metrics.bulk_profile(counts)).sum() == pytest.approx(5e4)


@pytest.mark.parametrize("seed", range(4))
def test_the_score_agrees(seed) -> None:
    import polars
    from cell_eval2.score import _replicate_entries
    from cell_eval2.scoring import score_one

    rng = np.random.default_rng(seed)
    errors = ("nmse", "lfc_nmae")
    baseline = {name: rng.uniform(0.9, 1.1) if name in errors else rng.uniform(0, 0.5) for name in NAMES}
    replicate = {name: rng.uniform(0, 0.5) if name in errors else rng.uniform(0.6, 1) for name in NAMES}
    values = {name: rng.uniform(0, 1.5) if name in errors else rng.uniform(0, 1) for name in NAMES}
    if seed == 1:  # far worse than the baseline, and not defined
        values |= {"nmse": 9.0, "lfc_nmae": 20.0, "direction_reach": np.nan}
    if seed == 2:
        values |= {"nmse": np.nan, "lfc_nmae": np.nan}
    entries = _replicate_entries(
        {NAMES[name]: value for name, value in baseline.items()},
        polars.DataFrame({"metric": list(NAMES.values()), "replicate": [replicate[name] for name in NAMES]}),
    )
    theirs = {name: score_one(values[name], entries[full].base, entries[full].scoring) for name, full in NAMES.items()}
    score, parts = metrics.challenge_score(values, baseline, replicate)
    assert parts == pytest.approx(theirs, abs=1e-9)
    assert score == pytest.approx(np.mean(list(theirs.values())), abs=1e-9)
