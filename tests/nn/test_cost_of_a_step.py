"""What makes a step cheap changes nothing else: whole graphs, attention of a CPU, cells that are standardised once."""

from __future__ import annotations

import pytest
import torch

from transpert.nn import SetBatch
from transpert.nn.blocks import _attend, _attend_on_cpu


def test_what_is_compiled_is_one_graph_each(make_network, make_cells, conditions) -> None:
    network = make_network()
    torch._dynamo.reset()
    cells = torch.compile(network.cells, backend="eager", fullgraph=True)(make_cells())
    states = torch.compile(network.sets, backend="eager", fullgraph=True)(cells)
    encoded = network.conditions(conditions([[1]] * 3))
    moved = torch.compile(network.field, backend="eager", fullgraph=True)(torch.zeros(3), states, encoded)
    decoded = torch.compile(network.decoder, backend="eager", fullgraph=True)(moved, torch.zeros(10), torch.ones(10))
    assert decoded.shape == (3, 12, 10)


@pytest.mark.parametrize(("n_heads", "n_keys"), [(4, 1), (4, 2), (4, 4)])
def test_attention_is_the_same_on_every_device(n_heads, n_keys) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 7, n_heads, 5, generator=generator, requires_grad=True)
    key, value = (torch.randn(3, 6, n_keys, 5, generator=generator, requires_grad=True) for _ in range(2))
    ours, fused = _attend_on_cpu(query, key, value), _attend(query, key, value)
    torch.testing.assert_close(ours, fused)
    found, expected = (torch.autograd.grad(x.square().sum(), (query, key, value)) for x in (ours, fused))
    torch.testing.assert_close(found, expected)


def test_cells_are_encoded_as_they_are_compared_where_genes_are_read(make_network, make_cells, conditions) -> None:
    batch = SetBatch(make_cells(), make_cells(seed=1), conditions([[1]] * 3))
    genes = batch.x0.mean(dim=(0, 1)), batch.x0.std(dim=(0, 1))
    network = make_network()
    network.set_statistics(genes, genes)
    assert network.reads_standardised
    once = network.losses(batch, generator=torch.Generator().manual_seed(0))
    network.reads_standardised = False
    torch.testing.assert_close(once, network.losses(batch, generator=torch.Generator().manual_seed(0)))
    network.set_statistics((genes[0], 2 * genes[1]), genes)
    assert not network.reads_standardised
