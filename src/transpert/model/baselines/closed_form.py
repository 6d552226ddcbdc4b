"""Baselines that predict a mean in closed form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, override

import numpy as np

from transpert._amounts import amount_gap
from transpert.conditions import Condition, Embedding
from transpert.transport import Anchor, AnchorOptions, GroupEffects, GroupStatistics, predict_as_new

from ..base import PerturbationModel
from ..cells.in_memory import Cells
from ..cells.open import Data
from ..embeddings import (
    EmbeddingLike,
    check_perturbations,
    embedding_arrays,
    embedding_from_arrays,
    resolve_embedding,
    warn_of_unused,
)
from ..prediction.assemble import SetPrediction
from ..prediction.requests import Request, check_readout
from ..uncertainty.estimates import UncertaintyEstimates

Readout = Literal["counts", "expected", "added"]


class ClosedFormModel(PerturbationModel):
    """A baseline whose prediction is the mean of a population.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
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
        self.anchor = Anchor.fit(effects, self._anchor_options, np.asarray(self._dispersion), embedding=self.embedding)

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
        check_perturbations(requests, self.vocabulary, self.embedding)

    @override
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        plain, arrays = self._fitted.to_state()
        more, vectors = embedding_arrays(self.embedding)
        return {**plain, **more}, {**arrays, **vectors}

    @override
    def _restore(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.embedding = embedding_from_arrays(plain, arrays)
        self.anchor = Anchor.from_state(plain, arrays, self.embedding)


class KernelTransport(ClosedFormModel):
    """The anchor of SCALE on its own: closed-form effects, count read-out.

    Main effects of the context and of the perturbation, the dependence of the effect on the control profile of the
    context (contexts whose controls are alike answer alike), doses and combinations, in two spaces that are stacked
    with weights from left-out groups; see :class:`transpert.transport.Anchor`.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
    anchor
        Options of the anchor.
    readout
        What makes cells of the mean; ``"counts"`` by default.
    embeddings
        A vector for every perturbation: an :class:`~transpert.conditions.Embedding`, a DataFrame, several of either,
        or ``"coexpression"`` to make one of the control cells. A perturbation that was never measured is then
        predicted from those with similar vectors; see :class:`transpert.transport.PerturbationRidge`.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.KernelTransport.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.KernelTransport(adata)
    >>> model.train()
    >>> model.predict(progress=False).layers["counts"].shape[1]
    20
    """

    _kind: ClassVar[Literal["kernel", "ridge"]] = "kernel"

    def __init__(
        self,
        adata: Data | None = None,
        registry: dict[str, Any] | None = None,
        *,
        anchor: AnchorOptions | None = None,
        readout: Readout | None = None,
        embeddings: EmbeddingLike = None,
    ) -> None:
        super().__init__(adata, registry, readout=readout, embeddings=embeddings)
        self._chosen = anchor or AnchorOptions(kind=self._kind)
        self.init_params_ = self._get_init_params(locals())

    @property
    @override
    def _anchor_options(self) -> AnchorOptions:
        return self._chosen

    @override
    def _fit(self, effects: GroupEffects) -> None:
        super()._fit(effects)
        assert self.anchor is not None
        anchor = self.anchor
        warn_of_unused(anchor, self.embedding)
        self.uncertainty = UncertaintyEstimates.fit(
            effects, lambda new, rows: predict_as_new(anchor, effects, new, rows)
        )

    @override
    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "anchor": self._chosen.to_dict()}

    @classmethod
    @override
    def _from_options(cls, adata, registry, options):
        anchor = AnchorOptions.from_dict(options["anchor"])
        return cls(adata, registry, anchor=anchor, readout=options["readout"])


class RidgeTransport(KernelTransport):
    """As :class:`KernelTransport`, but effects depend on the control profile of their context linearly.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
    anchor
        Options of the anchor.
    readout
        What makes cells of the mean; ``"counts"`` by default.
    embeddings
        As for :class:`KernelTransport`.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.RidgeTransport.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.RidgeTransport(adata)
    >>> model.train()
    >>> model.predict(progress=False).layers["counts"].shape[1]
    20
    """

    _kind = "ridge"


