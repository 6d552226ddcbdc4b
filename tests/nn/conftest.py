"""Small networks, conditions and cells for the tests of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from transpert.nn import (
    ConditionBatch,
    EncoderOptions,
    FlowOptions,
    NetworkOptions,
    NetworkSizes,
    TransportNetwork,
)

N_GENES = 10


def _conditions(perturbation, *, dose=None, time=None, has_time=None, context=1) -> ConditionBatch:
    parts = torch.as_tensor(perturbation)
    n = len(parts)
    doses = torch.zeros(parts.shape) if dose is None else torch.as_tensor(dose, dtype=torch.float32)
    given = torch.full(parts.shape, dose is not None) & (parts > 0)
    times = torch.zeros(n) if time is None else torch.as_tensor(time, dtype=torch.float32)
    codes = torch.as_tensor(context).expand(n)[:, None].clone()
    return ConditionBatch(parts, doses, given, times, codes, torch.ones(n, dtype=torch.long), has_time)


def _network(*, kind="mlp", seed=0, table=None, encoder=None, flow=None, restless=True, **parts) -> TransportNetwork:
    torch.manual_seed(seed)
    options = NetworkOptions(
        EncoderOptions(kind, width=16, depth=2, n_tokens=4, n_heads=2, n_key_heads=1, **(encoder or {})),
        flow=FlowOptions(**{"depth": 2, "n_heads": 2, "n_key_heads": 1, **(flow or {})}),
        **parts,
    )
    network = TransportNetwork(NetworkSizes(N_GENES, N_GENES, 4, (3,), 2), options, table)
    if restless:  # an untrained flow hardly moves a cell and is hardly modulated; make both visible
        torch.nn.init.normal_(network.field.out.weight, std=0.3)
        for block in network.field.blocks:
            torch.nn.init.normal_(block.modulation.weight, std=0.1)
    return network.eval()


def _cells(n_sets=3, n_cells=12, *, seed=0) -> torch.Tensor:
    return torch.rand(n_sets, n_cells, N_GENES, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.fixture
def conditions() -> Callable[..., ConditionBatch]:
    return _conditions


@pytest.fixture
def make_network() -> Callable[..., TransportNetwork]:
    return _network


@pytest.fixture
def make_cells() -> Callable[..., torch.Tensor]:
    return _cells


@pytest.fixture
def in_context() -> Callable[[ConditionBatch, int], ConditionBatch]:
    def change(condition: ConditionBatch, context: int) -> ConditionBatch:
        return dataclasses.replace(condition, context=torch.full_like(condition.context, context))

    return change
