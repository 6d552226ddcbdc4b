"""Log fold changes of every population against its controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert._anndata import frame, modality_of, modality_to_write, writable_name
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert.conditions.labels import Controls
from transpert.conditions.text import population_text
from transpert.groups import Design

from ._populations import design_of, log_values, populations


@fill_docstring
def effects(
    data: AnnData | MuData,
    *,
    design: Design | None = None,
    perturbation_key: str | None = None,
    control: Controls | None = None,
    context_keys: str | Sequence[str] | None = None,
    pseudo_rate: float = 0.05,
    layer: str | None = None,
    modality: str | None = None,
    key_added: str = "effects",
) -> pd.DataFrame:
    """Compute the log fold change of every gene in every population.

    Parameters
    ----------
    data
        Predicted or observed cells with their controls; log1p counts per 10k in ``X``.
    %(design)s
    %(own_columns)s
    pseudo_rate
        Counts per 10k that are added before the logarithm is taken.
    %(log_layer)s
    modality
        Modality of a MuData.
    key_added
        Where in ``varm`` to write.

    Returns
    -------
    Genes x ``"context: condition"``: ``log(mu1 + e) - log(mu0 + e)`` of the mean counts per 10k, natural
    logarithm; also in ``varm[key_added]``, where names have U+2215 for a ``/``, which no file could hold.

    Raises
    ------
    transpert.errors.ControlError
        If a context has no controls.
    transpert.errors.CountsError
        If the values are not log1p counts per 10k.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=30, n_cells=40)
    >>> tp.tl.effects(adata, context_keys="context").shape
    (30, 4)
    """
    check_arguments(locals())
    adata = modality_of(data, modality)
    design = design_of(
        adata,
        design=design,
        perturbation_key=perturbation_key,
        control=control,
        context_keys=context_keys,
    )
    table = effects_of(adata, design, pseudo_rate=pseudo_rate, layer=layer)
    modality_to_write(data, modality).varm[key_added] = table.rename(columns=writable_name)
    return table


def effects_of(adata: AnnData, design: Design, *, pseudo_rate: float = 0.05, layer: str | None = None) -> pd.DataFrame:
    """Compute the table of :func:`effects` for a design, and write nothing."""
    values = log_values(adata, layer, where="the cells")
    found = populations(frame(adata.obs), design)

    def log_rate(rows: np.ndarray) -> np.ndarray:
        block = values[rows]
        rates = block.expm1() if sparse.issparse(block) else np.expm1(block)
        return np.log(np.asarray(rates.mean(axis=0), dtype=np.float64).ravel() + pseudo_rate)

    controls = {context: log_rate(rows) for context, rows in found.controls.items()}
    columns = {population_text(*key): log_rate(rows) - controls[key[0]] for key, rows in found.cells.items()}
    return pd.DataFrame(columns, index=adata.var_names, dtype=np.float32)
