"""The mean fold change of a perturbation."""

from __future__ import annotations

from typing import override

import numpy as np

from transpert._docstrings import fill_docstring
from transpert.conditions import Condition
from transpert.transport import AnchorOptions, GroupStatistics

from .closed_form import Rule, rows_of


@fill_docstring
class MeanFoldChange(Rule):
    """Multiply by the mean fold change of the perturbation over the contexts it was seen in, read out as counts.

    Parameters
    ----------
    %(registered_data)s
    %(readout_counts)s
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

    _place = 3
    _ignores_perturbation = True

    @property
    @override
    def _anchor_options(self) -> AnchorOptions:
        return AnchorOptions(kind="mean", spaces=("log_fold",), shrinkage=0.0, pseudo_rate=0.05)

    @override
    def _mean(self, condition: Condition, context: str, control: GroupStatistics) -> np.ndarray:
        anchor = self._fitted
        effect = anchor.effects["log_fold"][rows_of(anchor, condition)].mean(axis=0)
        return anchor.apply("log_fold", effect, control.mean_log[0], control.mean_rate[0])
