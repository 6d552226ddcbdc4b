"""What :func:`transpert.pp.split` says of a split in ``uns``, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from transpert._anndata import own_table

_GROUPS = {"context", "perturbation", "is_control", "split"}
_LEAKAGE = {"check", "found", "which"}


def as_split_report(found: object) -> dict[str, Any] | None:
    """Return a report whose tables are in memory; nothing where it is none of ours, or no longer."""
    if not isinstance(found, Mapping):
        return None
    groups, leakage = own_table(found.get("groups"), _GROUPS), own_table(found.get("leakage"), _LEAKAGE)
    if (
        groups is None
        or leakage is None
        or not isinstance(found.get("kind"), str)
        or not _is_json(found.get("arguments"))
    ):
        return None
    return {**found, "groups": groups, "leakage": leakage}


def _is_json(text: object) -> bool:
    """Whether a text holds names and values."""
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False
