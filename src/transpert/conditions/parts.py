"""The parts of a label: what joins them, and what does not."""

from __future__ import annotations

from collections.abc import Sequence

from transpert import _keys
from transpert.errors import ConditionError

_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_LIST_SEPARATOR = ","  # what separates the entries of a list as text, "['A', 'B']"


def split_parts(label: str, separator: str = _keys.COMBINATION) -> list[str]:
    """Take a label, or a list as text, apart at every separator that is not in brackets; empty parts are kept."""
    if separator.strip() == _LIST_SEPARATOR and is_list_text(label):
        return [part.strip("'\"") for part in split_parts(label.strip()[1:-1].rstrip(","), separator)]
    parts, awaited, position = [""], list[str](), 0
    while position < len(label):
        sign = label[position]
        if sign in _BRACKETS:
            awaited.append(_BRACKETS[sign])
        elif awaited and sign == awaited[-1]:
            awaited.pop()
        if not awaited and label.startswith(separator, position):
            parts.append("")
            position += len(separator)
        else:
            parts[-1] += sign
            position += 1
    if awaited:  # a bracket that is never closed holds nothing together
        parts = label.split(separator)
    return [part.strip() for part in parts]


def is_list_text(label: str) -> bool:
    """Whether a label is a list as text, ``"['A', 'B']"``."""
    text = label.strip()
    inner = text[1:-1].rstrip(",")
    return text[:1] + text[-1:] in ("[]", "()") and len(inner) > 2 and inner[0] + inner[-1] in ("''", '""')


def is_balanced(name: str) -> bool:
    """Whether every bracket that is opened is closed, and none is closed that was not opened."""
    awaited: list[str] = []
    for sign in name:
        if sign in _BRACKETS:
            awaited.append(_BRACKETS[sign])
        elif sign in _BRACKETS.values() and (not awaited or awaited.pop() != sign):
            return False
    return not awaited


def by_part[V](
    given: Sequence[V], spelled: Sequence[str], parts: tuple[str, ...], label: str, kind: str
) -> tuple[V, ...]:
    """Deal out what was given in the order of the label to the sorted parts."""
    if len(given) == 1:
        return tuple(given) * len(parts)
    if len(given) != len(spelled):
        raise ConditionError(
            f"{len(given)} {kind}s for {len(spelled)} perturbations",
            where=label,
            remedy=f"Give one {kind} for each part, or one for all.",
        )
    by_name = dict(zip(spelled, given, strict=True))
    return tuple(by_name[part] for part in parts)
