"""Our numbers are those of cell-eval 0.8.2, column by column; where they are not, the reason is tested."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from transpert import metrics

# names that differ from ours by their case alone
OURS = {"overlap_at_N": "overlap_at_all", "precision_at_N": "precision_at_all"}
CLUSTERS = "clustering_agreement"


@pytest.fixture(scope="module")
def cell_eval(tmp_path_factory: pytest.TempPathFactory):
    """The table of cell-eval of a screen."""
    from cell_eval import MetricsEvaluator

    logging.getLogger("cell_eval").setLevel(logging.ERROR)

    def table(screen, make, values=None) -> pd.DataFrame:
        values = values or screen.log1p
        evaluator = MetricsEvaluator(
            screen.adata(values(screen.predicted), make),
            screen.adata(values(screen.real), make),
            control_pert="control",
            pert_col="target",
            num_threads=1,
            outdir=str(tmp_path_factory.mktemp("cell_eval")),
        )
        found, _ = evaluator.compute(write_csv=False, skip_metrics=[CLUSTERS], break_on_error=True)
        rows = found.to_pandas().set_index("perturbation").rename(columns=OURS)
        return rows.loc[screen.perturbations].astype(float)

    return table


@pytest.mark.slow  # pdex compiles its kernels
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_every_column_agrees(any_screen, make, cell_eval) -> None:
    theirs = cell_eval(any_screen, make)
    ours = metrics.score_prediction(any_screen.comparisons(make, reference="predicted"), "cell-eval")
    assert set(theirs.columns) == set(ours)
    for name, column in theirs.items():
        expected = column.to_numpy()
        np.testing.assert_allclose(np.broadcast_to(ours[name], expected.shape), expected, atol=1e-6, err_msg=name)
    # the comparison is not of constants
    varied = [name for name, column in theirs.items() if column.nunique() > 1]
    assert len(varied) >= 20


@pytest.mark.slow
def test_exception_single_precision_is_rounded_by_them_and_not_by_us(random_screen, cell_eval) -> None:
    # they average float32 distances in float32; we agree with what they say of the same numbers in double precision
    def double(counts: np.ndarray) -> np.ndarray:
        return random_screen.log1p(counts, np.float32).astype(np.float64)

    theirs = cell_eval(random_screen, np.asarray, double)
    comparisons = random_screen.comparisons(np.asarray, reference="predicted", dtype=np.float32)
    for name, values in metrics.score_prediction(comparisons, "cell-eval").items():
        np.testing.assert_allclose(np.broadcast_to(values, len(theirs)), theirs[name], atol=1e-6, err_msg=name)


def test_exception_clustering_agreement_is_left_out() -> None:
    # it is the best of seven Leiden clusterings of the predicted centroids: the maximum over a search of its own that
    # noise does well in, and random in its ties
    from cell_eval.metrics import metrics_registry

    theirs = {OURS.get(name, name) for name in metrics_registry.list_metrics()} - {"de_nsig_counts"}
    ours = set(metrics.PANELS["cell-eval"]) - {"de_nsig_counts_real", "de_nsig_counts_pred"}
    assert theirs - ours == {CLUSTERS} and ours <= theirs


def test_exception_a_shift_that_is_only_rounding_has_no_correlation() -> None:
    # they correlate the rounding errors of a prediction that is the control mean
    rng = np.random.default_rng(0)
    rounding = rng.normal(0, 1e-9, 30)
    assert np.isnan(metrics.pearson_delta(rounding, rng.normal(size=30))[0])
    assert np.isfinite(metrics.pearson_delta(rounding * 1e6, rng.normal(size=30))[0])


def test_exception_where_nothing_is_significant_a_value_is_missing_and_not_left_out() -> None:
    same = np.random.default_rng(0).random((4, 30, 8))
    comparison = metrics.Comparison(same[0], same[1], same[2], same[3])
    values = {name: metrics.METRICS[name].function(comparison) for name in ("de_direction_match", "overlap_at_all")}
    assert np.isnan(values["de_direction_match"]) and values["overlap_at_all"] == 0
