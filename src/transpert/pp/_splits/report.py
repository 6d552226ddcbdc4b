"""What :func:`transpert.pp.split` says of a split in ``uns``, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from anndata.experimental.backed import Dataset2D

from transpert._anndata import frame

_GROUPS = {"context", "perturbation", "is_control", "split"}
_LEAKAGE = {"check", "found", "which"}


def as_split_report(found: object) -> dict[str, Any] | None:
    """Return a report whose tables are in memory; nothing where it is none of ours, or no longer."""
    if not isinstance(found, Mapping):
        return None
    groups, leakage = _table(found.get("groups"), _GROUPS), _table(found.get("leakage"), _LEAKAGE)
    if (
        groups is None
        or leakage is None
        or not isinstance(found.get("kind"), str)
        or not _is_json(found.get("arguments"))
    ):
        return None
    return {**found, "groups": groups, "leakage": leakage}


def _table(values: object, columns: set[str]) -> pd.DataFrame | None:
    """Return a table with these columns, that of a lazy AnnData read; nothing where it is none."""
    table = frame(values) if isinstance(values, pd.DataFrame | Dataset2D) else None
    return None if table is None or not columns <= set(table.columns) else table


def _is_json(text: object) -> bool:
    """Whether a text holds names and values."""
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False
