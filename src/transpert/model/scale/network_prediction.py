"""What a network says about one population: its cells in sets, several sets at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from transpert.nn import ConditionBatch, GeneComponents, TransportNetwork
from transpert.transport.exported_network import random_sets

# cells that go through a network at a time
_CELLS_AT_ONCE = 2048


@torch.no_grad()
def encode_cells(network: TransportNetwork, states: np.ndarray, components: GeneComponents | None = None) -> Tensor:
    """Return what a network makes of every cell ``(N, D)`` on its own, ``(N, d)``, for any number of conditions."""
    device = network.gene_mean.device
    parts = (part.to(device) for part in torch.from_numpy(states).split(_CELLS_AT_ONCE))
    read = parts if components is None else map(components, parts)
    return torch.cat([network.encode_cells(part) for part in read])


@torch.no_grad()
def transport_population(
    network: TransportNetwork,
    encoded: Tensor,
    condition: ConditionBatch,
    *,
    set_size: int,
    seed: int,
    each_cell: bool = True,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Move a population, in sets as in training."""
    latent = torch.zeros(encoded.shape)
    shift = torch.zeros(len(encoded), network.sizes.n_genes) if each_cell else None
    total = np.zeros(network.sizes.n_genes)
    generator = torch.Generator(device=encoded.device).manual_seed(seed)
    for rows in random_sets(len(encoded), set_size, seed):
        chosen = torch.from_numpy(rows)
        sets = condition[torch.zeros(len(rows), dtype=torch.long, device=encoded.device)]
        cells = encoded[chosen.to(encoded.device)]
        moved, ends = network.shift(cells, sets, each_cell=each_cell, generator=generator)
        chosen = chosen.flatten()
        latent[chosen] = ends.flatten(0, 1).cpu().float()
        if shift is not None:
            shift[chosen] = moved.flatten(0, 1).cpu().float()
        else:
            total += len(chosen) * moved.cpu().double().numpy()
    if shift is None:
        return total / len(encoded), None, latent.numpy()
    return shift.numpy().mean(axis=0, dtype=np.float64), shift.numpy(), latent.numpy()


@torch.no_grad()
def mean_shifts(
    network: TransportNetwork, encoded: Tensor, conditions: ConditionBatch, *, set_size: int, seed: int
) -> np.ndarray:
    """Return the mean shift of a population under each of ``K`` conditions, ``(K, G)``, each as if asked alone."""
    total = torch.zeros(len(conditions.batch), network.sizes.n_genes, dtype=torch.float64)
    at_once = max(_CELLS_AT_ONCE // len(encoded), 1)
    for some in torch.arange(len(total)).split(at_once):
        asked = conditions[some.to(encoded.device)]
        generator = torch.Generator(device=encoded.device).manual_seed(seed)
        for rows in random_sets(len(encoded), set_size, seed):
            cells = encoded[torch.from_numpy(rows).to(encoded.device)]
            total[some] += rows.size * network.mean_shifts(cells, asked, generator=generator).cpu().double()
    return total.numpy() / len(encoded)


@torch.no_grad()
def encode_population(network: TransportNetwork, cells: Tensor, *, set_size: int, seed: int) -> np.ndarray:
    """Return the latent states ``(N, d)`` of encoded cells ``(N, d)``, in random sets of about ``set_size``."""
    latent = torch.zeros(cells.shape)
    for rows in random_sets(len(cells), set_size, seed):
        chosen = torch.from_numpy(rows)
        latent[chosen.flatten()] = network.sets(cells[chosen.to(cells.device)]).flatten(0, 1).cpu().float()
    return latent.numpy()
