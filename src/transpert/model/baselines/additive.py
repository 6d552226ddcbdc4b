"""The sum of the shifts of the parts of a combination."""

from __future__ import annotations

from typing import override

import numpy as np

from transpert._docstrings import fill_docstring
from transpert.conditions import Condition

from .closed_form import ShiftRule, rows_of


@fill_docstring
class Additive(ShiftRule):
    """Add the shifts of the parts of a combination, those of its own context where they were measured there.

    A single perturbation has its own shift too, where :class:`MeanShift` has the mean over all contexts.

    Parameters
    ----------
    %(registered_data)s
    %(readout_added)s
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

    _place = 4

    @override
    def _shift(self, condition: Condition, context: str, before: np.ndarray) -> np.ndarray:
        parts = condition.singles() if condition.is_combination else (condition,)
        rows = [rows_of(self._fitted, part, context=context) for part in parts]
        return np.sum([self._shifts[some].mean(axis=0) for some in rows], axis=0)
