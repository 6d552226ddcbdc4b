"""Whether two names are one, spelled in two ways: another gene or drug often has nearly the same name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

# letters that the word has at least: of two swapped, of one too many or too few, of another one
_SWAPPED, _MISSING, _REPLACED = 4, 5, 9
_SEPARATOR = re.compile(r"[^0-9a-z]+")
_CANDIDATES = 20


def nearest_spelling(name: str, known: Sequence[str]) -> str | None:
    """Return the known name of which a name is another spelling; ``None`` where there is none."""
    alike = {_joined(other): other for other in reversed(known)}
    same = alike.get(_joined(name)) if _joined(name) else None
    if same is not None:
        return same
    candidates = get_close_matches(name.casefold(), alike, n=_CANDIDATES, cutoff=0.6)
    return next((alike[other] for other in candidates if is_misspelled(name, alike[other])), None)


def is_misspelled(name: str, known: str) -> bool:
    """Whether a name is another that was typed wrongly: two letters swapped, or one letter of a word.

    A code, with digits beside its letters or in capitals alone, may have swapped letters; with another letter or
    number it is another code, ``IFNG`` beside ``IFNB``.
    """
    if re.findall(r"\d+", name) != re.findall(r"\d+", known):
        return False
    first, second = _joined(name), _joined(known)
    before = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    before = min(len(first), len(second)) if before is None else before
    rest, other = first[before:], second[before:]
    if rest[:2] == other[1::-1] and rest[2:] == other[2:] and len(rest) > 1 and rest[:2].isalpha():
        return len(first) >= _SWAPPED
    if _is_code(name) or _is_code(known):
        return False
    longer = max(len(first), len(second))
    if rest[1:] == other or rest == other[1:]:
        return longer >= _MISSING
    return rest[1:] == other[1:] and rest[:1].isalpha() and longer >= _REPLACED


def _joined(name: str) -> str:
    """A name without capitals and separators."""
    return _SEPARATOR.sub("", name.casefold())


def _is_code(name: str) -> bool:
    """Whether a part of a name is a code rather than a word."""
    parts = re.split(r"[^0-9A-Za-z]+", name)
    return any(re.search(r"[A-Za-z]\d|\d[A-Za-z]", part) or (part.isupper() and part.isalpha()) for part in parts)
