"""Controls for every perturbed group: from its own batch where there are enough, else from its context."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from transpert.errors import AssumptionWarning, ControlError, list_names

from .table import Groups

__all__ = ["ControlMatching", "match_controls"]

BATCH_LEVEL = "context and batch"
CONTEXT_LEVEL = "context"


@dataclass(frozen=True, slots=True, eq=False)
class ControlMatching:
    """The control groups of every perturbed group.

    Parameters
    ----------
    groups
        The groups that were matched.
    table
        One row a perturbed group (index: its number): ``level`` (``"context and batch"`` or ``"context"``),
        ``n_controls``.
    control_groups
        For each perturbed group the numbers of the control groups it is compared with.
    """

    groups: Groups
    table: pd.DataFrame
    control_groups: dict[int, np.ndarray]

    def cells(self, group: int) -> np.ndarray:
        """Return the positions of the control cells of a perturbed group, ascending."""
        return np.sort(np.concatenate([self.groups.cells(control) for control in self.control_groups[group]]))


def match_controls(groups: Groups, *, min_controls: int = 10, warn: bool = True) -> ControlMatching:
    """Match controls to perturbed groups by context and batch, or by context where a batch has too few.

    Times are matched too where controls of that time exist; otherwise controls of all times serve.

    Parameters
    ----------
    groups
        The groups, as made by :func:`~transpert.groups.make_groups`.
    min_controls
        A batch with fewer control cells than this borrows the controls of the whole context.
    warn
        Report the groups that fell back to their context, once, as an
        :class:`~transpert.errors.AssumptionWarning`.

    Returns
    -------
    The matching, with the level that was used for each group.

    Raises
    ------
    transpert.errors.ControlError
        If a context has perturbed cells and no control; the contexts are listed.

    Examples
    --------
    >>> import pandas as pd
    >>> from transpert.groups import Design, make_groups, match_controls
    >>> obs = pd.DataFrame({"perturbation": ["control"] * 3 + ["A"] * 2, "line": "x"})
    >>> groups = make_groups(obs, Design("perturbation", "control", ("line",)))
    >>> match_controls(groups, min_controls=1).table["n_controls"].tolist()
    [3]
    """
    table = groups.table
    controls = table[table["is_control"]]
    perturbed = table[~table["is_control"]]
    orphans = sorted(set(perturbed["context"]) - set(controls["context"]))
    if orphans:
        raise ControlError(
            f"{len(orphans)} contexts have perturbed cells but no control cells: {list_names(orphans)}",
            where=f"obs[{groups.design.perturbation_key!r}]",
            remedy="Add controls of these contexts, merge contexts, or drop their cells.",
        )
    chosen: dict[int, np.ndarray] = {}
    levels, counts = [], []
    for number, row in zip(groups.perturbed_groups, perturbed.to_dict("records"), strict=True):
        candidates = controls[controls["context"] == row["context"]]
        same_time = candidates[candidates["time"] == row["time"]]
        if len(same_time):
            candidates = same_time
        same_batch = candidates[candidates["batch"] == row["batch"]]
        level = BATCH_LEVEL if same_batch["n_cells"].sum() >= min_controls else CONTEXT_LEVEL
        matched = same_batch if level == BATCH_LEVEL else candidates
        chosen[int(number)] = matched.index.to_numpy()
        levels.append(level)
        counts.append(int(matched["n_cells"].sum()))
    matching = pd.DataFrame({"level": levels, "n_controls": counts}, index=perturbed.index)
    borrowed = int((matching["level"] == CONTEXT_LEVEL).sum())
    if warn and borrowed and groups.design.batch_key is not None:
        warnings.warn(
            f"{borrowed} of {len(matching)} groups have fewer than {min_controls} controls in their own batch and "
            "are compared with the controls of their whole context.",
            AssumptionWarning,
            stacklevel=2,
        )
    return ControlMatching(groups, matching, chosen)
