"""Options, decoder, checkpointing, and gradients that reach everything."""

from __future__ import annotations

import pytest
import torch

from transpert.errors import OptionError
from transpert.nn import (
    ConditionOptions,
    DecoderOptions,
    EncoderOptions,
    FlowOptions,
    LossOptions,
    NetworkOptions,
    SetBatch,
    SetOptions,
)

FULL = NetworkOptions(
    EncoderOptions("mlp", width=32, n_heads=4, input_scale=10.0, checkpoint=True),
    SetOptions("mean", 3),
    ConditionOptions("cross", 0.1, "saturating"),
    FlowOptions(depth=2, coupling="index", predict="v", loss="v", conversion="z0", prior="gaussian"),
    LossOptions(stop_gradient=False),
    DecoderOptions(4, 2),
)


@pytest.mark.parametrize(
    ("part", "name", "value", "named"),
    [
        (EncoderOptions, "kind", "gpt", "'llama', 'mlp'"),
        (EncoderOptions, "width", 1.5, "whole number"),
        (EncoderOptions, "depth", True, "whole number"),
        (EncoderOptions, "input_scale", 0.0, "at least"),
        (EncoderOptions, "checkpoint", "no", "True, False"),
        (SetOptions, "pooling", "max", "'attention', 'mean'"),
        (SetOptions, "hidden", 0, "whole number"),
        (ConditionOptions, "conditioning", "film", "'seed', 'cross'"),
        (ConditionOptions, "dose", "hill", "'features', 'saturating'"),
        (ConditionOptions, "unknown_rate", 2, "from 0 to 1"),
        (FlowOptions, "coupling", "random", "'ot', 'index'"),
        (FlowOptions, "predict", "eps", "'x', 'v'"),
        (FlowOptions, "loss", "eps", "'x', 'v'"),
        (FlowOptions, "conversion", "zt", "'jit', 'z0'"),
        (FlowOptions, "prior", "uniform", "'control', 'gaussian'"),
        (FlowOptions, "steps", 0, "whole number"),
        (LossOptions, "endpoint", -1.0, "at least 0"),
        (LossOptions, "set_level", float("nan"), "number of at least 0"),
        (LossOptions, "mean_shift", float("inf"), "number of at least 0"),
        (DecoderOptions, "depth", -1, "whole number"),
    ],
)
def test_nonsense_is_refused_with_what_would_do(part, name, value, named) -> None:
    with pytest.raises(OptionError) as error:
        part(**{name: value})
    assert f"{name} is {value!r}" in str(error.value)
    assert named in str(error.value)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(OptionError, match="do not divide"):
        EncoderOptions(width=30)
    with pytest.raises(OptionError, match="FlowOptions"):
        NetworkOptions(EncoderOptions(width=32), flow=FlowOptions(n_heads=5, n_key_heads=5))


@pytest.mark.parametrize("kind", ["mlp", "llama"])
@pytest.mark.parametrize("conditioning", ["seed", "cross"])
def test_checkpointing_changes_memory_and_nothing_else(
    kind, conditioning, make_network, make_cells, conditions
) -> None:
    gradients = []
    for checkpointed in (False, True):
        network = make_network(
            kind=kind,
            encoder={"checkpoint": checkpointed},
            flow={"checkpoint": checkpointed},
            conditions=ConditionOptions(conditioning=conditioning),
        ).train()
        batch = SetBatch(make_cells(), make_cells(seed=1), conditions([[1, 2]] * 3))
        network.losses(batch, generator=torch.Generator().manual_seed(0))["total"].backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "llama"])
@pytest.mark.parametrize("conditioning", ["seed", "cross"])
@pytest.mark.parametrize("pooling", ["attention", "mean"])
@pytest.mark.parametrize("table", [True, False], ids=["given", "learned"])
def test_gradients_that_are_not_zero_reach_every_parameter(
    kind, conditioning, pooling, table, make_network, make_cells, conditions
) -> None:
    network = make_network(
        kind=kind,
        table=torch.randn(4, 5) if table else None,
        conditions=ConditionOptions(conditioning=conditioning, unknown_rate=0.0, dose="saturating"),
        sets=SetOptions(pooling=pooling),
    ).train()
    condition = conditions([[1, 2]] * 3, dose=[[0.5, 1.0]] * 3, time=[0.2, 0.5, 1.0])
    network.losses(SetBatch(make_cells(), make_cells(seed=1), condition))["total"].backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # a shift of all scores leaves a softmax as it is
    assert set(silent) <= {"cells.pool.bias", "sets.score.bias"}


def test_an_untrained_network_starts_near_identity(make_network, make_cells, conditions) -> None:
    out = make_network(restless=False).transport(make_cells(), conditions([[1, 2]] * 3))
    assert (out.z1 - out.z0).abs().max() < 0.05 * out.z0.std()


def test_standardised_cells_are_the_decoded_ones(make_network) -> None:
    network = make_network()
    network.set_statistics((torch.zeros(10), torch.ones(10)), (torch.rand(10), torch.rand(10) + 0.1))
    latent = torch.randn(5, 16)
    expected = (network.decode(latent) - network.gene_mean) / network.gene_scale
    torch.testing.assert_close(network.decoder.standardised(latent), expected, atol=1e-5, rtol=1e-5)
