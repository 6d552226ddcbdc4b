"""A table of numbers in Markdown, for the pages that benchmarks write."""

from __future__ import annotations

import pandas as pd


def markdown_table(table: pd.DataFrame) -> list[str]:
    """Lines of the table, three digits a number; the name of the index stands over the first column."""
    rows = [" | ".join([str(name), *(f"{value:.3f}" for value in values)]) for name, *values in table.itertuples()]
    head = " | ".join([str(table.index.name), *map(str, table.columns)])
    return [f"| {line} |" for line in (head, " | ".join(["---"] * (len(table.columns) + 1)), *rows)]
