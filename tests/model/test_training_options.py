"""Options of training: interruptions by the user, losses that are not finite, precision, accumulation, compilation."""

from __future__ import annotations

import dataclasses
import os
import signal
import warnings

import lightning
import numpy as np
import pytest
import torch

import transpert as tp
from transpert.errors import OptionError, TrainingError
from transpert.model import JoiningOptions, ScaleOptions, TrainingOptions
from transpert.model.scale.training import checkpoints, products
from transpert.nn import EncoderOptions, FlowOptions, NetworkSizes, SetDraws, TransportNetwork
from transpert.nn.draws import draw_normal, draw_uniform

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def small():
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    return adata


def make(adata, *, network=None, **options):
    chosen = {"steps": 6, "steps_per_epoch": 3, "set_size": 6, "sets_per_batch": 4, **options}
    parts = network or {
        "encoder": EncoderOptions("mlp", 16, 1),
        "flow": FlowOptions(depth=1, n_heads=2, n_key_heads=1),
    }
    return tp.SCALE(adata, preset="tiny", joining=JoiningOptions(folds=2), training=TrainingOptions(**chosen), **parts)


def train(model, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.train(**{**QUIET, **arguments})
    return model


def predicted(model):
    return model.predict(perturbations="P0", readout="expected", progress=False).to_df().to_numpy()


class BeforeStep(lightning.Callback):
    """Do something before a step of training."""

    def __init__(self, step, action) -> None:
        self.step, self.action = step, action

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            self.action()


# --- interruptions ----------------------------------------------------------------------------------------------


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_training_says_how_to_go_on(small, tmp_path) -> None:
    whole = train(make(small))
    model = make(small)
    with pytest.raises(KeyboardInterrupt, match=r'interrupted after step 5. Go on with resume="auto"'):
        train(model, checkpoint_dir=tmp_path, callbacks=[BeforeStep(4, interrupt)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not model.is_trained_
    assert len(model.history["train_loss_step"]) == 5
    # in the same session, with the same object
    train(model, checkpoint_dir=tmp_path, resume="auto")
    np.testing.assert_array_equal(predicted(model), predicted(whole))
    for name, table in whole.history.items():
        np.testing.assert_array_equal(model.history[name], table, err_msg=name)


def test_an_interruption_without_checkpoints_says_so(small) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"after step 2. There is no checkpoint_dir"):
        train(make(small), callbacks=[BeforeStep(1, interrupt)])


def test_interrupting_twice_stops_inside_the_step(small, tmp_path) -> None:
    def impatient() -> None:
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt, match="inside a step"):
        train(make(small), checkpoint_dir=tmp_path, checkpoint_every_n_steps=1, callbacks=[BeforeStep(2, impatient)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert checkpoints.find_checkpoints(tmp_path)[0].name == "step-000000002"


# --- losses that are not finite ---------------------------------------------------------------------------------


def spoil(model, value, *, perturbation=1):
    """Multiply the loss of the sets of a perturbation."""
    for member in model.module.networks:

        def spoiled(batch, losses=member.losses, **arguments):
            found = losses(batch, **arguments)
            chosen = (batch.condition.perturbation == perturbation).any()
            return {**found, "total": found["total"] * (value if chosen else 1.0)}

        member.losses = spoiled


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["nan", "infinite"])
def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_sets(small, tmp_path, value) -> None:
    model = make(small)
    with pytest.raises(TrainingError) as caught:
        train(
            model,
            checkpoint_dir=tmp_path,
            checkpoint_every_n_steps=1,
            callbacks=[BeforeStep(3, lambda: spoil(model, value))],
        )
    message = str(caught.value)
    assert "the loss is not finite at step 3 of epoch 1" in message
    assert "P0 / context_" in message and "P1 / " not in message
    # of the step that was not taken nothing is kept
    assert checkpoints.find_checkpoints(tmp_path)[0].name == "step-000000003"
    state = checkpoints.read_state(checkpoints.find_checkpoints(tmp_path)[0])
    assert all(torch.isfinite(weight).all() for weight in state["state_dict"].values())
    # the best weights so far are those of the validation after step 3
    for name, weight in model.module.state_dict().items():
        assert torch.equal(weight, state["transpert"]["best"]["weights"][name]), name
    assert len(model.history["train_loss_step"]) == 3


def test_steps_that_are_too_large_end_with_the_last_good_weights(small) -> None:
    """The cells a network puts out are then NaN, of which no assignment is the cheapest."""
    model = make(small, learning_rate=1e30, gradient_clip=1e30, average=0.0, steps_per_epoch=1)
    remembered = {}

    class Remember(lightning.Callback):
        def on_train_start(self, trainer, plan) -> None:
            plan._best = (0.0, {name: weight.clone() for name, weight in plan.module.state_dict().items()})
            remembered.update(plan._best[1])

    with pytest.raises(TrainingError, match=r"not finite|is (nan|inf)"):
        train(model, callbacks=[Remember()])
    assert all(torch.equal(weight, remembered[name]) for name, weight in model.module.state_dict().items())


def test_a_weight_that_is_not_a_number_is_a_loss_that_is_not(small) -> None:
    model = make(small)
    with torch.no_grad():
        # of the network that sees all sets
        next(model.module.networks[-1].cells.parameters()).view(-1)[0] = torch.nan
    with pytest.raises(TrainingError, match=r"the loss is not finite at step 0 of epoch 0 \(in the sets of 'P"):
        train(model)


def test_a_gradient_that_is_not_finite_stops_it_too(small) -> None:
    model = make(small)

    def tear() -> None:
        parameter = next(model.module.networks[0].parameters())
        parameter.register_hook(lambda gradient: gradient * torch.nan)

    with pytest.raises(TrainingError, match=r"the gradient is not finite at step 1 of epoch 0 \(in the sets of 'P"):
        train(model, callbacks=[BeforeStep(1, tear)])


def test_a_validation_loss_that_is_not_finite_stops_it_too(small) -> None:
    model = make(small, average=0.0)

    class SpoilValidation(lightning.Callback):
        def on_validation_start(self, trainer, *args) -> None:
            spoil(model, torch.nan)

    with pytest.raises(TrainingError, match="the validation loss is nan after epoch 0"):
        train(model, callbacks=[SpoilValidation()])


# --- how a step is computed -------------------------------------------------------------------------------------


def test_accumulated_gradients_are_those_of_all_sets_at_once(small) -> None:
    at_once, in_parts = train(make(small)), train(make(small, sets_per_batch=2, accumulate=2))
    assert len(in_parts.history["train_loss_step"]) == 6
    # the losses of later steps are those of weights that earlier ones have moved
    for name in ("train_loss_step", "train_set_level"):
        np.testing.assert_allclose(in_parts.history[name], at_once.history[name], rtol=1e-4)


def test_checkpoints_fall_between_steps_also_where_gradients_accumulate(small, tmp_path) -> None:
    options = {"sets_per_batch": 2, "accumulate": 2}
    whole = train(make(small, **options))
    train(make(small, **options), checkpoint_dir=tmp_path, checkpoint_every_n_steps=2)
    resumed = train(make(small, **options), resume=checkpoints.checkpoint_path(tmp_path, 4))
    np.testing.assert_array_equal(predicted(resumed), predicted(whole))


def test_gradients_are_clipped(small) -> None:
    norms = []

    class Norms(lightning.Callback):
        def on_before_zero_grad(self, trainer, plan, optimizer) -> None:
            gradients = [p.grad for p in plan.module.parameters() if p.grad is not None]
            if gradients:
                norms.append(torch.nn.utils.get_total_norm(gradients).item())

    train(make(small, gradient_clip=0.01), callbacks=[Norms()])
    assert norms and max(norms) == pytest.approx(0.01, rel=1e-3)


def test_half_precision(small) -> None:
    dtypes = set()
    model = make(small)
    model.module.networks[0].cells.register_forward_hook(lambda part, inputs, output: dtypes.add(output.dtype))
    train(model, precision="bf16-mixed")
    assert torch.bfloat16 in dtypes
    whole = train(make(small))
    np.testing.assert_allclose(model.history["train_loss"], whole.history["train_loss"], rtol=0.02)
    assert all(weight.dtype == torch.float32 for weight in model.module.parameters())


@pytest.mark.parametrize(
    ("gpu", "tiles", "chosen", "during"),
    [
        (True, False, "highest", "high"),
        (False, False, "highest", "medium"),
        (False, True, "highest", "highest"),
        (True, False, "medium", "medium"),
        (False, False, "high", "high"),
    ],
)
def test_products_are_fast_while_networks_are_trained_and_nobody_chose(monkeypatch, gpu, tiles, chosen, during) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(products, "_medium_is_single", lambda: not tiles)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: now[-1])
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda value: now.append(value))
    now = [chosen]
    with pytest.raises(ZeroDivisionError), products.fast_products():
        assert now[-1] == during
        raise ZeroDivisionError
    assert now[-1] == chosen


