"""The few genes that a perturbation moves most, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import norm

from transpert._arguments import check_model
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.errors import NotTrainedError, OptionError

if TYPE_CHECKING:
    from transpert.model import PerturbationModel
    from transpert.model.prediction.requests import Contexts

_DRAWS = 200


@as_annotated()
def rare_tails(
    model: PerturbationModel,
    perturbations: str | Sequence[str] | None = None,
    *,
    contexts: Contexts = None,
    adata: AnnData | None = None,
    share: float = 0.01,
    level: float = 0.9,
    seed: int = 0,
) -> pd.DataFrame:
    """Report the genes with the largest predicted effects, how sure each is, and whether others move it too.

    Parameters
    ----------
    model
        A trained model with intervals.
    perturbations
        Which perturbations; all that were measured by default.
    contexts
        Which contexts, as in :meth:`~transpert.model.PerturbationModel.predict`.
    adata
        Cells whose controls are moved; those of the model by default.
    share
        Share of the genes that is reported, at least one gene.
    level
        Coverage of the intervals.
    seed
        Seed of the draws.

    Returns
    -------
    One row a population and gene, the largest effect first: ``context``, ``perturbation``, ``gene``, ``effect``
    (natural-log fold change) with ``ci_low`` and ``ci_high``, ``sign_known`` (whether the interval leaves 0 out),
    ``in_tail`` (probability, by draws within the intervals, that the gene is in the tail), ``specific`` (the effect
    less the mean effect of the other reported perturbations in that context; NaN if there is no other), ``situation``
    (what about the population is new) and ``ood_score`` (how far it is from what was trained on; 1 is the distance of
    neighbours in training).

    Raises
    ------
    transpert.errors.NotTrainedError
        If the model is not trained, or has no intervals.
    transpert.errors.OptionError
        If a share or level is not between 0 and 1.

    Notes
    -----
    Errors of genes are drawn independently. Metrics of the same tail are
    :func:`transpert.metrics.top_recall` and others.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=3, n_genes=60, n_cells=40)
    >>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
    >>> tp.KernelTransport.setup_anndata(adata, **keys)
    >>> model = tp.KernelTransport(adata)
    >>> model.train()
    >>> len(tp.tl.rare_tails(model, contexts={"context": "context_0"}, share=0.05))
    9
    """
    check_model(model, name="model")
    if not 0 < share < 1 or not 0 < level < 1:
        raise OptionError(f"share is {share}, level {level}", remedy="Give numbers between 0 and 1.")
    if model.is_trained_ and (model.uncertainty is None or not model.uncertainty.errors):
        raise NotTrainedError(
            f"this {type(model).__name__} has no intervals", remedy="Use SCALE or KernelTransport, with more contexts."
        )
    found = model.get_uncertainty(contexts, perturbations, level=level, adata=adata)
    effects = found.effects.to_numpy(dtype=np.float64)
    low, high = (table.to_numpy(dtype=np.float64) for table in (found.lower, found.upper))
    spread = (high - effects) / norm.ppf((1 + level) / 2)
    n = max(1, round(share * len(effects)))
    rng = np.random.default_rng(check_seed(seed))
    conditions = found.conditions.reset_index(drop=True)
    specific = _specific(effects, conditions["context"].to_numpy(dtype=object))
    parts = []
    for column, said in enumerate(conditions.to_dict("records")):
        chance = _chance(effects[:, column], spread[:, column], n, rng)
        top = np.argsort(-np.abs(effects[:, column]), kind="stable")[:n]
        parts.append(
            pd.DataFrame(
                {
                    "context": said["context"],
                    "perturbation": said["perturbation"],
                    "gene": found.effects.index.astype(str)[top],
                    "effect": effects[top, column],
                    "ci_low": low[top, column],
                    "ci_high": high[top, column],
                    "sign_known": (low[top, column] > 0) | (high[top, column] < 0),
                    "in_tail": chance[top],
                    "specific": specific[top, column],
                    "situation": said["situation"],
                    "ood_score": said["ood_score"],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _specific(effects: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """Return each effect less the mean effect of the other populations of its context, ``(G, P)``."""
    apart = np.full_like(effects, np.nan)
    for context in dict.fromkeys(contexts):
        own = np.flatnonzero(contexts == context)
        if len(own) > 1:
            total = effects[:, own].sum(axis=1, keepdims=True)
            apart[:, own] = effects[:, own] - (total - effects[:, own]) / (len(own) - 1)
    return apart


def _chance(effect: np.ndarray, spread: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each gene is among the ``n`` of the largest size when effects are drawn, ``(G,)``."""
    drawn = np.abs(effect + spread * rng.standard_normal((_DRAWS, len(effect))))
    top = np.argpartition(-drawn, n - 1, axis=1)[:, :n]
    return np.bincount(top.ravel(), minlength=len(effect)) / _DRAWS
