"""How diverse a set of cells is."""

from __future__ import annotations

import numpy as np

from transpert._signatures import as_annotated

_TINY = 1e-12


@as_annotated(labels="labels N")
def shannon(labels: np.ndarray) -> float:
    """Shannon entropy of labels, in nats.

    Parameters
    ----------
    labels : (N,)
        Cell types, for example.

    Returns
    -------
    From 0 (one label) to the logarithm of the number of labels.

    Examples
    --------
    >>> from transpert.scaling import shannon
    >>> round(shannon(["a", "b"]), 3)
    0.693
    """
    shares = _shares(labels)
    return float(-(shares * np.log(shares)).sum()) + 0.0


@as_annotated(labels="labels N")
def gini_simpson(labels: np.ndarray) -> float:
    """Chance that two cells drawn with replacement have different labels.

    Parameters
    ----------
    labels : (N,)
        Cell types, for example.

    Returns
    -------
    From 0 (one label) to less than 1.

    Examples
    --------
    >>> from transpert.scaling import gini_simpson
    >>> gini_simpson(["a", "b"])
    0.5
    """
    return float(1 - (_shares(labels) ** 2).sum())


@as_annotated(points="finite N d")
def vendi(points: np.ndarray) -> float:
    """Effective number of different cells: the exponential of the entropy of the eigenvalues of their similarities.

    Parameters
    ----------
    points : (N, d)
        Cells in a space; similarity is the cosine of the angle between them, from the origin.

    Returns
    -------
    From 1 (all alike) to the smaller of ``N`` and ``d``.

    Notes
    -----
    Friedman and Dieng (2023), "The Vendi score", TMLR. With this similarity the eigenvalues are those of a ``d x d``
    matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import vendi
    >>> round(vendi(np.eye(3)), 6)
    3.0
    """
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), _TINY)
    values = np.linalg.eigvalsh(unit.T @ unit / len(unit))
    values = values[values > _TINY]
    return float(np.exp(-(values * np.log(values)).sum()))


def _shares(labels: np.ndarray) -> np.ndarray:
    """Share of every label."""
    counts = np.unique(np.asarray(labels, dtype=str), return_counts=True)[1]
    return counts / counts.sum()
