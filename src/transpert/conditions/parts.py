"""The parts of a label: what ``+`` separates, and what it does not."""

from __future__ import annotations

from transpert import _keys

_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def split_parts(label: str) -> list[str]:
    """Take a label apart at every ``+`` that is not in brackets."""
    parts, awaited = [""], list[str]()
    for sign in label:
        if sign in _BRACKETS:
            awaited.append(_BRACKETS[sign])
        elif awaited and sign == awaited[-1]:
            awaited.pop()
        if sign == _keys.COMBINATION and not awaited:
            parts.append("")
        else:
            parts[-1] += sign
    if awaited:  # a bracket that is never closed holds nothing together
        parts = label.split(_keys.COMBINATION)
    return [part.strip() for part in parts]


def is_balanced(name: str) -> bool:
    """Whether every bracket that is opened is closed, and none is closed that was not opened."""
    awaited: list[str] = []
    for sign in name:
        if sign in _BRACKETS:
            awaited.append(_BRACKETS[sign])
        elif sign in _BRACKETS.values() and (not awaited or awaited.pop() != sign):
            return False
    return not awaited
