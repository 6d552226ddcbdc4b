"""Intervals that contain what they promise, and distances that say how far away a condition is."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

import transpert as tp
from transpert.conditions import Condition
from transpert.errors import AssumptionWarning, NotTrainedError, OptionError
from transpert.model.uncertainty.familiarity import Familiarity
from transpert.transport import ErrorModel, log_fold_of_means

SETUP = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts", "split_key": "split"}


def many_cells(*, held: list[str], key: str, n_train: int = 60, **options):
    """A screen of which little is trained on, and the effects in the many cells that were held back."""
    adata = tp.datasets.simulate(n_genes=120, n_cells=500, library_size=20_000, **options)
    rng = np.random.default_rng(0)
    split = np.full(adata.n_obs, "train", dtype=object)
    split[adata.obs[key].isin(held).to_numpy() & (adata.obs["perturbation"] != "control").to_numpy()] = "test"
    groups = adata.obs.groupby(["context", "perturbation"], observed=True).indices
    for (_, label), cells in groups.items():
        if label != "control" and split[cells[0]] == "train":
            split[rng.permutation(cells)[n_train:]] = "test"
    adata.obs["split"] = split
    logs = adata.X.toarray()
    truth = {
        f"{context}: {label}": log_fold_of_means(
            logs[cells].mean(axis=0, dtype=float), logs[groups[context, "control"]].mean(axis=0, dtype=float)
        )
        for (context, label), cells in groups.items()
        if label != "control"
    }
    return adata, truth


def covered(found, truth) -> float:
    inside = [(found.lower[name] <= truth[name]) & (truth[name] <= found.upper[name]) for name in found.effects.columns]
    return float(np.mean(inside))


def test_intervals_for_new_contexts_cover_what_they_promise() -> None:
    held = [f"context_{i}" for i in range(4)]
    shares = []
    for seed in (4, 5):  # four contexts of one screen share their luck: coverage differs by .05 from screen to screen
        adata, truth = many_cells(held=held, key="context", n_contexts=16, n_perturbations=3, dependence=0.7, seed=seed)
        tp.RidgeTransport.setup_anndata(adata, **SETUP)
        model = tp.RidgeTransport(adata)
        model.train()
        found = model.get_uncertainty({"context": held})
        assert set(found.conditions["situation"]) == {"context"}
        shares.append(covered(found, truth))
    assert 0.85 <= np.mean(shares) <= 0.95
    half = model.get_uncertainty({"context": held}, level=0.5)
    assert 0.4 <= covered(half, truth) <= 0.6
    # the effect in forty cells has their sampling error besides
    few = model.get_uncertainty({"context": held}, n_cells=40)
    assert (few.upper - few.lower).mean().mean() > 1.1 * (found.upper - found.lower).mean().mean()


def test_intervals_for_new_perturbations_cover_what_they_promise() -> None:
    held = [f"P{i}" for i in range(12)]
    adata, truth = many_cells(
        held=held, key="perturbation", n_contexts=1, n_perturbations=60, embedding_dimension=4, embedding_noise=0.3,
        context_dependence="none", seed=5,
    )  # fmt: skip
    table = tp.conditions.Embedding.from_frame(adata.uns["simulation"]["embedding"])
    tp.RidgeTransport.setup_anndata(adata, **SETUP)
    widths = {}
    for name, embedding in (("true", table), ("shuffled", table.shuffle(1))):
        model = tp.RidgeTransport(adata, embeddings=embedding)
        model.train()
        found = model.get_uncertainty(perturbations=held)
        assert set(found.conditions["situation"]) == {"perturbation"}
        assert 0.85 <= covered(found, truth) <= 0.95, name
        widths[name] = (found.upper - found.lower).mean().mean()
    # what is known about a perturbation makes the interval narrower
    assert widths["true"] < 0.85 * widths["shuffled"]


@pytest.mark.parametrize(("novelty", "held"), [("extrapolation", 10.0), ("dose", 1.0)])
def test_intervals_for_new_doses_cover_what_they_promise(novelty: str, held: float) -> None:
    shares = []
    for seed in range(3):
        # so many cells that the truth is nearly free of noise: little is wrong with a dose between others
        adata = tp.datasets.simulate(
            n_contexts=1, n_perturbations=8, n_genes=120, n_cells=1500, library_size=20_000, seed=seed,
            doses=(0.1, 0.3, 1.0, 3.0, 10.0),
        )  # fmt: skip
        groups = adata.obs.groupby(["perturbation", "dose"], observed=True).indices
        rng = np.random.default_rng(seed)
        split = np.full(adata.n_obs, "train", dtype=object)
        for (_, dose), cells in groups.items():
            split[cells if dose == held else rng.permutation(cells)[60:]] = "test"
        adata.obs["split"] = split
        tp.KernelTransport.setup_anndata(adata, **SETUP, dose_key="dose")
        model = tp.KernelTransport(adata)
        model.train()
        labels = [label for label, dose in groups if dose == held]
        found = model.get_uncertainty(perturbations=labels, doses=held)
        assert set(found.conditions["situation"]) == {novelty}
        assert (found.conditions["dose_distance"] > 0).all() == (novelty == "extrapolation")
        logs = adata.X.toarray()
        before = logs[(adata.obs["perturbation"] == "control").to_numpy()].mean(axis=0, dtype=float)
        for label, name in zip(labels, found.effects, strict=True):
            truth = log_fold_of_means(logs[groups[label, held]].mean(axis=0, dtype=float), before)
            shares.append(((found.lower[name] <= truth) & (truth <= found.upper[name])).mean())
    assert 0.85 <= np.mean(shares) <= 0.95


def test_intervals_for_new_combinations_are_learned_from_other_combinations() -> None:
    shares = []
    for seed in range(4):
        adata = tp.datasets.simulate(
            n_contexts=1, n_perturbations=10, n_combinations=16, n_genes=120, n_cells=400, interaction=-0.5,
            library_size=20_000, seed=seed,
        )  # fmt: skip
        pairs = sorted(label for label in adata.obs["perturbation"].unique() if "+" in label)
        groups = adata.obs.groupby("perturbation", observed=True).indices
        adata.obs["split"] = "train"
        rng = np.random.default_rng(seed)
        for label, cells in groups.items():
            left = cells if label in pairs[:5] else rng.permutation(cells)[60 if label != "control" else 400 :]
            adata.obs.iloc[left, adata.obs.columns.get_loc("split")] = "test"
        tp.KernelTransport.setup_anndata(adata, **SETUP)
        model = tp.KernelTransport(adata)
        model.train()
        found = model.get_uncertainty(perturbations=pairs[:5], n_cells=400)
        assert set(found.conditions["situation"]) == {"combination"}
        logs = adata.X.toarray()
        before = logs[groups["control"]].mean(axis=0, dtype=float)
        for label, name in zip(pairs[:5], found.effects, strict=True):
            truth = log_fold_of_means(logs[groups[label]].mean(axis=0, dtype=float), before)
            shares.append(((found.lower[name] <= truth) & (truth <= found.upper[name])).mean())
    assert 0.85 <= np.mean(shares) <= 0.95


def test_combinations_that_could_not_be_imitated_are_reported() -> None:
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=4, n_combinations=2, n_genes=40, n_cells=40)
    adata.obs["split"] = np.where(adata.obs["perturbation"].str.contains("+", regex=False), "test", "train")
    tp.KernelTransport.setup_anndata(adata, **SETUP)
    model = tp.KernelTransport(adata)
    model.train()
    pair = next(label for label in adata.obs["perturbation"].unique() if "+" in label)
    with pytest.warns(AssumptionWarning, match="could not imitate that a combination is new"):
        assert model.get_uncertainty(perturbations=pair).conditions["situation"].tolist() == ["combination"]


def test_other_cells_under_a_known_name_are_as_far_away_as_they_are(screen) -> None:
    screen.obs["split"] = "train"
    tp.RidgeTransport.setup_anndata(screen, **SETUP)
    model = tp.RidgeTransport(screen)
    model.train()
    other = screen[screen.obs["context"] == "context_0"].copy()
    same = model.get_uncertainty({"context": "context_0"}, ["P0"], adata=other).conditions
    assert same["ood_score"].iloc[0] < 1e-3
    other.layers["counts"] = other.layers["counts"][:, ::-1]
    far = model.get_uncertainty({"context": "context_0"}, ["P0"], adata=other).conditions
    assert far["ood_score"].iloc[0] > 1


def test_slots_files_and_distances(screen, tmp_path) -> None:
    screen.obs["split"] = np.where(screen.obs["context"] == "context_0", "test", "train")
    tp.SCALE.setup_anndata(screen, **SETUP)
    training = tp.model.TrainingOptions(steps=12, steps_per_epoch=6, set_size=16, sets_per_batch=4)
    model = tp.SCALE(screen, preset="tiny", joining="always", training=training)
    model.train(enable_progress_bar=False, accelerator="cpu")
    pred = model.predict({"context": ["context_0", "context_1"]}, ["P0"], interval=0.9, progress=False)
    assert list(pred.varm["effect"]) == ["context_0: P0", "context_1: P0"]
    assert (pred.varm["effect_lower"] <= pred.varm["effect"]).all(axis=None)
    assert (pred.varm["effect"] <= pred.varm["effect_upper"]).all(axis=None)
    table = pred.uns["transpert"]["uncertainty"]["conditions"]
    assert table["situation"].tolist() == ["context", "seen"]
    assert table["context_distance"].iloc[0] > 0 == table["context_distance"].iloc[1]
    is_new = (pred.obs["context"] == "context_0") & (pred.obs["source"] == "predicted")
    assert (pred.obs.loc[is_new, "ood_score"] == table["ood_score"].iloc[0]).all()
    assert (pred.obs.loc[~is_new, "ood_score"] == 0).all()
    expected = model.get_effects({"context": "context_0"}, ["P0"])
    np.testing.assert_allclose(pred.varm["effect"]["context_0: P0"], expected["context_0: P0"], atol=1e-5)
    pred.write_h5ad(tmp_path / "x.h5ad")
    again = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert again.uns["transpert"]["uncertainty"]["level"] == 0.9
    model.save(tmp_path / "model")
    loaded = tp.SCALE.load(tmp_path / "model", screen).predict(
        {"context": ["context_0", "context_1"]}, ["P0"], interval=0.9, progress=False
    )
    np.testing.assert_array_equal(loaded.varm["effect_upper"], pred.varm["effect_upper"])


def test_a_context_unlike_all_others_is_far_away() -> None:
    adata = tp.datasets.simulate(n_contexts=8, n_perturbations=2, n_genes=60, n_cells=60)
    odd = adata.obs["context"].isin(["context_6", "context_7"]).to_numpy()
    counts = adata.layers["counts"].toarray()
    counts[(adata.obs["context"] == "context_7").to_numpy()] = counts[(adata.obs["context"] == "context_7").to_numpy()][
        :, ::-1
    ]
    adata.layers["counts"] = counts
    adata.obs["split"] = np.where(odd, "test", "train")
    tp.RidgeTransport.setup_anndata(adata, **SETUP)
    model = tp.RidgeTransport(adata)
    model.train()
    scores = model.get_uncertainty(perturbations=["P0"]).conditions.set_index("context")["ood_score"]
    assert scores["context_0"] == 0 and scores["context_7"] > 1.5 * scores["context_6"] > 0


def test_what_cannot_be_known_is_said(screen) -> None:
    screen.obs["split"] = np.where(screen.obs["perturbation"].isin(["P2", "P1+P2"]), "test", "train")
    tp.RidgeTransport.setup_anndata(screen, **SETUP)
    model = tp.RidgeTransport(screen)
    model.train()
    found = model.get_uncertainty(perturbations=["P2"], unseen="mean")
    assert np.isinf(found.conditions["ood_score"]).all()
    with pytest.raises(OptionError, match="level"):
        model.get_uncertainty(level=90)
    tp.MeanShift.setup_anndata(screen, **SETUP)
    baseline = tp.MeanShift(screen)
    baseline.train()
    with pytest.raises(NotTrainedError, match="no predictions of left-out groups"):
        baseline.predict(perturbations=["P0"], interval=0.9)
    one = screen[screen.obs["context"] == "context_0"].copy()
    tp.RidgeTransport.setup_anndata(one, **SETUP)
    narrow = tp.RidgeTransport(one)
    narrow.train()
    with pytest.warns(AssumptionWarning, match="could not imitate that a context is new"):
        narrow.get_uncertainty({"context": "context_1"}, ["P0"], adata=screen)


def test_errors_follow_genes_and_heavy_tails() -> None:
    rng = np.random.default_rng(0)
    sizes = np.repeat([0.1, 1.0], 200)
    errors = rng.standard_t(3, size=(80, 400)) * sizes
    sampling = 0.3 * rng.normal(size=errors.shape)
    model = ErrorModel.fit(np.zeros_like(errors), errors + sampling, np.full_like(errors, 0.09))
    fresh = rng.standard_t(3, size=(80, 400)) * sizes
    inside = np.abs(fresh) <= model.half_width(0.9)
    assert 0.85 <= inside.mean() <= 0.95
    assert 0.85 <= inside[:, 200:].mean() <= 0.95
    again = ErrorModel.from_state(*model.to_state())
    np.testing.assert_array_equal(again.half_width(0.9), model.half_width(0.9))


def test_pairs_of_older_models_are_known_by_their_new_names() -> None:
    condition = Condition(("A", "B"), (0.1, None), 24.0, (None, "CRISPRi"))
    familiarity = Familiarity(("x",), np.zeros((1, 2)), 1.0, ("A", "B"), frozenset([condition]), frozenset())
    plain, arrays = familiarity.to_state()
    plain["pairs"] = [["x", "A (0.1) + B CRISPRi, time 24"]]
    assert Familiarity.from_state(plain, arrays).pairs == {("x", "A+B, dose 0.1+nan, time 24, direction nan+CRISPRi")}


def test_intervals_hold_for_a_new_context_where_the_groups_of_one_context_err_together() -> None:
    rng = np.random.default_rng(0)
    contexts = np.repeat(list("abcd"), 10)
    inside: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(200):
        # all groups of a context share their error
        errors = rng.normal(0, 0.3, (5, 60))
        measured = np.repeat(errors[:4], 10, axis=0)
        nothing = np.zeros_like(measured)
        for known, found in inside.items():
            model = ErrorModel.fit(nothing, measured, nothing, contexts if known else None)
            found.append(float((np.abs(errors[4]) <= model.half_width(0.9)).mean()))
    assert 0.87 <= np.mean(inside[True]) <= 0.95
    assert np.mean(inside[False]) < 0.85
