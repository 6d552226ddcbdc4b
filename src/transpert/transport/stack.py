"""Stacking: how much each of several predictions is worth, measured on groups that none of them has seen."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from transpert._arguments import check_number, refused
from transpert._signatures import as_annotated
from transpert.errors import OptionError


@as_annotated(observed="finite P G", weights="finite P")
def fit_stack(
    predictions: dict[str, np.ndarray],
    observed: np.ndarray,
    weights: np.ndarray,
    *,
    strength: float = 0.1,
) -> dict[str, float]:
    """Find non-negative weights, summing to one, of predictions of left-out groups.

    Parameters
    ----------
    predictions
        Predicted mean shifts by name, each ``(P, G)``.
    observed : (P, G)
        The shifts that were observed.
    weights : (P,)
        Importance of each group.
    strength
        Pull towards equal weights, as a share of the variance in which the predictions differ.

    Returns
    -------
    The weight of each prediction.

    Raises
    ------
    transpert.errors.OptionError
        If there is nothing to stack.

    Notes
    -----
    Breiman (1996), "Stacked regressions", Machine Learning 24:49.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.transport import fit_stack
    >>> truth = np.array([[1.0, -2.0, 0.5]])
    >>> weights = fit_stack({"right": truth, "wrong": -truth}, truth, np.ones(1), strength=0.0)
    >>> round(weights["right"], 3)
    1.0
    """
    names = list(predictions)
    if not names or not len(observed):
        raise OptionError("there is nothing to stack", where="fit_stack", remedy="Give at least one prediction.")
    check_number(strength, name="strength", least=0)
    for name, prediction in predictions.items():
        if np.shape(prediction) != np.shape(observed) or not np.isfinite(prediction).all():
            raise refused(f"predictions[{name!r}]", prediction, f"Give finite values of the shape {observed.shape}.")
    start = np.full(len(names), 1 / len(names))
    root = np.sqrt(np.asarray(weights, dtype=float))[:, None]
    matrix = np.stack([(root * predictions[name]).ravel() for name in names], axis=1)
    target = (root * observed).ravel()
    # equal weights as pseudo-observations of how the predictions differ
    centred = matrix - matrix.mean(axis=1, keepdims=True)
    power = float((matrix**2).sum()) / len(names)
    spread = np.sqrt(max(strength * float((centred**2).sum()) / len(names), 1e-5 * power))
    sum_to_one = 1e2 * np.sqrt(max(power, 1e-12))
    rows = np.vstack([matrix.T @ matrix + spread**2 * np.eye(len(names)) + sum_to_one**2])
    moment = matrix.T @ target + spread**2 * start + sum_to_one**2
    lower = np.linalg.cholesky(rows + 1e-13 * np.trace(rows) * np.eye(len(names)))
    solution, _ = nnls(lower.T, np.linalg.solve(lower, moment))
    total = solution.sum()
    return dict(zip(names, (solution / total).tolist() if total else start.tolist(), strict=True))
