"""The mean shift of a context."""

from __future__ import annotations

from typing import override

import numpy as np

from transpert._docstrings import fill_docstring
from transpert.conditions import Condition

from .closed_form import ShiftRule


@fill_docstring
class ContextMean(ShiftRule):
    """Add the mean shift of the context over its other perturbations.

    In many screens this systematic shift is most of what can be predicted, and the baseline to beat (Systema;
    Viñas Torné et al. 2025). A context without other perturbations gets the mean shift over everything.

    Parameters
    ----------
    %(registered_data)s
    %(readout_added)s
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

    _place = 2
    _ignores_perturbation = True

    @override
    def _shift(self, condition: Condition, context: str, before: np.ndarray) -> np.ndarray:
        table = self._fitted.table
        same = table.of_action(condition)
        others = table.of_context(context) & ~same
        rows = others if others.any() else ~same
        return self._shifts[rows if rows.any() else slice(None)].mean(axis=0)
