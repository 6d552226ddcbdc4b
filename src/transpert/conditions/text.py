"""Conditions, contexts and populations as text, written and read in one place, without loss.

``"A+B, dose 0.1+10, time 24, direction CRISPRa+CRISPRi"`` is a condition: the names of its perturbations, sorted, and
what is said of them, once where it is the same for all. ``"B: A+B, dose 1"`` is a population, a condition in a context.
A name that could be read as something else stands in double quotes, as JSON writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from transpert import _keys
from transpert._amounts import is_number, split_amounts, written_amount
from transpert.errors import ConditionError

from .labels import LabelFormat
from .parts import by_part, is_balanced, split_parts

# what a condition says beside the perturbations: each kind has a column of the design, and a word in the text
AMOUNT_KINDS = ("dose", "time")
CONDITION_KINDS = (*AMOUNT_KINDS, "direction")
_CONTROL = "control"
_CONTROL_NAMES = frozenset({"control", "ctrl"})
_UNSAID = "nan"
_CONTEXT_SEPARATOR = " | "
_POPULATION_SEPARATOR = ": "
_TAG = re.compile(rf", ({'|'.join(CONDITION_KINDS)}) ")
_QUOTED = re.compile(r'(?<![^\s+])"(?:[^"\\]|\\.)*"(?=$|[+,:\s])', re.DOTALL)
_HELD = "\ue000"  # on both sides of the number of a text in quotes, while what is around it is taken apart
_HELD_NUMBER = re.compile(f"{_HELD}(\\d+){_HELD}")
# the second stands for the first where a file can hold no slash
_SLASH, _WRITABLE_SLASH = "/", "\u2215"

type Fields = tuple[tuple[str, ...], tuple[float | None, ...], float | None, tuple[str | None, ...]]


def write_condition(
    parts: Sequence[str], doses: Sequence[float | None], time: float | None, directions: Sequence[str | None]
) -> str:
    """Write what was done as text that :func:`read_fields` reads back; ``"control"`` where nothing was."""
    said = [_keys.COMBINATION.join(map(_name, parts)) if parts else _CONTROL]
    if any(dose is not None for dose in doses):
        said.append(f"dose {_shared([_UNSAID if dose is None else written_amount(dose) for dose in doses])}")
    if time is not None:
        said.append(f"time {written_amount(time)}")
    if any(direction is not None for direction in directions):
        said.append(f"direction {_shared([_UNSAID if way is None else _direction(way) for way in directions])}")
    return ", ".join(said)


def read_fields(text: str, label_format: LabelFormat | None = None) -> Fields:
    """Read parts, doses, time and directions; the labels of a data set are read too, if its format is given."""
    bare, held = _without_quotes(text)
    written, *tags = _TAG.split(bare)
    said = dict(zip(tags[::2], tags[1::2], strict=True))
    if len(said) < len(tags) // 2:
        raise ConditionError(
            f"{text!r} says a dose, time or direction twice",
            remedy="Write a name that contains such a word in double quotes.",
        )
    time = _number(said["time"], text, "time") if "time" in said else None
    if written == _CONTROL or (label_format is not None and not held and label_format.is_control(written)):
        return (), (), time, ()
    names = _split(written, label_format)
    spelled = [_restored(name, held) for name in names]
    parts = tuple(sorted(_restored(name, held) for name in _without_controls(names, label_format)))
    doses = [_number(dose, text, "dose") for dose in split_amounts(said.get("dose", _UNSAID))]
    ways = said.get("direction", _UNSAID).split(_keys.COMBINATION)
    directions = [None if way == _UNSAID else _restored(way, held) for way in ways]
    given_doses = by_part(doses, spelled, parts, text, "dose")
    return parts, given_doses, time, by_part(directions, spelled, parts, text, "direction")


def context_text(values: Sequence[str]) -> str:
    """Write the values of the context columns as the name of a context; one value is its own name."""
    if len(values) == 1:
        return values[0]
    plain = [value == value.strip() and not set(value) & {"|", '"', _HELD} for value in values]
    return _CONTEXT_SEPARATOR.join(
        value if is_plain else json.dumps(value, ensure_ascii=False)
        for value, is_plain in zip(values, plain, strict=True)
    )


def population_text(context: str, condition: object) -> str:
    """Write a population: a context, and a condition or its text."""
    ambiguous = _POPULATION_SEPARATOR in context or set(context) & {'"', _WRITABLE_SLASH, _HELD}
    return f"{_quoted(context) if ambiguous else context}{_POPULATION_SEPARATOR}{condition}"


def split_population(text: str) -> tuple[str, str]:
    """Take the text of a population apart into the name of a context and the text of a condition."""
    bare, held = _without_quotes(text)
    context, between, condition = bare.partition(_POPULATION_SEPARATOR)
    if not between:
        raise ConditionError(
            f"{text!r} is no population", remedy="Write the context, a colon, a space and the condition."
        )
    return _restored(context, held), _HELD_NUMBER.sub(lambda found: held.get(found[0], found[0]), condition)


def _split(written: str, label_format: LabelFormat | None) -> list[str]:
    """Split a label where this package or the data joins names."""
    parts = split_parts(written)
    return parts if label_format is None else [part for joined in parts for part in label_format.split(joined)]


def _without_controls(names: list[str], label_format: LabelFormat | None) -> list[str]:
    """Leave out the control labels in a combination, as in ``"A+ctrl"``."""
    if label_format is None or len(names) == 1:
        return names
    return [name for name in names if not label_format.is_control_part(name)]


def _name(name: str) -> str:
    """Write the name of a perturbation, in quotes where it would be read as something else."""
    plain = name == name.strip() and is_balanced(name) and name.lower() not in _CONTROL_NAMES and _is_plain(name)
    return name if plain else _quoted(name)


def _direction(direction: str) -> str:
    """Write a direction, in quotes where it would be read as something else."""
    plain = direction.strip() == direction and _keys.COMBINATION not in direction and _is_plain(direction)
    return direction if plain and direction not in ("", _UNSAID) else _quoted(direction)


def _is_plain(name: str) -> bool:
    return _TAG.search(name) is None and not set(name) & {'"', _HELD, _WRITABLE_SLASH}


def _quoted(text: str) -> str:
    # what replaces slashes in names of files must find none
    return json.dumps(text, ensure_ascii=False).replace(_SLASH, "\\u002f")


def _without_quotes(text: str) -> tuple[str, dict[str, str]]:
    """Put a number in the place of every text in quotes, and return these texts by it."""
    held: dict[str, str] = {}

    def hold(found: re.Match[str]) -> str:
        number = f"{_HELD}{len(held)}{_HELD}"
        held[number] = found[0]
        return number

    return _QUOTED.sub(hold, text), held


def _restored(part: str, held: Mapping[str, str]) -> str:
    """Return a name as it was before it was written."""
    return _unquoted(part, held) if part in held else _unquoted(part.replace(_WRITABLE_SLASH, _SLASH), held)


def _unquoted(part: str, held: Mapping[str, str]) -> str:
    """Return what stands in quotes; quotes around some of a name belong to it."""
    if part in held:
        try:
            return json.loads(held[part], strict=False)
        except ValueError:
            return held[part]
    return _HELD_NUMBER.sub(lambda found: held.get(found[0], found[0]), part)


def _shared(values: Sequence[str]) -> str:
    """Write the value of each part, once where it is the same for all."""
    return values[0] if len(set(values)) == 1 else _keys.COMBINATION.join(values)


def _number(written: str, text: str, kind: str) -> float | None:
    if written.strip() == _UNSAID:
        return None
    if not is_number(written):
        raise ConditionError(f"the {kind} {written!r} is not a number", where=text, remedy="Write a number.")
    return float(written)
