"""One condition: which perturbations, in which direction, at which doses, after what time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._amounts import rounded, split_amounts
from transpert._signatures import as_annotated, check_fields
from transpert.errors import ConditionError

from .labels import Controls, LabelFormat
from .parts import by_part, split_parts
from .text import read_fields, write_condition
from .written import label_text


@dataclass(frozen=True, slots=True)
class Condition:
    """What was done to a population of cells.

    Two conditions are equal when the same perturbations were given at the same doses for the same time, in
    whatever order they were written. The control condition has no parts. Doses and times are rounded to the six digits
    that labels carry, so that a dose read back from a label, or held in 32 bits, is the dose that it was.

    Parameters
    ----------
    parts
        Names of the perturbations, sorted. Empty for controls.
    doses
        Dose of each part, in the unit of the data; ``None`` where no dose is recorded. Defaults to ``None`` for each.
    time
        Time since the perturbation, in the unit of the data, or ``None``.
    directions
        What was done to each part, for example ``"CRISPRi"``, ``"CRISPRa"`` or ``"knock-out"``; ``None`` where it is
        not said. The same gene in another direction is another condition.

    Raises
    ------
    transpert.errors.ConditionError
        If a dose is negative or not finite, doses or directions and parts differ in number, a part occurs twice, is
        empty or contains ``+``, or parts or directions are one string.

    Examples
    --------
    >>> from transpert.conditions import Condition
    >>> Condition(("MAP2K6", "KLF1")) == Condition(("KLF1", "MAP2K6"))
    True
    >>> Condition(("KLF1", "MAP2K6")).label
    'KLF1+MAP2K6'
    """

    parts: tuple[str, ...] = ()
    doses: tuple[float | None, ...] = ()
    time: float | None = None
    directions: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        for given, kind in ((self.parts, "parts"), (self.directions, "directions")):
            if isinstance(given, str):  # its letters would become parts
                raise ConditionError(
                    f"the {kind} of a condition are the string {given!r}",
                    remedy=f"Write a tuple, ({given!r},), or read a label with parse_condition().",
                )
        check_fields(self)
        for name in ("parts", "doses", "directions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        joined = [part for part in self.parts if len(split_parts(part)) > 1 or not part.strip()]
        if joined:  # "A+B" as one part would be another condition than A with B, under the same label
            raise ConditionError(
                f"{joined[0]!r} is not the name of one perturbation",
                remedy="Write a tuple with a name for each part, or read a label with parse_condition().",
            )
        if len(set(self.parts)) < len(self.parts):
            raise ConditionError(
                f"the condition {_keys.COMBINATION.join(self.parts)!r} names the same perturbation twice",
                remedy="Name each part once, with its dose.",
            )
        directions = self.directions or (None,) * len(self.parts)
        if len(directions) != len(self.parts):
            raise ConditionError(
                f"{len(self.parts)} perturbations but {len(directions)} directions",
                where=_keys.COMBINATION.join(self.parts),
                remedy="Give one direction for each part, or one for all.",
            )
        doses = self.doses or (None,) * len(self.parts)
        if len(doses) != len(self.parts):
            raise ConditionError(
                f"{len(self.parts)} perturbations but {len(doses)} doses",
                where=_keys.COMBINATION.join(self.parts),
                remedy="Give one dose for each part, or one for all.",
            )
        for value, kind in [*((dose, "dose") for dose in doses), (self.time, "time")]:
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConditionError(
                    f"{kind} {value!r} is not a number from 0 upwards",
                    where=self.label if self.parts else None,
                    remedy="Give a finite number from 0 upwards.",
                )
        order = sorted(range(len(self.parts)), key=lambda i: self.parts[i])
        ordered = [doses[i] for i in order]
        object.__setattr__(self, "parts", tuple(self.parts[i] for i in order))
        object.__setattr__(self, "directions", tuple(directions[i] for i in order))
        object.__setattr__(self, "doses", tuple(None if dose is None else rounded(dose) for dose in ordered))
        object.__setattr__(self, "time", None if self.time is None else rounded(self.time))

    @property
    def is_control(self) -> bool:
        """Whether nothing was done to the cells."""
        return not self.parts

    @property
    def is_combination(self) -> bool:
        """Whether more than one perturbation was given."""
        return len(self.parts) > 1

    @property
    def label(self) -> str:
        """The perturbations joined by ``+``, sorted; empty for controls."""
        return _keys.COMBINATION.join(self.parts)

    def singles(self) -> tuple[Condition, ...]:
        """Return the parts as conditions of their own, at the same dose and time."""
        return tuple(
            Condition((part,), (dose,), self.time, (direction,))
            for part, dose, direction in zip(self.parts, self.doses, self.directions, strict=True)
        )

    @property
    def action(self) -> tuple[tuple[str, str | None], ...]:
        """What was perturbed and in which direction, whatever the dose and the time."""
        return tuple(zip(self.parts, self.directions, strict=True))

    @property
    def values(self) -> dict[str, Any]:
        """Doses, time and directions under these names, with a value for each part or one for all of them."""
        return {"dose": self.doses, "time": self.time, "direction": self.directions}

    def __str__(self) -> str:
        """Write the condition as :meth:`read` reads it back."""
        return write_condition(self.parts, self.doses, self.time, self.directions)

    @classmethod
    @as_annotated()
    def read(cls, text: str, label_format: LabelFormat | None = None) -> Self:
        """Read a condition from its text, ``"A+B, dose 0.1+10, time 24"``.

        Parameters
        ----------
        text
            What ``str(condition)`` wrote.
        label_format
            How a data set labels perturbations; its own labels are then read too, whatever joins combinations in it.

        Returns
        -------
        The condition.

        Raises
        ------
        transpert.errors.ConditionError
            If the text cannot be read.

        Examples
        --------
        >>> from transpert.conditions import Condition
        >>> Condition.read("MAP2K6+KLF1, dose 1+2, time 24").doses
        (2.0, 1.0)
        """
        return cls(*read_fields(text, label_format))


def opposed(direction: str | None, other: str | None) -> bool:
    """Whether two directions of a perturbation are known to be different ones."""
    return direction is not None and other is not None and direction != other


def parse_perturbation(label: str, *, control: Controls) -> tuple[str, ...]:
    """Split a perturbation label into the names of its parts, sorted.

    Parameters
    ----------
    label
        A label such as ``"A"``, ``"A+B"`` or ``"A+ctrl"`` (which is ``"A"``).
    control
        The label of control cells, several, or a pattern such as ``"NT-*"``.

    Returns
    -------
    The sorted names; empty for the control label, and for what joins nothing but controls, ``"ctrl+ctrl"``.

    Raises
    ------
    transpert.errors.ConditionError
        If a part is empty or occurs twice, or a ``+`` was not meant as one between parts: it leaves a part without a
        letter or digit, or with brackets that are not closed. In brackets, as in ``"(+)-JQ1"``, it is part of a name.

    Examples
    --------
    >>> from transpert.conditions import parse_perturbation
    >>> parse_perturbation("MAP2K6+KLF1", control="control")
    ('KLF1', 'MAP2K6')
    >>> parse_perturbation("KLF1+ctrl", control="control")
    ('KLF1',)
    """
    return LabelFormat.of(control).parts(label_text(label))


def parse_condition(
    label: str,
    *,
    control: Controls,
    dose: float | str | Sequence[float] | np.ndarray | pd.Series | None = None,
    time: float | str | None = None,
    direction: str | Sequence[str | None] | np.ndarray | pd.Series | None = None,
) -> Condition:
    """Read one condition as it stands in the columns of a data set.

    Parameters
    ----------
    label
        The perturbation label; combinations as ``"A+B"``, in any order.
    control
        The label of control cells, several, or a pattern such as ``"NT-*"``.
    dose
        One dose for all parts, one per part (a sequence, an array, a Series or ``"0.1+10"``, in the order of the
        label), or ``None``. NaN means no dose.
    time
        Time since the perturbation, or ``None``. NaN means no time.
    direction
        One direction for all parts, one per part (a sequence, an array, a Series or ``"CRISPRa+CRISPRi"``, in the
        order of the label), or ``None``. NaN means none.

    Returns
    -------
    The condition. Controls carry no dose, but keep their time.

    Raises
    ------
    transpert.errors.ConditionError
        If the label or a dose cannot be read, or a direction is not text.

    Examples
    --------
    >>> from transpert.conditions import parse_condition
    >>> str(parse_condition("B+A", control="DMSO", dose="10+0.1", time=24))
    'A+B, dose 0.1+10, time 24'
    """
    label, labels = label_text(label), LabelFormat.of(control)
    parts = labels.parts(label)
    moment = _number(time, label, "time")
    if not parts:
        return Condition(time=moment)
    spelled = labels.split(label)
    doses = by_part(_doses(dose, label, labels), spelled, parts, label, "dose")
    ways = by_part(_directions(direction, label, labels), spelled, parts, label, "direction")
    return Condition(parts, doses, moment, ways)


def _directions(direction: object, label: str, labels: LabelFormat) -> list[str | None]:
    """Split the directions of the parts, which are joined by ``+`` or as the parts are."""
    if not isinstance(direction, str):
        return [_direction(value, label) for value in _listed(direction)]
    joined = direction.split(_keys.COMBINATION)
    several = len(joined) > 1 or len(labels.split(label)) < 2
    return [_direction(value, label) for value in (joined if several else labels.split(direction))]


def _direction(value: object, label: str) -> str | None:
    if _is_missing(value):
        return None
    if not isinstance(value, str):
        raise ConditionError(
            f"the direction {value!r} is not text",
            where=label,
            remedy="Directions are words, such as 'CRISPRi', 'CRISPRa' or 'knock-out'; turn codes into text first.",
        )
    return None if value.strip() in ("", "nan") else value.strip()


def _doses(dose: object, label: str, labels: LabelFormat) -> list[float | None]:
    """Split the doses of the parts, which are joined by ``+`` or as the parts are."""
    values = split_amounts(dose, labels.separator) if isinstance(dose, str) else _listed(dose)
    return [_number(value, label, "dose") for value in values]


def _listed(given: object) -> list[object]:
    """Return the values of the parts as a list, from one value for all or one for each."""
    if isinstance(given, np.ndarray) and given.ndim < 2:
        return list(np.atleast_1d(given))
    several = Sequence | pd.Series | pd.Index | pd.api.extensions.ExtensionArray
    return list(given) if isinstance(given, several) and not isinstance(given, bytes) else [given]


def _is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _number(value: object, label: str, kind: str) -> float | None:
    if _is_missing(value):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConditionError(
            f"the {kind} {value!r} is not a number",
            where=label,
            remedy="Give a number in the unit of the data; tp.pp.amounts reads columns such as '10 uM' or '24h'.",
        ) from None
    return None if math.isnan(number) else number
