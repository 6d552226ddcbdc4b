"""Controls for every perturbed group: from its own batch where there are enough, else from its context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from transpert._signatures import as_annotated
from transpert.errors import ControlError, list_names, warn_user

from .table import Groups

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


@dataclass(frozen=True, slots=True, eq=False)
class _Controls:
    """Control groups that share something, and how many cells they have."""

    numbers: np.ndarray
    n_cells: int


_NONE = _Controls(np.array([], dtype=np.int64), 0)


@as_annotated()
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
    by_context, by_time = _by(controls, ["context"]), _by(controls, ["context", "time"])
    batch_by_context = _by(controls, ["context", "batch"])
    batch_by_time = _by(controls, ["context", "time", "batch"])
    chosen: dict[int, np.ndarray] = {}
    levels, counts = [], []
    columns = (perturbed[name].tolist() for name in ("context", "time", "batch"))
    for number, context, time, batch in zip(groups.perturbed_groups.tolist(), *columns, strict=True):
        if (context, time) in by_time:
            candidates, same_batch = by_time[context, time], batch_by_time.get((context, time, batch), _NONE)
        else:
            candidates, same_batch = by_context[(context,)], batch_by_context.get((context, batch), _NONE)
        level = BATCH_LEVEL if same_batch.n_cells >= min_controls else CONTEXT_LEVEL
        matched = same_batch if level == BATCH_LEVEL else candidates
        chosen[number] = matched.numbers
        levels.append(level)
        counts.append(matched.n_cells)
    matching = pd.DataFrame({"level": levels, "n_controls": counts}, index=perturbed.index)
    borrowed = int((matching["level"] == CONTEXT_LEVEL).sum())
    if warn and borrowed and groups.design.batch_key is not None:
        warn_user(
            f"{borrowed} of {len(matching)} groups have fewer than {min_controls} controls in their own batch and "
            "are compared with the controls of their whole context."
        )
    return ControlMatching(groups, matching, chosen)


def _by(controls: pd.DataFrame, columns: list[str]) -> dict[tuple, _Controls]:
    """Gather control groups by the values of columns, in one pass; a missing time is no value."""
    known = controls.dropna(subset=columns)
    found: dict[tuple, tuple[list[int], list[int]]] = {}
    for number, size, *values in known[["n_cells", *columns]].itertuples(name=None):
        numbers, sizes = found.setdefault(tuple(values), ([], []))
        numbers.append(number)
        sizes.append(size)
    return {
        values: _Controls(np.array(numbers, dtype=np.int64), sum(sizes)) for values, (numbers, sizes) in found.items()
    }