class MeanShift(ClosedFormModel):
    """Add the mean shift of the perturbation, over the contexts it was seen in, to the log1p values.

    The usual baseline of the field, cells and all: adding to log1p values destroys their zeros. With
    ``readout="counts"`` the same mean is read out as counts. A perturbation seen in no other context gets the mean
    shift over all perturbations.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
    readout
        What makes cells of the mean; ``"added"`` by default.
    embeddings
        Not predicted from. A perturbation that was not measured may be asked for if it has a vector, and gets
        the mean shift over all perturbations whatever the vector is.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.MeanShift.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.MeanShift(adata)
    >>> model.train()
    >>> "counts" in model.predict(progress=False).layers
    False
    """

    _ignores_perturbation = True

    _default_readout = "added"

    @property
    @override
    def _anchor_options(self) -> AnchorOptions:
        return AnchorOptions(kind="mean", spaces=("log1p",), shrinkage=0.0)

    @override
    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        anchor = self._fitted
        rows = _rows_of(anchor, condition)
        shift = anchor.effects["log1p"][rows].mean(axis=0)
        return np.maximum(control.mean_log[0] + shift, 0)


class ContextMean(MeanShift):
    """Add the mean shift of the context over its other perturbations.

    In many screens this systematic shift is most of what can be predicted, and the baseline to beat (Systema;
    Viñas Torné et al. 2025). A context without other perturbations gets the mean shift over everything.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
    readout
        What makes cells of the mean; ``"added"`` by default.
    embeddings
        Not predicted from. A perturbation that was not measured may be asked for if it has a vector, and gets
        the mean shift of its context whatever the vector is.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=3, n_genes=20, n_cells=30)
    >>> tp.ContextMean.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.ContextMean(adata)
    >>> model.train()
    >>> model.predict(perturbations="P0", progress=False).n_vars
    20
    """

    @override
    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        anchor = self._fitted
        others = anchor.table.of_context(context) & ~anchor.table.of_action(condition)
        rows = others if others.any() else ~anchor.table.of_action(condition)
        rows = rows if rows.any() else np.ones_like(rows)
        return np.maximum(control.mean_log[0] + anchor.effects["log1p"][rows].mean(axis=0), 0)


class MeanFoldChange(ClosedFormModel):
    """Multiply by the mean fold change of the perturbation over the contexts it was seen in, read out as counts.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
    readout
        What makes cells of the mean; ``"counts"`` by default.
    embeddings
        Not predicted from. A perturbation that was not measured may be asked for if it has a vector, and gets
        the mean fold change over all perturbations whatever the vector is.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.MeanFoldChange.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.MeanFoldChange(adata)
    >>> model.train()
    >>> "counts" in model.predict(progress=False).layers
    True
    """

    _ignores_perturbation = True

    @property
    @override
    def _anchor_options(self) -> AnchorOptions:
        return AnchorOptions(kind="mean", spaces=("log_fold",), shrinkage=0.0, pseudo_rate=0.05)

    @override
    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        anchor = self._fitted
        effect = anchor.effects["log_fold"][_rows_of(anchor, condition)].mean(axis=0)
        return anchor.apply("log_fold", effect, control.mean_log[0], control.mean_rate[0])


class Additive(MeanShift):
    """Add the shifts of the parts of a combination, those of its own context where they were measured there.

    A single perturbation has its own shift too, where :class:`MeanShift` has the mean over all contexts.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
    readout
        What makes cells of the mean; ``"added"`` by default.
    embeddings
        Not predicted from. A perturbation that was not measured may be asked for if it has a vector, and gets
        the mean shift over all perturbations, for each part whatever the vector is.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=3, n_genes=20, n_cells=30)
    >>> tp.Additive.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.Additive(adata)
    >>> model.train()
    >>> model.predict(perturbations="P0+P1", progress=False).n_vars
    20
    """

    _ignores_perturbation = False

    @override
    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        anchor = self._fitted
        parts = condition.singles() if condition.is_combination else (condition,)
        shift = sum(anchor.effects["log1p"][_rows_of(anchor, part, context=context)].mean(axis=0) for part in parts)
        return np.maximum(control.mean_log[0] + shift, 0)


