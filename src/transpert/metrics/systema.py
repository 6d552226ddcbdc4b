"""Systema: does a prediction know more than what all perturbations have in common?"""

from __future__ import annotations

import numpy as np

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from ._inputs import check_deltas, pearson_rows
from .discrimination import effect_distances
from .metric import MEAN, Metric, within_contexts


@as_annotated(error=MetricInputError)
@fill_docstring
def pearson_delta_perturbed(
    predicted: np.ndarray, real: np.ndarray, *, reference: np.ndarray | None = None
) -> np.ndarray:
    """Pearson correlation over genes of shifts from the mean of the *perturbed* centroids.

    What distinguishes perturbed cells from controls in general (stress, selection, batch) is in the reference, so that
    predicting it does not raise the score.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean log1p profiles of the perturbations of one context.
    reference : (G,)
        Mean of perturbed centroids; that of ``real`` by default.

    Returns
    -------
    ``(P,)``, from -1 to 1, higher is better; NaN where one of the shifts is constant, as for a single perturbation.

    %(raises_arrays_differ)s

    Notes
    -----
    Vinas Torne et al. 2025 (Systema), which takes the reference from training perturbations.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import pearson_delta_perturbed
    >>> real = np.array([[5.0, 1.0, 0.0], [5.0, 0.0, 1.0]])
    >>> pearson_delta_perturbed(real, real).round(6).tolist()
    [1.0, 1.0]
    """
    predicted, real = check_deltas(predicted, real, what="mean profiles")
    centre = real.mean(axis=0) if reference is None else np.asarray(reference, dtype=np.float64)
    if centre.shape != real.shape[1:]:
        raise MetricInputError(
            f"the reference has shape {centre.shape}, not {real.shape[1:]}",
            where="reference",
            remedy="Give one value for each gene.",
        )
    return pearson_rows(predicted - centre, real - centre)


@as_annotated(error=MetricInputError)
@fill_docstring
def centroid_accuracy(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Share of the other perturbations whose real centroid is farther from the prediction than the right one.

    Parameters
    ----------
    predicted, real : (P, G)
        Mean log1p profiles of the perturbations of one context, in the same order.

    Returns
    -------
    ``(P,)``, from 0 to 1, higher is better; a centroid at the same distance is not farther. NaN for a single
    perturbation.

    %(raises_arrays_differ)s

    Notes
    -----
    Vinas Torne et al. 2025 (Systema).

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import centroid_accuracy
    >>> centroid_accuracy(np.array([[0.9, 0.0], [0.9, 0.0]]), np.eye(2)).tolist()
    [1.0, 0.0]
    """
    predicted, real = check_deltas(predicted, real, what="mean profiles")
    if len(real) < 2:
        return np.full(len(real), np.nan)
    distances = effect_distances(predicted, real, "l2")
    return (distances > np.diag(distances)[:, None]).sum(axis=1) / (len(real) - 1)


ENTRIES = tuple(
    Metric(
        name, "systema", "higher", MEAN, within_contexts(function, *MEAN), level="prediction", panels=("calibrated",)
    )
    for name, function in (
        ("systema_pearson_delta", pearson_delta_perturbed),
        ("centroid_accuracy", centroid_accuracy),
    )
)