def test_fast_products_of_a_cpu_keep_single_precision() -> None:
    before = torch.get_float32_matmul_precision()
    rows, columns = (
        torch.randn(*shape, generator=torch.Generator().manual_seed(0)) for shape in ((300, 500), (500, 70))
    )
    exact = rows.double() @ columns.double()
    with products.fast_products():
        found = rows @ columns
    assert torch.get_float32_matmul_precision() == before
    if not torch.cuda.is_available():
        torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=1e-5)


def test_activation_checkpointing_changes_nothing_but_memory(small) -> None:
    found = []
    for checkpoint in (False, True):
        network = {
            "encoder": EncoderOptions("llama", 16, 2, 4, 2, 1, checkpoint=checkpoint),
            "flow": FlowOptions(depth=2, n_heads=2, n_key_heads=1, checkpoint=checkpoint),
        }
        found.append(train(make(small, network=network)))
    np.testing.assert_allclose(found[1].history["train_loss_step"], found[0].history["train_loss_step"], rtol=1e-4)


def test_compiled_networks_have_the_same_losses(small, monkeypatch) -> None:
    # the graphs are traced as for any compiler, but run as they are: compiling them takes a minute on a small machine
    compiled = []
    compile_part = torch.nn.Module.compile

    def traced(part, *args, **kwargs):
        compiled.append(type(part).__name__)
        compile_part(part, *args, backend="aot_eager", **kwargs)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    model, plain = train(make(small, compile=True)), train(make(small))
    assert compiled == ["CellEncoder", "SetEncoder", "FlowField"] * 3  # two folds, and all groups
    np.testing.assert_allclose(model.history["train_loss_step"], plain.history["train_loss_step"], rtol=1e-3)
    np.testing.assert_allclose(predicted(model), predicted(plain), atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", 64, "transformer-engine"])
def test_precisions_in_which_nothing_is_trained_are_refused(small, precision) -> None:
    with pytest.raises(OptionError, match=f"precision is {precision!r}. Choose 32, 'bf16-mixed' or '16-mixed'"):
        train(make(small), precision=precision)


@pytest.mark.parametrize("precision", ["32-true", "bf16", "16-mixed"])
def test_other_words_for_precisions_are_known(small, precision) -> None:
    assert train(make(small, steps=2, steps_per_epoch=1), precision=precision).is_trained_


@pytest.mark.parametrize("name", ["accumulate", "steps"])
def test_counts_of_nothing_are_refused(name) -> None:
    with pytest.raises(OptionError, match=f"{name} is 0"):
        TrainingOptions(**{name: 0})


def test_no_epochs_are_refused(small) -> None:
    with pytest.raises(OptionError, match="max_epochs is 0"):
        train(make(small), max_epochs=0)


def test_training_again_trains_further(small, tmp_path) -> None:
    model = train(make(small))
    first = {name: weight.clone() for name, weight in model.module.state_dict().items()}
    start = {}
    remember = BeforeStep(0, lambda: start.update({k: v.clone() for k, v in model.module.state_dict().items()}))
    train(model, checkpoint_dir=tmp_path, callbacks=[remember])
    assert all(torch.equal(start[name], weight) for name, weight in first.items())
    assert model.history["train_loss"].index.tolist() == [0, 1, 2, 3]
    assert model.history["train_loss_step"].index.tolist() == list(range(12))
    # a checkpoint of the second training is none of a first
    with pytest.raises(tp.errors.CheckpointError, match="epochs of earlier trainings was 2 and is 0"):
        train(make(small), resume=tmp_path)


# --- random numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [draw_uniform, draw_normal])
def test_a_set_meets_the_same_numbers_wherever_it_is(draw) -> None:
    like = torch.zeros((), dtype=torch.bfloat16)
    whole = draw((6, 3), torch.Generator().manual_seed(1), like)
    assert whole.dtype == torch.float32
    for rows in ([0, 5], [2], [4, 3, 1]):
        source = SetDraws(torch.Generator().manual_seed(1), 6, torch.tensor(rows))
        assert torch.equal(draw((len(rows), 3), source, like), whole[rows])


def test_the_large_preset_builds_for_an_atlas() -> None:
    options = ScaleOptions.preset("large")
    with torch.device("meta"):  # shapes without memory
        network = TransportNetwork(NetworkSizes(2000, 2000, 3300, (51,), 10), options.network)
    assert 2e8 < sum(parameter.numel() for parameter in network.parameters()) < 5e8
    assert options.network.encoder.checkpoint and options.network.flow.checkpoint
    base = ScaleOptions.preset("base").training
    assert options.training.sets_per_batch * options.training.accumulate == base.sets_per_batch


def test_checkpointing_in_the_large_preset_changes_no_step(small) -> None:
    network = ScaleOptions.preset("large").network

    def losses(checkpoint: bool) -> list[float]:
        narrow = {"n_heads": 4, "n_key_heads": 1, "checkpoint": checkpoint}
        parts = {
            "encoder": dataclasses.replace(network.encoder, width=16, depth=2, n_tokens=4, **narrow),
            "flow": dataclasses.replace(network.flow, depth=2, **narrow),
        }
        return train(make(small, network=parts)).history["train_loss_step"].to_numpy().ravel().tolist()

    assert losses(True) == losses(False)