class NearestPerturbation(MeanShift):
    """Copy the shift of the nearest measured group: same perturbation, nearest dose and time, most similar context.

    A group of the other direction is copied only where there is none of the same. A perturbation that was never
    measured gets the shift of the perturbation that shares most parts with it; else of the one whose embedding is
    nearest, where there are embeddings; else of the one whose shifts are most like those of all others.

    Parameters
    ----------
    adata
        Data registered with ``setup_anndata``.
    registry
        Registry of a saved model, in place of ``adata``.
    readout
        What makes cells of the mean; ``"added"`` by default.
    embeddings
        As for :class:`KernelTransport`; the nearest perturbation is that of the largest cosine.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.NearestPerturbation.setup_anndata(
    ...     adata, perturbation_key="perturbation", context_keys="context", layer="counts"
    ... )
    >>> model = tp.NearestPerturbation(adata)
    >>> model.train()
    >>> model.predict(progress=False).n_vars
    20
    """

    _ignores_perturbation = False

    @override
    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        anchor = self._fitted
        before = control.mean_log[0]
        shared = anchor.table.n_shared_parts(condition)
        elsewhere = ~(anchor.table.of_context(context) & anchor.table.of_action(condition))
        candidates = (shared == shared[elsewhere].max(initial=0)) & elsewhere
        if not candidates.any():
            candidates = np.ones_like(elsewhere)
        if shared.any():
            candidates = _nearest_amounts(condition, anchor.table.conditions, candidates)
        distance = np.linalg.norm(anchor.table.profiles - before, axis=1)
        if not shared.any() and self.embedding is not None:
            candidates = _most_similar(self.embedding, condition, anchor.table.conditions)
        elif not shared.any():
            # nothing in common with anything: the most typical effect of the nearest context
            effects = anchor.effects["log1p"]
            distance = distance + np.linalg.norm(effects - effects.mean(axis=0), axis=1)
        nearest = np.flatnonzero(candidates)[np.argmin(distance[candidates])]
        return np.maximum(before + anchor.effects["log1p"][nearest], 0)


def _nearest_amounts(condition: Condition, known: Sequence[Condition], candidates: np.ndarray) -> np.ndarray:
    """Of the candidates, those with the same directions if there are any, and of these the nearest doses and time."""
    rows = np.flatnonzero(candidates).tolist()
    apart = {other: _apart(condition, other) for other in {known[row] for row in rows}}
    nearest = min(apart.values())
    chosen = np.zeros_like(candidates)
    chosen[[row for row in rows if apart[known[row]] == nearest]] = True
    return chosen


def _apart(condition: Condition, other: Condition) -> tuple[int, float]:
    """How many directions of two conditions differ, and how far doses and times are apart, on log scales."""
    own = dict(zip(condition.parts, zip(condition.directions, condition.doses, strict=True), strict=True))
    opposed, distance = 0, 0.0
    for part, direction, dose in zip(other.parts, other.directions, other.doses, strict=True):
        asked = own.get(part)
        if asked is None:
            continue
        opposed += direction is not None and asked[0] is not None and direction != asked[0]
        if dose is not None and asked[1] is not None:
            distance += amount_gap(dose, asked[1])
    if condition.time is not None and other.time is not None:
        distance += amount_gap(condition.time, other.time)
    return opposed, distance


def _most_similar(embedding: Embedding, condition: Condition, known: Sequence[Condition]) -> np.ndarray:
    """Which conditions have the embedding nearest to that of a condition, by the cosine of the means of their parts."""
    vectors = np.array([embedding.lookup(other.parts).mean(axis=0) for other in known], dtype=np.float64)
    centre = vectors.mean(axis=0)
    target = embedding.lookup(condition.parts).mean(axis=0) - centre
    lengths = np.linalg.norm(vectors - centre, axis=1)
    cosine = (vectors - centre) @ target / np.maximum(lengths, 1e-12)
    return cosine >= cosine.max() - 1e-9


def _rows_of(anchor: Anchor, condition: Condition, *, context: str | None = None) -> np.ndarray:
    """Measured effects of a condition: at its own dose if measured, in its own context if asked and measured."""
    rows = anchor.table.of_action(condition)
    if not rows.any():
        return np.ones(len(rows), dtype=bool)
    exact = rows & anchor.table.of_condition(condition)
    rows = exact if exact.any() else rows
    own = rows & anchor.table.of_context(context) if context is not None else np.zeros_like(rows)
    return own if own.any() else rows
