"""What baselines in closed form share: each is a rule over the table of measured effects, in a file of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, override

import numpy as np

from transpert._docstrings import fill_docstring
from transpert.conditions import Condition, Embedding
from transpert.transport import (
    Anchor,
    AnchorOptions,
    Evidence,
    GroupEffects,
    GroupStatistics,
    fit_anchor,
)
from transpert.transport.anchor_state import anchor_from_state, anchor_to_state
from transpert.transport.fitting import measured_anchor

from ..base import PerturbationModel
from ..cells.in_memory import Cells
from ..cells.open import Data
from ..embeddings import (
    EmbeddingLike,
    check_perturbations,
    embedding_arrays,
    embedding_from_arrays,
    resolve_embedding,
)
from ..evidence import aligned_evidence
from ..prediction.assemble import SetPrediction
from ..prediction.requests import Request, check_readout

Readout = Literal["counts", "expected", "added"]


@fill_docstring
class ClosedFormModel(PerturbationModel):
    """A baseline whose prediction is the mean of a population.

    Parameters
    ----------
    %(registered_data)s
    readout
        What makes cells of the mean; see :meth:`predict`.
    embeddings
        Embeddings of the perturbations. Models that do not predict from them take them to know which perturbations
        exist: one with a vector may be asked for though it was not measured.
    """

    def __init__(
        self,
        adata: Data | None = None,
        registry: dict[str, Any] | None = None,
        *,
        readout: Readout | None = None,
        embeddings: EmbeddingLike = None,
    ) -> None:
        super().__init__(adata, registry)
        self.embedding: Embedding | None = resolve_embedding(embeddings, self._cells, self.source)
        if self.embedding is not None:
            self.embedding.require(self.vocabulary.parts, where=f"embeddings, {self.embedding.source}")
        if readout is not None:
            check_readout(readout)
            self._default_readout = readout
        self.anchor: Anchor | None = None
        self.evidence: tuple[Evidence, ...] = ()
        self.init_params_ = self._get_init_params(locals())

    @property
    @abstractmethod
    def _anchor_options(self) -> AnchorOptions:
        """How effects are measured and combined."""

    @override
    def _options(self) -> dict[str, Any]:
        return {"readout": self._default_readout}

    @override
    def _fit(self, effects: GroupEffects) -> None:
        self.anchor = fit_anchor(
            effects,
            self._anchor_options,
            np.asarray(self._dispersion),
            embedding=self.embedding,
            evidence=aligned_evidence(self.evidence, self.genes),
        )

    @override
    def _predict_set(self, control: Cells, request: Request, *, seed: int, each_cell: bool = True) -> SetPrediction:
        statistics = control.as_one_group()
        return SetPrediction(self._mean(request.condition, request.context, statistics))

    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        """Predict the mean log1p of one population, ``(G,)``."""
        return self._fitted.predict(condition, context, control).mean_log

    @property
    def _fitted(self) -> Anchor:
        self._check_trained()
        assert self.anchor is not None
        return self.anchor

    @override
    def _check_requests(self, requests: Sequence[Request]) -> None:
        also_known = () if self.anchor is None else self.anchor.known_from_evidence()
        check_perturbations(requests, self.vocabulary, self.embedding, also_known)

    @override
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        plain, arrays = anchor_to_state(self._fitted)
        more, vectors = embedding_arrays(self.embedding)
        return {**plain, **more}, {**arrays, **vectors}

    @override
    def _restore(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.embedding = embedding_from_arrays(plain, arrays)
        self.anchor = anchor_from_state(plain, arrays, self.embedding)


class Rule(ClosedFormModel):
    """A baseline that is a rule over the table of measured effects, of which nothing is to be fitted."""

    @override
    def _fit(self, effects: GroupEffects) -> None:
        self.anchor = measured_anchor(effects, self._anchor_options, np.asarray(self._dispersion))


class ShiftRule(Rule):
    """A baseline that adds a shift of log1p values, which a rule makes of the table of measured effects."""

    _default_readout = "added"

    @property
    @override
    def _anchor_options(self) -> AnchorOptions:
        return AnchorOptions(kind="mean", spaces=("log1p",), shrinkage=0.0)

    @override
    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        before = control.mean_log[0]
        return np.maximum(before + self._shift(condition, context, before), 0)

    @property
    def _shifts(self) -> np.ndarray:
        """The measured shifts, a row for each row of the table of effects."""
        return self._fitted.effects["log1p"]

    @abstractmethod
    def _shift(self, condition: Condition, context: str, before: np.ndarray) -> np.ndarray:
        """Return the shift of one population, ``(G,)``, whose controls have the mean ``before``."""


def rows_of(anchor: Anchor, condition: Condition, *, context: str | None = None) -> np.ndarray:
    """Measured effects of a condition: at its own dose if measured, in its own context if asked and measured."""
    rows = anchor.table.of_action(condition)
    if not rows.any():
        return np.ones(len(rows), dtype=bool)
    exact = rows & anchor.table.of_condition(condition)
    rows = exact if exact.any() else rows
    own = rows & anchor.table.of_context(context) if context is not None else np.zeros_like(rows)
    return own if own.any() else rows
