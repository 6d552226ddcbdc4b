"""What is left of an effect when the main effects of context and perturbation are taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from ._inputs import check_deltas, check_finite, check_same_length, pearson_rows
from .metric import DELTA, Metric

# an interaction this small, in log1p, is rounding
_NOTHING = 1e-6


@as_annotated(error=MetricInputError, effects="P G")
@fill_docstring
def interaction(effects: np.ndarray, contexts: Sequence[str], perturbations: Sequence[str]) -> np.ndarray:
    """Remove the main effects of context and perturbation from mean shifts.

    The residual of the least-squares fit ``effect = a(context) + b(perturbation)``, gene by gene. For a complete table
    that is ``effect - context mean - perturbation mean + grand mean``; populations may be missing.

    Parameters
    ----------
    effects : (P, G)
        Mean shifts in log1p.
    contexts, perturbations : (P,)
        Labels of the rows.

    Returns
    -------
    ``(P, G)``; zeros where a context or perturbation occurs too seldom to estimate it.

    %(raises_arrays_differ)s

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import interaction
    >>> effects = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> interaction(effects, list("AABB"), list("xyxy")).round(6).tolist()
    [[0.0], [0.0], [0.0], [0.0]]
    """
    effects = np.atleast_2d(np.asarray(effects, dtype=np.float64))
    check_finite(effects, "the effects")
    design = []
    for labels, what in ((contexts, "contexts"), (perturbations, "perturbations")):
        check_same_length(labels, effects, what=f"rows, counting {what}")
        _, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        design.append(np.eye(codes.max() + 1)[codes])
    columns = np.hstack(design)
    return effects - columns @ np.linalg.lstsq(columns, effects, rcond=None)[0]


@as_annotated(error=MetricInputError)
@fill_docstring
def residual_pearson(
    predicted: np.ndarray, real: np.ndarray, contexts: Sequence[str], perturbations: Sequence[str]
) -> np.ndarray:
    """Pearson correlation over genes of predicted and real interaction of context and perturbation.

    Parameters
    ----------
    %(labelled_shifts)s

    Returns
    -------
    ``(P,)``, from -1 to 1, higher is better; NaN where one side has no interaction, as any additive prediction.

    %(raises_arrays_differ)s

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import residual_pearson
    >>> real = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    >>> residual_pearson(real / 2, real, list("AABB"), list("xyxy")).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    predicted, real = check_deltas(predicted, real)
    return pearson_rows(*(interaction(values, contexts, perturbations) for values in (predicted, real)))


@as_annotated(error=MetricInputError)
@fill_docstring
def residual_r2(
    predicted: np.ndarray, real: np.ndarray, contexts: Sequence[str], perturbations: Sequence[str]
) -> np.ndarray:
    """Share of the real interaction of context and perturbation that is predicted.

    ``1 - |predicted interaction - real interaction|^2 / |real interaction|^2``.

    Parameters
    ----------
    %(labelled_shifts)s

    Returns
    -------
    ``(P,)``, up to 1, higher is better; 0 for an additive prediction. NaN where there is no real interaction.

    %(raises_arrays_differ)s

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import residual_r2
    >>> real = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    >>> residual_r2(real / 2, real, list("AABB"), list("xyxy")).round(6).tolist()
    [0.75, 0.75, 0.75, 0.75]
    """
    predicted, real = check_deltas(predicted, real)
    guess, truth = (interaction(values, contexts, perturbations) for values in (predicted, real))
    size = (truth**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.abs(truth).max(axis=1) > _NOTHING, 1 - ((guess - truth) ** 2).sum(axis=1) / size, np.nan)


def _across_contexts(function: Callable) -> Callable[[Any], np.ndarray]:
    """Make a metric of a whole prediction out of a function of all effects and their labels."""
    return lambda summaries: function(
        summaries["delta_predicted"], summaries["delta_real"], summaries.context, summaries.perturbation
    )


ENTRIES = tuple(
    Metric(name, "residuals", "higher", DELTA, _across_contexts(function), level="prediction")
    for name, function in (("residual_pearson", residual_pearson), ("residual_r2", residual_r2))
)
