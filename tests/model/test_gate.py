"""How much the networks count beside the anchor, and where they count at all."""

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.conditions import Condition, as_embedding
from transpert.errors import AssumptionWarning, NotTrainedError, UnknownNameError
from transpert.model.prediction.requests import Request
from transpert.model.scale.gate import fit_gate, gate_applies_to, nothing_to_learn
from transpert.transport import group_effects
from transpert.transport.weighing import gains_of_weights

TRAINING = tp.model.TrainingOptions(steps=6, steps_per_epoch=3, set_size=8, sets_per_batch=4)


@pytest.fixture(scope="module")
def trained() -> tp.SCALE:
    """Two drugs at three doses in two contexts; the second was not given in the second context."""
    adata = tp.datasets.simulate(
        n_contexts=2, n_perturbations=3, n_genes=25, n_cells=20, doses=(0.1, 1.0, 10.0), seed=1
    )
    missing = (adata.obs["perturbation"] == "P1") & (adata.obs["context"] == "context_1")
    adata = adata[~missing].copy()
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys="context", dose_key="dose", layer="counts"
    )
    model = tp.SCALE(adata, preset="tiny", joining="always", training=TRAINING)
    model.train(enable_progress_bar=False)
    return model


@pytest.mark.parametrize(
    ("context", "parts", "dose", "tried"),
    [
        ("context_1", ("P1",), 1.0, True),  # a pair that was not measured, as those left out
        ("context_7", ("P0",), 1.0, True),  # a new context
        ("context_1", ("P0",), 1.0, False),  # measured
        ("context_1", ("P0",), 3.0, False),  # between doses that were measured there
        ("context_1", ("P0", "P2"), 1.0, False),  # a combination, of which there was none
    ],
)
def test_the_gate_holds_for_what_was_left_out(trained, context, parts, dose, tried) -> None:
    condition = Condition(parts, (dose,) * len(parts))
    request = Request(context, {"context": context}, condition, "")
    assert gate_applies_to(trained.anchor, request, trained.embedding, trained.left_out_level) is tried


NEW = Request("context_1", {"context": "context_1"}, Condition(("P9",), (1.0,)), "P9")
VECTORS = as_embedding(pd.DataFrame(np.eye(2), index=["P0", "P9"]))


@pytest.mark.parametrize(
    ("embedding", "level", "tried"),
    [
        (None, "pair", False),  # a vector that was never trained
        (None, "context", False),
        (None, "perturbation", True),  # as those that the networks were judged by
        (VECTORS, "pair", True),
    ],
)
def test_networks_do_not_count_for_a_perturbation_that_they_have_no_vector_of(trained, embedding, level, tried) -> None:
    assert gate_applies_to(trained.anchor, NEW, embedding, level) is tried


