"""What goes into the network and what comes out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


def _map_tensors[T](batch: T, change: Callable[[Any], Any]) -> T:
    """Apply a function to every field of a batch that is there."""
    values = [getattr(batch, spec.name) for spec in dataclasses.fields(batch)]  # type: ignore[arg-type]
    return type(batch)(*(None if value is None else change(value) for value in values))


@dataclass(frozen=True, slots=True)
class NetworkSizes:
    """Sizes that the data gives to the network.

    Parameters
    ----------
    n_inputs
        Genes, or dimensions of the embedding that serves as state space.
    n_genes
        Genes that are decoded.
    n_perturbations
        Rows of the perturbation table; row 0 means no perturbation.
    n_contexts
        For each context column its values, with 0 for unknown.
    n_batches
        Batches, with 0 for unknown.
    table_blocks
        Widths of the tables that were put side by side in the table of perturbations; empty for one table.
    n_directions
        Directions of perturbations, without the unknown one; 0 where none is recorded.
    """

    n_inputs: int
    n_genes: int
    n_perturbations: int
    n_contexts: tuple[int, ...] = ()
    n_batches: int = 1
    table_blocks: tuple[int, ...] = ()
    n_directions: int = 0


@dataclass(frozen=True, slots=True)
class ConditionBatch:
    """The conditions of a batch of ``S`` sets.

    Parameters
    ----------
    perturbation : (S, P)
        Row of the perturbation table for each part; 0 where there is none. Controls have none at all.
    dose : (S, P)
        Where the dose of each part lies between those of the data, from 0 to 1; 0 where none is given.
    has_dose : (S, P)
        Whether it is.
    time : (S,)
        ``log1p`` of the time; 0 where none is given.
    context : (S, K)
        Value of each context column; 0 for unknown.
    batch : (S,)
        Batch; 0 for unknown.
    has_time : (S,)
        Whether a time is given; ``None`` takes ``time`` as it is, 0 included.
    direction : (S, P)
        Direction of each part; 0 for unknown. ``None`` where none is recorded.
    """

    perturbation: Tensor
    dose: Tensor
    has_dose: Tensor
    time: Tensor
    context: Tensor
    batch: Tensor
    has_time: Tensor | None = None
    direction: Tensor | None = None

    def to(self, device: torch.device | str) -> Self:
        """Move all tensors to a device."""
        return _map_tensors(self, lambda value: value.to(device))

    def __getitem__(self, sets: Tensor) -> Self:
        return _map_tensors(self, lambda value: value[sets])

    @property
    def is_control(self) -> Tensor:
        """Which sets have no perturbation, ``(S,)``."""
        return (self.perturbation == 0).all(dim=1)


@dataclass(frozen=True, slots=True)
class SetBatch:
    """Sets of control and perturbed cells.

    Parameters
    ----------
    x0, x1 : (S, N, G)
        Control and perturbed cells, log1p counts per 10k.
    condition
        What was done.
    state0, state1 : (S, N, D)
        The same cells in the embedding that serves as state space; ``None`` if the genes do.
    """

    x0: Tensor
    x1: Tensor
    condition: ConditionBatch
    state0: Tensor | None = None
    state1: Tensor | None = None

    def columns(self, start: int, stop: int) -> Self:
        """Return some columns of the cells."""
        return dataclasses.replace(self, x0=self.x0[..., start:stop], x1=self.x1[..., start:stop])

    def __getitem__(self, sets: Tensor) -> Self:
        return _map_tensors(self, lambda value: value[sets])


@dataclass(frozen=True, slots=True)
class Transported:
    """Control cells and where the flow takes them.

    Parameters
    ----------
    z0, z1 : (S, N, d)
        Latent states before and after.
    x0_hat, x1_hat : (S, N, G)
        The same, decoded to log1p counts per 10k.
    """

    z0: Tensor
    z1: Tensor
    x0_hat: Tensor
    x1_hat: Tensor
