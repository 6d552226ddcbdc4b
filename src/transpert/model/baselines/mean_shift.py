"""The mean shift of a perturbation."""

from __future__ import annotations

from typing import override

import numpy as np

from transpert._docstrings import fill_docstring
from transpert.conditions import Condition

from .closed_form import ShiftRule, rows_of


@fill_docstring
class MeanShift(ShiftRule):
    """Add the mean shift of the perturbation, over the contexts it was seen in, to the log1p values.

    The usual baseline of the field. Adding to log1p values destroys the zeros of the cells. With
    ``readout="counts"`` the same mean is read out as counts. A perturbation seen in no other context gets the mean
    shift over all perturbations.

    Parameters
    ----------
    %(registered_data)s
    %(readout_added)s
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

    _place = 1
    _ignores_perturbation = True

    @override
    def _shift(self, condition: Condition, context: str, before: np.ndarray) -> np.ndarray:
        return self._shifts[rows_of(self._fitted, condition)].mean(axis=0)