@pytest.mark.parametrize("options", [{"anchor": None}, {"joining": tp.model.JoiningOptions(folds=1, gate=0.5)}])
def test_networks_are_not_asked_about_what_they_were_not_trained_on(options, tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=3, n_genes=25, n_cells=20)
    tp.pp.split(adata, holdout={"perturbation": "P2"})
    keys = {"perturbation_key": "perturbation", "context_keys": "context", "split_key": "split", "layer": "counts"}
    tp.SCALE.setup_anndata(adata, **keys)
    model = tp.SCALE(adata, preset="tiny", training=TRAINING, **options)
    model.train(enable_progress_bar=False)
    model.save(tmp_path / "model")
    for some in (model, tp.SCALE.load(tmp_path / "model", adata)):
        with pytest.raises(UnknownNameError, match=r"'P2'.*trained on.*Pass embeddings="):
            some.predict(perturbations="P2", progress=False)
        with pytest.raises(UnknownNameError, match="'P2'"):
            some.predict_to_store(tmp_path / "pred.zarr", perturbations=["P1", "P2"], progress=False)
        assert some.get_effects({"context": "context_0"}, "P1").shape == (25, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_new_doses_of_what_was_measured_are_left_to_the_anchor(trained) -> None:
    gate, trained.gate = trained.gate, 1.0
    try:
        known = trained.get_effects({"context": "context_1"}, ["P0"], doses=[3.0]).to_numpy()
        unknown = trained.get_effects({"context": "context_1"}, ["P1"], doses=[3.0]).to_numpy()
        trained.gate = 0.0
        np.testing.assert_array_equal(trained.get_effects({"context": "context_1"}, ["P0"], doses=[3.0]), known)
        anchored = trained.get_effects({"context": "context_1"}, ["P1"], doses=[3.0]).to_numpy()
        assert np.abs(anchored - unknown).max() > 1e-3
    finally:
        trained.gate = gate


def left_out_effects(n_contexts: int, seed: int = 0):
    """Effects of one perturbation in so many contexts, with their true shifts."""
    adata = tp.datasets.simulate(n_contexts=n_contexts, n_perturbations=1, n_genes=40, n_cells=60, seed=seed)
    design = tp.groups.Design("perturbation", "control", ("context",))
    groups = tp.groups.make_groups(adata.obs, design)
    library = adata.obs["library_size"].to_numpy(dtype=float)
    return group_effects(adata.layers["counts"], library, groups, tp.groups.match_controls(groups))


def weight(effects, anchored, networks) -> float:
    return fit_gate(effects, anchored, networks, np.ones(len(effects), dtype=bool), "context").weight


def test_networks_that_are_right_everywhere_get_all_the_weight() -> None:
    effects = left_out_effects(6)
    wrong = np.random.default_rng(0).normal(0, effects.shift().std(), effects.shift().shape)
    assert weight(effects, wrong, effects.shift()) == 1.0
    assert weight(effects, effects.shift(), wrong) == 0.0


def test_networks_that_help_in_some_of_few_contexts_get_no_weight() -> None:
    effects = left_out_effects(4)
    truth, rng = effects.shift(), np.random.default_rng(1)
    noise = rng.normal(0, truth.std(), truth.shape)
    networks = truth - noise
    networks[1:] = truth[1:] + 3 * noise[1:]  # pooled over genes the first context may outweigh the others
    anchored = truth + noise
    assert weight(effects, anchored, networks) == 0.0


@pytest.mark.parametrize(("share", "counts"), [(0.01, False), (0.3, True)])
def test_a_gain_that_is_sure_and_too_small_to_be_seen_opens_no_gate(share, counts) -> None:
    effects = left_out_effects(8)
    observed = effects.shift()
    anchored = 0.5 * observed + np.random.default_rng(0).normal(0, 0.05, observed.shape)
    networks = anchored + share * (observed - anchored)  # a little nearer in every context
    assert (weight(effects, anchored, networks) > 0) is counts


def test_a_strong_perturbation_does_not_outvote_the_silent_ones() -> None:
    truth = np.zeros((9, 40))
    truth[0] = 5 * np.random.default_rng(2).normal(size=truth.shape[1])
    anchored = truth.copy()
    anchored[1:] = truth[0] / 5  # the mean effect, also for what does nothing
    networks = np.zeros_like(truth)
    networks[0] = 0.9 * truth[0]
    gains = gains_of_weights(truth, anchored, networks).mean(axis=0)
    assert gains.argmax() == 20


def test_one_context_is_no_evidence() -> None:
    effects = left_out_effects(3)
    found = fit_gate(effects, np.zeros_like(effects.shift()), effects.shift(), np.arange(3) == 0, "context")
    assert (found.weight, found.n_units) == (0.0, 1)


def one_perturbation(n_contexts: int, **options: object) -> tp.SCALE:
    adata = tp.datasets.simulate(n_contexts=n_contexts, n_perturbations=1, n_genes=60, n_cells=40, seed=2)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    model = tp.SCALE(adata, preset="tiny", training=TRAINING, **options)
    model.train(enable_progress_bar=False)
    return model


def test_no_network_is_trained_where_too_few_contexts_can_be_left_out(tmp_path) -> None:
    with pytest.warns(AssumptionWarning, match="No network was trained"):
        model = one_perturbation(4)
    assert model.gate == 0 and not model.completed_history
    assert "not trained" in model.summary() and "the gate needs 5" in model.summary()
    asked = {"contexts": {"context": "context_0"}, "perturbations": ["P0"], "progress": False}
    pred = model.predict(**asked)
    assert "X_scale" not in pred.obsm
    with pytest.raises(NotTrainedError, match='joining="always"'):
        model.get_latent_representation()
    model.save(tmp_path / "model")
    again = tp.SCALE.load(tmp_path / "model", model.adata)
    assert again.summary() == model.summary()
    np.testing.assert_array_equal(pred.to_df(), again.predict(**asked).to_df())


def test_networks_are_trained_if_the_user_insists() -> None:
    model = one_perturbation(4, joining="always")
    assert model.completed_history and model.get_latent_representation().shape[1] == 64


def test_nothing_is_to_be_learned_where_the_anchor_errs_by_sampling_alone() -> None:
    adata = tp.datasets.simulate(n_contexts=8, n_perturbations=1, n_genes=60, n_cells=40, seed=2)
    design = tp.Design("perturbation", "control", ("context",))
    groups = tp.groups.make_groups(adata.obs, design)
    matching = tp.groups.match_controls(groups, warn=False)
    effects = group_effects(adata.layers["counts"], adata.obs["library_size"], groups, matching)
    _, variance = effects.in_space("log1p", pseudo_rate=1.0)
    noise = 0.8 * np.random.default_rng(0).normal(size=variance.shape) * np.sqrt(variance)
    everything = np.ones(8, dtype=bool)
    assert "sampling error" in nothing_to_learn(effects, effects.shift() + noise, everything, "context")
    assert nothing_to_learn(effects, 0.5 * effects.shift() + noise, everything, "context") == ""
