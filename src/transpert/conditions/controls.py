"""Which labels, and which cells, are controls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .parts import split_parts

# GEARS and its descendants write a single perturbation as "A+ctrl"
_CONTROL_PARTS = frozenset({"ctrl", "control"})


def is_control_part(part: str, *, control: str) -> bool:
    """Whether a part of a combination, as in ``"A+ctrl"``, names no perturbation."""
    return part == control or part.lower() in _CONTROL_PARTS


def is_control_label(label: str, *, control: str) -> bool:
    """Whether a label says that nothing was done to the cells."""
    if label == control:
        return True
    parts = split_parts(label)
    return len(parts) > 1 and all(is_control_part(part, control=control) for part in parts)


def control_cells(perturbations: pd.Series, *, control: str) -> np.ndarray:
    """Return which cells are controls, ``(n_obs,)`` bool."""
    # every distinct label is looked at once: there are few of them and many cells
    codes, distinct = pd.factorize(perturbations, use_na_sentinel=False)
    labels = pd.Series(distinct).astype(str)
    return np.array([is_control_label(str(label), control=control) for label in labels], dtype=bool)[codes]
