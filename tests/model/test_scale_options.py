"""Every choice of the method trains, changes the prediction, and comes back from a file."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.errors import ModelFileError
from transpert.model import TrainingOptions
from transpert.model.scale.options import refuse_former
from transpert.nn import (
    ConditionOptions,
    DecoderOptions,
    EncoderOptions,
    FlowOptions,
    LossOptions,
    SetOptions,
)
from transpert.transport import AnchorOptions, ReadoutOptions

TRAINING = TrainingOptions(steps=6, steps_per_epoch=3, set_size=8, sets_per_batch=4)
# the network alone, so that each choice shows
ALONE = tp.model.JoiningOptions(folds=1, gate=1.0)
HEADS = {"width": 32, "n_heads": 4, "n_key_heads": 2}
FLOW = {"depth": 1, "n_heads": 4, "n_key_heads": 2}
DEFAULT = {
    "encoder": EncoderOptions("mlp", depth=1, **HEADS),
    "flow": FlowOptions(**FLOW),
    "joining": ALONE,
    "training": TRAINING,
}
CHOICES = {
    "encoder llama": {"encoder": EncoderOptions("llama", depth=1, n_tokens=4, **HEADS)},
    "input scale 10": {"encoder": EncoderOptions("mlp", depth=1, input_scale=10.0, **HEADS)},
    "pooling mean": {"sets": SetOptions(pooling="mean")},
    "conditioning cross": {"conditions": ConditionOptions(conditioning="cross")},
    "coupling index": {"flow": FlowOptions(coupling="index", **FLOW)},
    **{
        f"predict {predict}, loss {loss}, {conversion}": {
            "flow": FlowOptions(predict=predict, loss=loss, conversion=conversion, **FLOW)
        }
        for predict, loss, conversion in (
            ("x", "v", "jit"),
            ("v", "x", "jit"),
            ("v", "v", "jit"),
            ("v", "x", "z0"),
        )
    },
    "3 steps": {"flow": FlowOptions(steps=3, **FLOW)},
    "prior gaussian": {"flow": FlowOptions(prior="gaussian", **FLOW)},
    "no set-level loss": {"losses": LossOptions(set_level=0.0)},
    "no stop-gradient": {"losses": LossOptions(stop_gradient=False)},
    "reconstruction mmd": {"losses": LossOptions(reconstruction_mmd=1.0)},
    "deeper decoder": {"decoder": DecoderOptions(depth=2)},
}


@pytest.fixture(scope="module")
def tiny():
    adata = tp.datasets.simulate(n_contexts=6, n_perturbations=2, n_genes=24, n_cells=24, seed=1)
    tp.pp.split(adata, holdout={"context": "context_0"})
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys="context", layer="counts", split_key="split"
    )
    return adata


def predicted(adata, **options):
    model = tp.SCALE(adata, preset="tiny", **{**DEFAULT, **options})
    model.train(enable_progress_bar=False, accelerator="cpu")
    effects = model.get_effects({"context": "context_0"}, ["P0"])
    assert np.isfinite(effects.to_numpy()).all()
    return model, effects.to_numpy()


@pytest.fixture(scope="module")
def default(tiny):
    return predicted(tiny)[1]


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_of_the_network_trains_and_matters(name, tiny, default, tmp_path) -> None:
    model, effects = predicted(tiny, **CHOICES[name])
    assert np.abs(effects - default).max() > 1e-6
    model.save(tmp_path / "model")
    again = tp.SCALE.load(tmp_path / "model", tiny)
    assert again.options == model.options
    np.testing.assert_array_equal(again.get_effects({"context": "context_0"}, ["P0"]).to_numpy(), effects)


@pytest.mark.parametrize("predict", ["x", "v"])
def test_converted_from_the_start_both_losses_are_one(predict, tiny) -> None:
    """With ``v = z1 - z0`` the start drops out of the difference, so the paper's pairs are two, not four."""
    flows = [FlowOptions(predict=predict, loss=loss, conversion="z0", **FLOW) for loss in ("x", "v")]
    one, other = (predicted(tiny, flow=flow)[1] for flow in flows)
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"anchor": AnchorOptions(kind="mean")},
        {"anchor": None},
        {"anchor": AnchorOptions(spaces=("log1p",))},
        {"joining": tp.model.JoiningOptions(kind="residual", folds=2)},
    ],
    ids=["mean anchor", "no anchor", "one space", "residual"],
)
def test_a_choice_of_the_anchor_matters(options, tiny) -> None:
    joined = {"joining": tp.model.JoiningOptions(folds=2, gate=0.3)}
    _, usual = predicted(tiny, **joined)
    _, effects = predicted(tiny, **{**joined, **options})
    assert np.abs(effects - usual).max() > 1e-6


def test_the_smooth_read_out_has_the_mean_of_the_counts(tiny) -> None:
    model, _ = predicted(tiny)
    smooth, _ = predicted(tiny, readout=ReadoutOptions(kind="expected"))
    means = {}
    for name, chosen in (("counts", model), ("expected", smooth)):
        pred = chosen.predict({"context": "context_0"}, ["P0"], progress=False)
        means[name] = np.asarray(pred[pred.obs["source"] == "predicted"].X.mean(axis=0)).ravel()
        assert ("counts" in pred.layers) == (name == "counts")
    # 24 cells: a single count more or less moves a mean by up to log1p(1e4 / library) / 24
    assert np.abs(means["counts"] - means["expected"]).max() < 0.5


def test_the_gate_is_closed_for_combinations_when_none_was_tried(tiny) -> None:
    """A weight fitted on single perturbations says nothing of pairs: they are left to the sum of what was measured."""
    model, _ = predicted(tiny, joining=tp.model.JoiningOptions(folds=2))
    model.gate = 1.0
    pair = model.get_effects({"context": "context_1"}, ["P0+P1"])
    model.gate = 0.0
    np.testing.assert_array_equal(model.get_effects({"context": "context_1"}, ["P0+P1"]), pair)


@pytest.mark.parametrize("network", [{"decoder": {"output": "softplus"}}, {"flow": {"solver": "midpoint"}}])
def test_a_saved_network_with_an_option_that_is_gone_is_refused_and_with_its_default_is_read(network) -> None:
    with pytest.raises(ModelFileError, match="an option that is gone"):
        refuse_former(network)
    refuse_former({"decoder": {"output": "linear", "depth": 2}, "flow": {"solver": "euler"}, "encoder": {}})
