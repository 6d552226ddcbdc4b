"""What the networks of a model say of cells, of the genes that they read and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from transpert.data import CellSource
from transpert.groups import Groups
from transpert.nn import ConditionBatch, GeneComponents

from ..cells.in_memory import Cells
from ..cells.open import ChosenGenes
from ..prediction.requests import Request
from .components import in_components
from .condition_codes import ConditionTable
from .gene_selection import GeneSelection
from .module import TransportModule
from .network_prediction import encode_cells, encode_population, mean_shifts, transport_population
from .training.products import fast_products

PREDICTS = -1  # the last of the networks, which was trained on all groups


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetworks:
    """Networks, the components or genes that they read and write (all genes without), and the conditions they know."""

    module: TransportModule
    table: ConditionTable
    components: Sequence[GeneComponents]
    selection: GeneSelection | None
    set_size: int

    @fast_products()
    def shift(
        self,
        control: Cells,
        request: Request,
        start: np.ndarray | None,
        *,
        number: int = PREDICTS,
        seed: int,
        each_cell: bool = True,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return the mean shift, the shift of every cell, and latent endpoints ``(N, d)``, by one network."""
        self.module.eval()
        mean, shift, latent = transport_population(
            self.module.networks[number],
            self._encoded(control, number, start),
            self.encoded_conditions([request]),
            set_size=self.set_size,
            seed=seed,
            each_cell=each_cell,
        )
        mean = self._to_genes(mean, number).astype(np.float64, copy=False)
        shift = None if shift is None else self._to_genes(shift, number)
        if start is not None:
            mean = mean + self.selected(start)
        return mean, shift, latent

    @fast_products()
    def mean_shifts(self, control: Cells, requests: Sequence[Request], *, seed: int) -> np.ndarray:
        """Return the mean shift of the same control cells for each of several requests."""
        self.module.eval()
        means = mean_shifts(
            self.module.networks[PREDICTS],
            self._encoded(control, PREDICTS),
            self.encoded_conditions(requests),
            set_size=self.set_size,
            seed=seed,
        )
        return self._to_genes(means, PREDICTS).astype(np.float64, copy=False)

    def latent(self, cells: Cells, *, seed: int) -> np.ndarray:
        """Return the latent states of cells as they are, ``(N, d)``."""
        self.module.eval()
        network, encoded = self.module.networks[PREDICTS], self._encoded(cells, PREDICTS)
        return encode_population(network, encoded, set_size=self.set_size, seed=seed)

    def encoded_conditions(self, requests: Sequence[Request]) -> ConditionBatch:
        """Return the conditions that are requested as the networks read them."""
        conditions, contexts = zip(*((request.condition, request.context_values) for request in requests), strict=True)
        device = next(self.module.parameters()).device
        return self.table.encode(conditions, contexts, [None] * len(requests)).to(device)

    def as_read(self, source: CellSource, groups: Groups) -> CellSource:
        """Return the training cells as networks read them."""
        if self.components:
            return in_components(source, groups, self.components)
        return source if self.selection is None else ChosenGenes(source, self.selection.positions)

    def selected(self, values: np.ndarray) -> np.ndarray:
        """Return the genes that networks read, of values of all."""
        return values if self.selection is None else self.selection.of(values)

    def among_all(self, values: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return what networks say of the genes they write, among what is said of the others."""
        return values if self.selection is None else self.selection.put_back(values, others)

    def _to_genes(self, values: np.ndarray, number: int) -> np.ndarray:
        """Return shifts of the components as shifts of genes."""
        if not self.components:
            return values
        device = next(self.module.parameters()).device
        components = self.components[number].to(device)
        return components.to_genes(torch.from_numpy(values).float().to(device)).cpu().numpy()

    def _encoded(self, cells: Cells, number: int, start: np.ndarray | None = None) -> torch.Tensor:
        """Return what a network makes of every cell, kept with the cells where the anchor does not move them first."""
        network = self.module.networks[number]
        if self.components:
            components = self.components[number].to(network.gene_mean.device)
            return cells.cached(f"encoded by {number}", lambda: encode_cells(network, cells.log1p(), components))
        if start is not None:
            return encode_cells(network, self.selected(np.maximum(cells.log1p() + start.astype(np.float32), 0)))
        embedding = cells.embedding
        return cells.cached(
            f"encoded by {number}",
            lambda: encode_cells(network, self.selected(cells.log1p()) if embedding is None else embedding),
        )
