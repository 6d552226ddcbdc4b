"""Several embeddings side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from transpert._signatures import as_annotated
from transpert.errors import ConditionError, OptionError

from .embedding import Embedding


@as_annotated(but=("tables",))
def combine(tables: Iterable[Embedding | pd.DataFrame], *, weights: Sequence[float] | None = None) -> Embedding:
    """Put several embeddings side by side, for the names that all of them have.

    Every table is centred and scaled to the same total variance first, so that a table with many columns does not
    outweigh one with few. The result remembers where each begins: with ``ConditionOptions(tables="gated")`` a network
    learns how much each counts for a perturbation, and the anchor chooses between each alone and all together on
    perturbations that it leaves out.

    Parameters
    ----------
    tables
        The embeddings, or DataFrames of one row a name.
    weights
        By how much each is multiplied after scaling; 1 by default.

    Returns
    -------
    The embedding of the names that all tables have.

    Raises
    ------
    transpert.errors.OptionError
        If there is no table or something is not a table, or weights and tables differ in number or a weight is not
        above 0.
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
    tables = _each_table(tables)
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
    made = Embedding(tuple(shared), np.hstack(columns), " + ".join(table.source for table in tables), tuple(blocks))
    made._left_out.update(_left_out(tables))
    return made


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
    transpert.errors.OptionError
        If it is something else: a word, an array without names, a mapping.
    transpert.errors.ConditionError
        As :class:`Embedding` and :func:`combine`.

    Examples
    --------
    >>> import pandas as pd
    >>> from transpert.conditions import as_embedding
    >>> as_embedding(pd.DataFrame({"x": [0.0, 1.0]}, index=["A", "B"])).names
    ('A', 'B')
    """
    if tables is None:
        return None
    if isinstance(tables, Embedding | pd.DataFrame):
        return _as_table(tables, "tables")
    return combine(tables)


def _each_table(tables: object) -> list[Embedding]:
    # these can be iterated over too, into letters, keys, columns or rows
    one = isinstance(tables, str | bytes | Mapping | np.ndarray | pd.DataFrame | pd.Series)
    if one or not isinstance(tables, Iterable):
        raise _not_tables(tables, "tables")
    return [_as_table(table, f"tables[{i}]") for i, table in enumerate(tables)]


def _as_table(table: object, where: str) -> Embedding:
    if isinstance(table, Embedding):
        return table
    if isinstance(table, pd.DataFrame):
        return Embedding.from_frame(table)
    raise _not_tables(table, where)


def _not_tables(given: object, where: str) -> OptionError:
    written = f"{given!r}" if isinstance(given, str | bytes) else f"a {type(given).__name__}"
    return OptionError(
        f"{written} is not a table of vectors by name",
        where=where,
        remedy="Give an Embedding, a DataFrame of one row a name, or a list of several. An array needs its names: "
        "Embedding(names, array). The controls themselves give a table with coexpression(adata, ...).",
    )


def _left_out(tables: Sequence[Embedding]) -> dict[str, str]:
    """Return, for every name that some tables lack, the names of these tables."""
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(name for table in tables for name in table.names):
        lacking = [f"table {i} ({table.source})" for i, table in enumerate(tables, start=1) if name not in table]
        if lacking:
            left_out[name] = " and ".join(lacking)
    for table in tables:
        for name, where in table._left_out.items():
            left_out.setdefault(name, where)
    return left_out
