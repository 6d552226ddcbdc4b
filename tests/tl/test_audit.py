from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import transpert as tp
from transpert.errors import AssumptionWarning, GroupSizeError, OptionError

SHOWN = ["overlap_at_all", "precision_at_all", "pearson_delta"]  # cell-eval's, of which the table is
REPLICATE = "independent replicate"
NO_CHANGE = "no change, resampled controls"
CONTROL_MEAN = "control mean, constant cells"
PERTURBATION_MEAN = "perturbation mean, constant cells"
TRUE_MEAN = "true mean, constant cells"
TRUE_SHIFT = "true shift added to control cells"
DESIGNED = "true shift in a tenth of the control cells"
TRUE_ZEROS = "true mean, zeros made by hand"


def draw(rng, rate, effect, n_cells) -> np.ndarray:
    depth = rng.lognormal(0, 0.3, (n_cells, 1))
    return rng.poisson(rng.gamma(4, rate * np.exp(effect) * depth / 4))


@pytest.fixture(scope="module")
def sparse_screen() -> anndata.AnnData:
    """Twenty perturbations of which twice a hundred cells were seen, a thousand genes, mostly zeros."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(0.7, 1.0, 1_000)
    shared = np.where(rng.random(1_000) < 0.05, rng.normal(0, 0.5, 1_000), 0)
    blocks, labels = [draw(rng, rate, 0, 400)], ["control"] * 400
    for number in range(20):
        own = np.where(rng.random(1_000) < 0.08, rng.normal(0, 0.9, 1_000), 0)
        blocks.append(draw(rng, rate, shared + own, 200))
        labels += [f"P{number}"] * 200
    counts = np.concatenate(blocks)
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    obs = pd.DataFrame({"perturbation": labels}, index=[str(i) for i in range(len(labels))])
    return anndata.AnnData(sparse.csr_matrix(values), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(1_000)]))


def smoothed(adata: anndata.AnnData) -> anndata.AnnData:
    """A true mean in cells that hardly vary, as many models predict."""
    pred = adata[adata.obs["perturbation"] != "control"].copy()
    pred.X = pred.X.toarray()
    for name in pred.obs["perturbation"].unique():
        rows = (pred.obs["perturbation"] == name).to_numpy()
        pred.X[rows] = 0.9 * pred.X[rows].mean(axis=0) + 0.1 * pred.X[rows]
    return pred


@pytest.fixture(scope="module")
def audited(sparse_screen) -> pd.DataFrame:
    honest = sparse_screen[sparse_screen.obs["perturbation"] != "control"].copy()
    return tp.tl.audit(
        {"smooth": smoothed(sparse_screen), "honest": honest}, sparse_screen, metrics=SHOWN, progress=False
    )


def test_the_gaming_table_comes_out(audited) -> None:
    values = audited.pivot(index="prediction", columns="metric", values="value")
    overlap, shift, n_sig = values["overlap_at_all"], values["pearson_delta"], values["n_sig_ratio"]
    # a variance-free prediction without information beats the honest no-change on overlap
    assert overlap[NO_CHANGE] < 0.02
    assert overlap[CONTROL_MEAN] > overlap[NO_CHANGE] + 0.05
    # a perfect mean with wrong cells is perfect on the correlation, above a replicate, and not on the overlap
    assert shift[TRUE_MEAN] == pytest.approx(1) and shift[TRUE_MEAN] > shift[REPLICATE] > 0.5
    assert overlap[TRUE_MEAN] < overlap[REPLICATE] and overlap[TRUE_SHIFT] < overlap[REPLICATE]
    assert shift[NO_CHANGE] == pytest.approx(0, abs=0.1)
    # the mean of the other perturbations is right about what all have in common, and no more
    assert 0.1 < shift[PERTURBATION_MEAN] < shift[REPLICATE]
    # what gives them away
    constant = [CONTROL_MEAN, PERTURBATION_MEAN, TRUE_MEAN]
    assert (n_sig[constant] > 3).all() and n_sig[REPLICATE] == pytest.approx(1, abs=0.2)
    assert (values.loc[constant, "variance_ratio"] == 0).all()
    assert (
        values.loc[[*constant, TRUE_SHIFT], "zero_fraction_gap"] > values.at[REPLICATE, "zero_fraction_gap"] + 0.1
    ).all()


def test_the_two_exploits_are_flagged(audited) -> None:
    flags = audited.set_index(["prediction", "metric"])["flag"]
    of_metric = audited.drop_duplicates("metric").set_index("metric")["metric_flag"]
    assert "rewards no information" in of_metric["overlap_at_all"]
    assert flags[CONTROL_MEAN, "overlap_at_all"] == "beats no change without information"
    assert of_metric["pearson_delta"] == "blind to wrong cells"
    assert "as good as a replicate, with collapsed variance" in flags[TRUE_MEAN, "pearson_delta"]
    assert (flags[[REPLICATE, NO_CHANGE]] == "").all()
    # of the two predictions, the one with smooth cells
    assert (
        "collapsed variance" in flags["smooth", "pearson_delta"]
        and "destroyed zeros" in flags["smooth", "overlap_at_all"]
    )
    assert (flags["honest"] == "").all()
    assert set(audited[audited["knows"] == "?"]["prediction"]) == {"smooth", "honest"}


def test_designed_cells_have_the_mean_that_is_wanted() -> None:
    from transpert.tl._evaluation.designed_cells import raise_a_tenth, with_zeros

    rng = np.random.default_rng(0)
    cells = np.maximum(rng.normal(0.5, 1, (50, 30)), 0)
    mean = cells.mean(axis=0) * rng.choice([0.3, 1.0, 2.0], 30)
    for make in (raise_a_tenth, with_zeros):
        made = make(cells, mean, np.random.default_rng(1))
        np.testing.assert_allclose(made.mean(axis=0), mean, atol=1e-9)
        assert made.shape == cells.shape and made.min() >= 0
    rising = mean > cells.mean(axis=0) + 1e-9
    changed = (np.sort(raise_a_tenth(cells, mean, np.random.default_rng(1)), axis=0) != np.sort(cells, axis=0)).sum(
        axis=0
    )
    assert rising.any() and (changed[rising] > 0).all()
    assert ((made == 0).sum(axis=0) == (cells == 0).sum(axis=0)).all()


def test_cells_by_design_fool_metrics_of_the_mean_alone(audited) -> None:
    values = audited.pivot(index="prediction", columns="metric", values="value")
    flags = audited.set_index(["prediction", "metric"])["flag"]
    for name, fault in ((DESIGNED, "its shift in a tenth of the cells"), (TRUE_ZEROS, "zeros made by hand")):
        assert values.at[name, "pearson_delta"] > 0.99
        assert f"as good as a replicate, with {fault}" in flags[name, "pearson_delta"]
    # ranks move less where a tenth of the cells carries what rises
    assert values.at[DESIGNED, "overlap_at_all"] < values.at[REPLICATE, "overlap_at_all"] - 0.2
    # neither the number of zeros nor the variance gives zeros away that were made by hand
    gap = values["zero_fraction_gap"]
    assert gap[TRUE_ZEROS] < gap[TRUE_MEAN] - 0.1 and values.at[TRUE_ZEROS, "variance_ratio"] > 0


def test_undefined_values_of_controls_are_counted(audited) -> None:
    row = audited.set_index(["prediction", "metric"]).loc[(CONTROL_MEAN, "pearson_delta")]
    # the shift of the control mean is nothing at all
    assert row["n_undefined"] == row["n"] == 20 and np.isnan(row["value"])


def test_a_metric_that_sees_nothing_is_said_to(screen) -> None:
    still = screen[screen.obs["perturbation"] == "control"].copy()
    labels = np.where(np.arange(still.n_obs) % 2, "control", "sham")
    still.obs["perturbation"] = labels
    table = tp.tl.audit(None, still, metrics=["energy_distance"], context_keys="context", progress=False)
    flags = table.drop_duplicates("metric").set_index("metric")["metric_flag"]
    assert "sees no effect" in flags["energy_distance"]
    # one perturbation in a context has no others to take the mean of
    assert PERTURBATION_MEAN not in set(table["prediction"])


def test_an_audit_says_what_it_cannot_do(screen) -> None:
    keys = {"context_keys": "context", "progress": False}
    with pytest.raises(OptionError, match="independent replicate"):
        tp.tl.audit({REPLICATE: screen}, screen, **keys)
    with pytest.raises(OptionError, match="margin"):
        tp.tl.audit(None, screen, limits=tp.tl.AuditLimits(margin=-1), **keys)
    small = screen[screen.obs["perturbation"] == "control"].copy()
    small.obs["perturbation"] = ["P0" if i % 60 == 0 else "control" for i in range(small.n_obs)]
    with pytest.raises(GroupSizeError, match="4 cells"):
        tp.tl.audit(None, small, **keys)
    p0 = np.flatnonzero(screen.obs["perturbation"] == "P0")
    mixed = screen[np.setdiff1d(np.arange(screen.n_obs), p0[3:])].copy()
    with pytest.warns(AssumptionWarning, match="fewer than 4 cells"):
        table = tp.tl.audit(None, mixed, metrics=["mse_delta"], **keys)
    assert (table["n"] == 5 * 3).all()
