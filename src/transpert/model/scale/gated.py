"""Anchor and networks together: how much each counts, from what both say of groups that they have not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import batched
from typing import override

import numpy as np
import pandas as pd

from transpert.errors import OptionError
from transpert.transport import (
    Anchor,
    Evidence,
    GroupStatistics,
    Novelty,
    predict_as_new,
)
from transpert.transport.exported_network import ExportedNetwork
from transpert.transport.weighing import FittedWeight

from ..cells.in_memory import Cells
from ..embeddings import (
    check_perturbations,
)
from ..prediction.assemble import SetPrediction
from ..prediction.requests import Request
from ..uncertainty.estimates import UncertaintyEstimates
from .gate import fit_gate, gate_applies_to, gate_table, nothing_to_learn, require_trained
from .held_out_anchor import LeftOutGroups, LeftOutShifts
from .held_out_networks import left_out_networks
from .networks import PREDICTS, NetworkModel
from .plain_network import plain_network
from .training.progress import Report

_ASKED_AT_ONCE = 64  # conditions whose shifts are held at a time


class GatedModel(NetworkModel):
    """A model with an anchor and networks, and a gate between them."""

    anchor: Anchor | None
    evidence: tuple[Evidence, ...]
    gate: float
    gate_table: pd.DataFrame | None
    gate_evidence: FittedWeight | None
    left_out_level: str
    asked_kind: str | None

    def _why_no_networks(self, left: LeftOutGroups, anchored: LeftOutShifts) -> str:
        """Return why networks would not count beside the anchor, so that none needs to be trained."""
        joining = self.options.joining
        is_fitted = self.anchor is not None and joining.kind == "stack" and joining.folds > 1 and joining.gate is None
        insists = joining.train_networks == "always" or bool(self.completed_history)
        if not is_fitted or insists or not left.folds.any:
            return ""
        return nothing_to_learn(left.effects[anchored.rows], anchored.shifts, left.deciding(anchored), left.level)

    def _fit_gate(self, left: LeftOutGroups, anchored: LeftOutShifts, report: Report) -> None:
        """Weigh networks and anchor by what both say about groups that they have not seen."""
        fold = left.folds.test_fold
        anchored = anchored.only(fold[anchored.rows] >= 0) if left.folds.any else anchored
        joining, shifts = self.options.joining, anchored.shifts
        unseen = None
        if joining.folds > 1 and left.folds.any and not self.without_networks:
            unseen = left_out_networks(
                self._networks,
                self.cells,
                self.design,
                left,
                anchored,
                moved=joining.kind == "residual",
                seed=self.seed,
                report=report,
            )
        if joining.gate is not None:
            self.gate = joining.gate
        elif self.options.anchor is None or unseen is None:
            self.gate = 1.0 if self.options.anchor is None else 0.0
        else:
            asked = left.effects[anchored.rows]
            self.gate_evidence = fit_gate(asked, shifts, unseen, left.deciding(anchored), left.level)
            self.gate = self.gate_evidence.weight
            self.gate_table = gate_table(asked, shifts, unseen, self.gate)
        report("Learning how sure predictions are from left-out groups")
        joined = shifts if self.gate == 0 else None
        if unseen is not None:
            joined = (1 - self.gate) * shifts + self.gate * unseen
        anchor = self.anchor

        def predict(novelty: Novelty, rows: np.ndarray) -> np.ndarray | None:
            if novelty == left.level and joined is not None:
                return joined[np.searchsorted(anchored.rows, rows)]
            # in other situations the network was not tried; the anchor errs at least as much as both together
            return None if anchor is None else predict_as_new(anchor, left.effects, novelty, rows)

        self.uncertainty = UncertaintyEstimates.fit(left.effects, predict, among=anchored.rows)

    @override
    def _check_requests(self, requests: Sequence[Request]) -> None:
        also_known = () if self.anchor is None else self.anchor.known_from_evidence()
        check_perturbations(requests, self.vocabulary, self.embedding, also_known)
        if self.anchor is None or self.options.joining.gate is not None:  # one gate holds for every request
            for request in requests:
                require_trained(request, self.gate, self.embedding, self.uncertainty)

    @override
    def _predict_set(self, control: Cells, request: Request, *, seed: int, each_cell: bool = True) -> SetPrediction:
        statistics = control.as_one_group()
        before = statistics.mean_log[0]
        if request.condition.is_control:
            return SetPrediction(before)
        shift = self._shift_beside(request, statistics)
        gate = self._gate_of(request)
        if gate == 0:
            return SetPrediction(np.maximum(before + shift, 0), latent=self._latent_of(control))
        start = shift if self.options.joining.kind == "residual" else None
        network, pattern, latent = self._networks.shift(control, request, start, seed=seed, each_cell=each_cell)
        joined = (1 - gate) * shift + gate * self._networks.among_all(network, shift)
        # a network that counts little also has little to say about which cells move most
        blended = None if pattern is None else (1 - gate) * joined + gate * self._networks.among_all(pattern, joined)
        return SetPrediction(np.maximum(before + joined, 0), blended, latent)

    @override
    def _predict_means(self, control: Cells, requests: Sequence[Request], *, seed: int) -> Iterator[np.ndarray]:
        # residual networks start where the anchor moves the cells, each elsewhere
        if self.options.joining.kind == "residual":
            yield from super()._predict_means(control, requests, seed=seed)
            return
        statistics = control.as_one_group()
        before = statistics.mean_log[0]
        for some in batched(requests, _ASKED_AT_ONCE):
            gates = [0.0 if request.condition.is_control else self._gate_of(request) for request in some]
            asked = [request for request, gate in zip(some, gates, strict=True) if gate]
            networks = iter(self._networks.mean_shifts(control, asked, seed=seed) if asked else ())
            for request, gate in zip(some, gates, strict=True):
                shift = self._shift_beside(request, statistics)
                if gate:
                    shift = (1 - gate) * shift + gate * self._networks.among_all(next(networks), shift)
                yield np.maximum(before + shift, 0)

    @override
    def _plain_network(
        self, requests: Sequence[Request], controls: Sequence[GroupStatistics]
    ) -> tuple[ExportedNetwork, list[np.ndarray]] | None:
        gates = [0.0 if request.condition.is_control else self._gate_of(request) for request in requests]
        opened = [request for request, gate in zip(requests, gates, strict=True) if gate]
        if not opened:
            return None
        if self.source.embedding_key is not None:
            raise OptionError(
                f"the networks of this model read obsm[{self.source.embedding_key!r}], which plain counts do not give",
                where="export",
                remedy="Save the model instead: model.save(...).",
            )
        # populations for which networks do not count have no condition that they know
        asked = [request if gate else opened[0] for request, gate in zip(requests, gates, strict=True)]
        network = plain_network(
            self.module.networks[PREDICTS],
            self._networks.encoded_conditions(asked),
            gates,
            set_size=self._networks.set_size,
            starts_moved=self.options.joining.kind == "residual",
            components=self.components[PREDICTS] if self.components else None,
            selection=self.selection,
        )
        return network, [self._shift_beside(*each) for each in zip(requests, controls, strict=True)]

    def _shift_beside(self, request: Request, statistics: GroupStatistics) -> np.ndarray:
        """Shift of the mean log1p that networks are joined with, ``(G,)``."""
        before = statistics.mean_log[0]
        if self.anchor is None or request.condition.is_control:
            return np.zeros_like(before)
        return self.anchor.predict(request.condition, request.context, statistics).mean_log - before

    def _gate_of(self, request: Request) -> float:
        """The weight of the networks for a request: none where the gate that was fitted says nothing about it."""
        if self.anchor is None or self.options.joining.gate is not None:
            return self.gate
        return self.gate if gate_applies_to(self.anchor, request, self.embedding, self.left_out_level) else 0.0
