"""The networks of SCALE: how they are made, and what they say of cells."""

from __future__ import annotations

import dataclasses
from typing import override

import numpy as np
import pandas as pd
import torch

from transpert import _keys
from transpert._seeds import ONE_AT_A_TIME
from transpert.conditions import Embedding
from transpert.errors import NotTrainedError, OptionError
from transpert.groups import Groups, make_groups
from transpert.nn import GeneComponents, NetworkSizes
from transpert.transport import GroupEffects

from ..base import PerturbationModel
from ..cells.in_memory import Cells
from ..cells.open import Data, StoredCells
from ..embeddings import (
    network_table,
)
from .components import fit_components, fit_to_cells, mean_and_scale
from .condition_codes import ConditionTable
from .folds import Folds, asked_kind, split_kind
from .gene_selection import GeneSelection
from .module import TransportModule
from .options import ScaleOptions, fit_to_device
from .trained_networks import PREDICTS, TrainedNetworks
from .training.size import fit_to_groups


class NetworkModel(PerturbationModel):
    """A model with networks that move sets of cells; what is made of their answers is said by who inherits."""

    module: TransportModule
    options: ScaleOptions
    embedding: Embedding | None
    seed: int
    _network_is_free: bool  # whether nobody said what the networks are like
    components: list[GeneComponents]
    selection: GeneSelection | None  # the genes that networks read and write; None for all
    completed_history: dict[str, pd.DataFrame]
    chosen_for: str  # what sizes were chosen by
    trained_on: str  # kind of device, and precision
    without_networks: str  # why no network was trained; empty where some were
    _table: ConditionTable | None

    def _build(self) -> None:
        """Fit the sizes that are left open to the training groups, and make the networks."""
        groups, _ = self._training_groups()
        training = fit_to_groups(self.options.training, groups)
        embedding, n_genes = self.cells.embedding, len(self.genes)
        n_cells, embedded = int((groups.codes >= 0).sum()), embedding is not None
        selected = self._n_selected
        # components would hold some genes back once more
        n_components = None if selected else fit_to_cells(self.options, n_cells, n_genes, embedded=embedded)
        network, device = self.options.network, "cuda" if torch.cuda.is_available() else "cpu"
        if self._network_is_free:
            network = fit_to_device(network, n_cells, device=device)
        n_groups = len(groups.perturbed_groups)
        wider = "" if network == self.options.network else " on a GPU"
        self.chosen_for = f"{n_cells:,} cells of {n_genes:,} genes in {n_groups:,} perturbed groups{wider}"
        self.options = dataclasses.replace(self.options, network=network, training=training, n_components=n_components)
        parts, names = self.vocabulary.parts, self.vocabulary.parts
        if self.embedding is not None:
            self.embedding.require(parts, where=f"embeddings, {self.embedding.source}")
            names = self.embedding.names
        self._table = ConditionTable.of(groups, names)
        self._make_module(n_components or selected or n_genes if embedding is None else embedding.shape[1])

    @property
    def _n_selected(self) -> int | None:
        """How many genes networks read and write; ``None`` for all."""
        wanted = self.source.n_top_genes
        return wanted if wanted is not None and wanted < len(self.genes) else None

    def _make_module(self, n_inputs: int) -> None:
        """Make the networks, with weights that depend on the seed alone."""
        table = self._conditions_table
        sizes = NetworkSizes(
            n_inputs,
            self.options.n_components or self._n_selected or len(self.genes),
            len(table.perturbations) + 1,
            tuple(len(values) + 1 for values in table.contexts.values()),
            len(table.batches) + 1,
            () if self.embedding is None else self.embedding.blocks,
            len(table.directions),
        )
        vectors = None if self.embedding is None else network_table(self.embedding, self.vocabulary.parts)
        with ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
            # weights are drawn on the CPU; torch.manual_seed would seed the GPUs too, which are not given back
            torch.default_generator.manual_seed(self.seed)
            self.module = TransportModule(
                sizes, self.options.network, n_networks=self.options.joining.n_networks, table=vectors
            )

    @property
    def _conditions_table(self) -> ConditionTable:
        assert self._table is not None
        return self._table

    def _set_statistics(self, effects: GroupEffects, groups: Groups, folds: Folds) -> None:
        """Give the networks mean and standard deviation of the training cells, and find their components."""
        n_components = self.options.n_components
        if n_components is not None:
            seen = folds.seen(len(self.module.networks))
            source = self.cells.source()
            self.components = fit_components(source, effects, groups, seen, n_components, seed=self.seed)
            # components are standardised already, all by the same factor
            genes = torch.zeros(n_components), torch.ones(n_components)
            for network, components in zip(self.module.networks, self.components, strict=True):
                network.set_statistics((genes[0], genes[1] * components.spread), genes)
            return
        genes = mean_and_scale(effects.statistics)
        if self._n_selected is not None:
            self.selection = GeneSelection.most_variable(effects.statistics, self._n_selected)
            genes = genes[0][self.selection.positions], genes[1][self.selection.positions]
        inputs = genes
        if self.cells.embedding is not None:
            used = self.cells.embedding[groups.codes >= 0]
            inputs = (torch.as_tensor(used.mean(axis=0)), torch.as_tensor(used.std(axis=0)))
        for network in self.module.networks:
            network.set_statistics(inputs, genes)

    def _what_is_asked(self) -> str | None:
        """Return what the populations to predict are new in, as far as the split and the cells tell."""
        noted = split_kind(self.adata, self.design.split_key)
        if noted is not None:
            return noted
        groups = make_groups(self.cells.obs, self.design, need_controls=False)
        trained = np.unique(groups.codes[self._training_mask(_keys.TRAIN, _keys.VALIDATION)])
        return asked_kind(groups, np.isin(np.arange(len(groups)), trained))

    @override
    def _other_cells(self, adata: Data, max_missing: float | None = None) -> Cells | StoredCells:
        cells = super()._other_cells(adata, max_missing)
        embedding = getattr(cells, "embedding", None)
        known = self.module.networks[PREDICTS].sizes.n_inputs
        if embedding is not None and embedding.shape[1] != known:
            raise OptionError(
                f"the embedding of the cells has {embedding.shape[1]} dimensions, the model was trained on {known}",
                where=f"obsm[{self.source.embedding_key!r}]",
                remedy="Embed these cells with the same model as the training cells.",
            )
        return cells

    @property
    def _networks(self) -> TrainedNetworks:
        """The networks with what they read and write."""
        set_size = self.options.training.set_size
        assert set_size is not None  # fitted to the groups where the options leave it open
        return TrainedNetworks(self.module, self._conditions_table, self.components, self.selection, set_size)

    @override
    def _latent_of(self, cells: Cells) -> np.ndarray | None:
        return None if self.without_networks else self._networks.latent(cells, seed=self.seed)

    def get_latent_representation(self, adata: Data | None = None) -> np.ndarray:
        """Return the latent state of every cell.

        Parameters
        ----------
        adata
            Other data with the same columns, with or without control cells; the data of the model by default.

        Returns
        -------
        ``(n_obs, d)`` float32. Cells are encoded in random sets of their own group, so that the state knows the
        population it belongs to.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained, or no network was, because none could count beside the anchor.
        """
        self._check_trained()
        if self.without_networks:
            raise NotTrainedError(
                f"this model has no trained network: {self.without_networks}",
                where="get_latent_representation",
                remedy='Make the model with joining="always" and train it.',
            )
        cells = self.cells if adata is None else self._other_cells(adata)
        design = dataclasses.replace(self.design, split_key=None)  # other cells have no split, and may be all perturbed
        codes = make_groups(cells.obs, design, need_controls=False).codes
        latent = np.zeros((len(cells), self.options.network.encoder.width), dtype=np.float32)
        for positions in pd.Series(codes).groupby(codes).indices.values():
            latent[positions] = self._latent_of(cells[np.asarray(positions)])
        return latent

    @property
    def n_parameters(self) -> int:
        """Parameters of one of the networks that are trained side by side."""
        return sum(p.numel() for p in self.module.networks[0].parameters())
