"""How the perturbation column is written: which labels are controls, and what joins the parts of a combination."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._arguments import is_several
from transpert.errors import ConditionError, OptionError, list_names

from .parts import is_balanced, split_parts
from .written import label_text, label_texts

type Controls = str | re.Pattern[str] | Iterable[object] | LabelFormat

# GEARS and its descendants write a single perturbation as "A+ctrl"
_CONTROL_PARTS = frozenset({"ctrl", "control"})
_POOLED = "control"  # how controls are written that only patterns name
_EXPRESSION = "re:"  # what a compiled pattern starts with once it is text
_ANY = "*"


@dataclass(frozen=True)
class LabelFormat:
    """How a data set labels its perturbations.

    Parameters
    ----------
    control
        The label under which control cells are written.
    further_controls
        Other labels that mean controls, pooled with it. A ``*`` stands for any text, ``"non-targeting*"``, and
        ``"re:"`` is followed by a regular expression that fits a whole label.
    separator
        What joins the parts of a combination.

    Raises
    ------
    transpert.errors.OptionError
        If a pattern cannot be read, or the separator could be part of any name.

    Examples
    --------
    >>> from transpert.conditions.labels import LabelFormat
    >>> labels = LabelFormat.of(["DMSO", "NT-*"], separator="_")
    >>> labels.is_control("NT-3"), labels.parts("KLF1_MAP2K6"), labels.control
    (True, ('KLF1', 'MAP2K6'), 'DMSO')
    """

    control: str = _POOLED
    further_controls: tuple[str, ...] = ()
    separator: str = _keys.COMBINATION

    def __post_init__(self) -> None:
        sign = self.separator
        if not isinstance(sign, str) or not sign.strip() or any(s.isalnum() or s in "()[]{}'\"" for s in sign):
            raise OptionError(
                f"combination_separator is {sign!r}",
                remedy="Give the sign between the parts of a combination, such as '_' in 'KLF1_MAP2K6'.",
            )
        _ = self._expressions  # those that cannot be read are refused here

    @classmethod
    def of(cls, control: Controls, separator: str | None = None) -> LabelFormat:
        """Return the format for a label of controls, a pattern, or several of these; a format is returned as it is."""
        if isinstance(control, LabelFormat):
            return control if separator is None else replace(control, separator=separator)
        labels = control_labels(control)
        named = next((label for label in labels if not _is_pattern(label)), _POOLED)
        further = tuple(label for label in labels if label != named)
        return cls(named, further, _keys.COMBINATION if separator is None else separator)

    def is_control(self, label: str) -> bool:
        """Whether a label says that nothing was done to the cells, as ``"ctrl+ctrl"`` of two guides does."""
        if self._names_control(label):
            return True
        parts = self.split(label)
        return (len(parts) > 1 or parts[0] != label.strip()) and all(map(self.is_control_part, parts))

    def is_control_part(self, part: str) -> bool:
        """Whether a part of a combination, as in ``"A+ctrl"``, names no perturbation."""
        return part.lower() in _CONTROL_PARTS or self._names_control(part)

    def split(self, label: str) -> list[str]:
        """Take a label apart, in its order, with the parts that are controls; empty parts are kept."""
        return split_parts(label, self.separator)

    def parts(self, label: str) -> tuple[str, ...]:
        """Return the sorted names in a label; none for controls."""
        if self.is_control(label):
            return ()
        parts = self.split(label)
        if not all(parts):
            raise ConditionError(
                f"the perturbation label {label!r} has an empty part",
                remedy=f"Write combinations as {self.join('AB')!r}, and {self._rename}",
            )
        if len(parts) > 1:
            parts = [part for part in parts if not self.is_control_part(part)]
            self._check_names(parts, label)
        if len(set(parts)) < len(parts):
            raise ConditionError(
                f"the perturbation label {label!r} names the same perturbation twice",
                remedy="Name each perturbation of a combination once.",
            )
        return tuple(sorted(parts))

    def join(self, parts: Iterable[str]) -> str:
        """Write a combination as the data does."""
        return self.separator.join(parts)

    def control_cells(self, perturbations: pd.Series) -> np.ndarray:
        """Return which cells are controls, ``(n_obs,)`` bool, from the column with the perturbation."""
        # every distinct label is looked at once: there are few of them and many cells
        codes, distinct = pd.factorize(perturbations, use_na_sentinel=False)
        labels = label_texts(pd.Series(distinct))
        return np.array([self.is_control(str(label)) for label in labels], dtype=bool)[codes]

    @property
    def named_controls(self) -> str:
        """The labels and patterns of controls, for a message."""
        labels = self.further_controls if self._is_only_patterns else (self.control, *self.further_controls)
        return " or ".join(map(repr, labels))

    def why_no_control(self, labels: Iterable[str]) -> tuple[str, str]:
        """Return what is wrong where no label is one of controls, and what to do about it."""
        known = list_names(sorted(map(str, labels)))
        return (
            f"no cell is labelled {self.named_controls}",
            f"Pass control= one of its labels, several, or a pattern such as 'NT*': {known}.",
        )

    @property
    def _rename(self) -> str:
        return f"rename a perturbation with a {self.separator!r} in its own name."

    def _check_names(self, parts: Sequence[str], label: str) -> None:
        """Refuse the pieces of a control label that contains the separator."""
        strange = [part for part in parts if not (any(map(str.isalnum, part)) and is_balanced(part))]
        if strange:
            raise ConditionError(
                f"the perturbation label {label!r} has a part {strange[0]!r}, which is no name",
                remedy=f"{self.separator!r} separates the parts of a combination: {self._rename}",
            )

    @property
    def _is_only_patterns(self) -> bool:
        return bool(self.further_controls) and self.control == _POOLED and all(map(_is_pattern, self.further_controls))

    def _names_control(self, label: str) -> bool:
        return label == self.control or any(expression.fullmatch(label) for expression in self._expressions)

    @cached_property
    def _expressions(self) -> tuple[re.Pattern[str], ...]:
        return tuple(map(_expression, self.further_controls))


def control_labels(control: Controls, *, empty: bool = False) -> list[str]:
    """Return labels and patterns of controls as a list of text that a file can hold."""
    if isinstance(control, LabelFormat):
        return [control.control, *control.further_controls]
    several = is_several(control)
    given: list[object] = list(control) if several else [control]  # type: ignore[arg-type, call-overload]
    if not given and not empty:
        raise OptionError("no label of controls is given", where="control=", remedy="Give at least one label.")
    return list(dict.fromkeys(map(_control_text, given)))


def _control_text(label: object) -> str:
    """Write a label, or a compiled pattern, as text."""
    return _EXPRESSION + label.pattern if isinstance(label, re.Pattern) else label_text(label)


def _is_pattern(label: str) -> bool:
    """Whether a label of controls stands for several."""
    return label.startswith(_EXPRESSION) or _ANY in label


def _expression(label: str) -> re.Pattern[str]:
    """Compile a label or pattern, and refuse a pattern that cannot be read."""
    if not label.startswith(_EXPRESSION):
        return re.compile(".*".join(map(re.escape, label.split(_ANY))), re.DOTALL)
    try:
        return re.compile(label.removeprefix(_EXPRESSION), re.DOTALL)
    except re.error as error:
        raise OptionError(
            f"{label!r} is no regular expression: {error}", where="control=", remedy="Correct the expression."
        ) from None
