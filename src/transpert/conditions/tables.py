"""Several embeddings side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from transpert.errors import ConditionError, OptionError

from .embedding import Embedding

__all__ = ["as_embedding", "combine"]


def combine(tables: Sequence[Embedding], *, weights: Sequence[float] | None = None) -> Embedding:
    """Put several embeddings side by side, for the names that all of them have.

    Every table is centred and scaled to the same total variance first, so that a wide one does not drown a narrow
    one. The result remembers where each begins: with ``ConditionOptions(tables="gated")`` a network learns how much
    each counts for a perturbation, and the anchor chooses between each alone and all together on perturbations that
    it leaves out.

    Parameters
    ----------
    tables
        The embeddings.
    weights
        By how much each is multiplied after scaling; 1 by default.

    Returns
    -------
    The embedding of the names that all tables have.

    Raises
    ------
    transpert.errors.OptionError
        If there is no table, or weights and tables differ in number or a weight is not above 0.
    transpert.errors.ConditionError
        If no name is in all of them.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.conditions import Embedding, combine
    >>> a = Embedding(("A", "B", "C"), np.eye(3), "a")
    >>> b = Embedding(("B", "C", "D"), np.eye(3)[:, :2], "b")
    >>> combine([a, b])
    Embedding of 2 names in 5 dimensions, 2 tables (a + b)
    """
    tables = list(tables)
    weights = [1.0] * len(tables) if weights is None else [float(weight) for weight in weights]
    if not tables or len(weights) != len(tables) or not all(weight > 0 for weight in weights):
        raise OptionError(
            f"{len(tables)} tables and the weights {weights}",
            where="combine",
            remedy="Give at least one table, and one weight above 0 for each.",
        )
    others = [frozenset(table.names) for table in tables[1:]]
    shared = [name for name in tables[0].names if all(name in names for names in others)]
    if not shared:
        raise ConditionError(
            "no name is in all of the tables",
            where=" + ".join(table.source for table in tables),
            remedy="Do they name the same things? Embedding.rename() gives other names.",
        )
    columns: list[np.ndarray] = []
    blocks: list[int] = []
    for table, weight in zip(tables, weights, strict=True):
        values = table.lookup(shared).astype(np.float64)
        values -= values.mean(axis=0)
        scale = np.sqrt((values**2).sum(axis=1).mean())
        columns.append(weight * values / (scale or 1.0))
        blocks += table.blocks
    return Embedding(tuple(shared), np.hstack(columns), " + ".join(table.source for table in tables), tuple(blocks))


def as_embedding(tables: Embedding | pd.DataFrame | Iterable[Embedding | pd.DataFrame] | None) -> Embedding | None:
    """Make one embedding of what a user gives: an embedding, a DataFrame, several of either, or nothing.

    Parameters
    ----------
    tables
        One or several tables.

    Returns
    -------
    The embedding; several are combined by :func:`combine`; ``None`` stays ``None``.

    Raises
    ------
    transpert.errors.TranspertError
        As :class:`Embedding` and :func:`combine`.

    Examples
    --------
    >>> import pandas as pd
    >>> from transpert.conditions import as_embedding
    >>> as_embedding(pd.DataFrame({"x": [0.0, 1.0]}, index=["A", "B"])).names
    ('A', 'B')
    """
    if tables is None or isinstance(tables, Embedding):
        return tables
    if isinstance(tables, pd.DataFrame):
        return Embedding.from_frame(tables)
    made = [as_embedding(table) for table in tables]
    return combine([table for table in made if table is not None])
