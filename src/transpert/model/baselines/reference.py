"""The floor that does nothing, and the ceiling that looks."""

from __future__ import annotations

from typing import Any, override

import numpy as np

from transpert import _keys
from transpert._counts import log1p_per_10k
from transpert.errors import GroupSizeError, NotTrainedError
from transpert.groups.table import condition_codes, context_labels
from transpert.transport import GroupEffects

from ..base import PerturbationModel
from ..cells.in_memory import Cells
from ..prediction.assemble import Population, SetPrediction
from ..prediction.requests import Request


class NoChange(PerturbationModel):
    """Predict that nothing happens: the control cells, as they are.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.NoChange.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.NoChange(adata)
    >>> model.train()
    >>> pred = model.predict(progress=False)
    >>> sorted(pred.obs["source"].cat.categories)
    ['control', 'predicted']
    """

    _place = 0
    _ignores_perturbation = True

    @override
    def _fit(self, effects: GroupEffects) -> None:
        return

    @override
    def _predict_set(self, control: Cells, request: Request, *, seed: int, each_cell: bool = True) -> SetPrediction:
        return SetPrediction(np.asarray(log1p_per_10k(control.counts, control.library_size).mean(axis=0)).ravel())

    @override
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {}

    @override
    def _restore(self, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        return


class Replicate(NoChange):
    """Return a random half of the observed cells of the requested group, the test set included.

    This is not a prediction. It is what a second experiment of half the size would have measured: the ceiling that the
    noise of the data sets for any method. Score it against the other half: ``obs["control_id"]`` names the
    cells that were taken.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.Replicate.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.Replicate(adata)
    >>> model.train()
    >>> pred = model.predict(include_controls=False, progress=False)
    >>> bool(pred.obs["control_id"].isin(adata.obs_names).all())
    True
    """

    _default_readout = "counts"

    @override
    def _population(self, control: Cells, request: Request, readout: str | None, *, seed: int) -> Population:
        if self._cells is None:
            raise NotTrainedError("a replicate is drawn from data", remedy="Load the model with adata=.")
        observed = self._observed(request)
        if len(observed) < 2:
            raise GroupSizeError(
                f"{len(observed)} cells of {request.condition} in {request.context!r} were observed; two are needed",
                remedy="A replicate exists only for groups that are in the data.",
            )
        half = np.random.default_rng(seed).permutation(observed)[: len(observed) // 2]
        cells = self._cells[np.sort(half)]
        return Population(None, cells.counts, cells, _keys.PREDICTED, request)

    def _observed(self, request: Request) -> np.ndarray:
        """Positions of the observed cells of a request, whatever the split says."""
        cells, design = self.cells, self.design
        here = np.flatnonzero(context_labels(cells.obs, design) == request.context)
        conditions, codes = condition_codes(cells.obs.iloc[here], design)
        if request.condition not in conditions:
            return here[:0]
        return here[codes == conditions.index(request.condition)]
