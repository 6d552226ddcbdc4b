"""The perturbations a data set knows, found by name in whatever order a combination is spelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from transpert import _keys
from transpert.errors import ControlError, UnknownNameError, list_names

from .condition import Condition, parse_perturbation
from .controls import is_control_label


@dataclass(frozen=True)
class PerturbationVocabulary:
    """The perturbation labels of a data set and the single perturbations they are made of.

    Parameters
    ----------
    labels
        The labels as the data spells them, controls included.
    control
        The label of control cells.
    conditions
        The conditions of the data: what was done, in which direction, at which doses and times.

    Raises
    ------
    transpert.errors.ControlError
        If no label is that of controls.

    Examples
    --------
    >>> from transpert.conditions import PerturbationVocabulary
    >>> vocabulary = PerturbationVocabulary(("control", "KLF1+MAP2K6", "KLF1"), "control")
    >>> vocabulary.parts
    ('KLF1', 'MAP2K6')
    >>> vocabulary.spelling("MAP2K6+KLF1")
    'KLF1+MAP2K6'
    """

    labels: tuple[str, ...]
    control: str
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if not any(is_control_label(label, control=self.control) for label in self.labels):
            raise ControlError(
                f"no cell is labelled {self.control!r}",
                where="the perturbation column",
                remedy=f"Pass control= one of its labels: {list_names(self.labels)}.",
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """The single perturbations, sorted."""
        return tuple(sorted({part for parts in self._spellings for part in parts}))

    def spelling(self, label: str) -> str:
        """Return the data's own spelling of a label, or the sorted one for a combination it never saw.

        Parameters
        ----------
        label
            A perturbation, or a combination in any order.

        Returns
        -------
        The label as the data has it; that of controls for what is no perturbation.
        """
        parts = parse_perturbation(label, control=self.control)
        if not parts:
            return self.control
        return self._spellings.get(parts) or _keys.COMBINATION.join(parts)

    @cached_property
    def directions(self) -> tuple[str, ...]:
        """The directions of the data, sorted."""
        found = {direction for condition in self.conditions for direction in condition.directions if direction}
        return tuple(sorted(found))

    def measured(self, parts: tuple[str, ...]) -> tuple[Condition, ...]:
        """Return the conditions of the data in which just these perturbations were given.

        Parameters
        ----------
        parts
            The single perturbations, sorted, as :func:`transpert.conditions.parse_perturbation` returns them.

        Returns
        -------
        The conditions, of whatever dose, time and direction; none for what was not measured.
        """
        return self._measured.get(parts, ())

    @cached_property
    def _spellings(self) -> dict[tuple[str, ...], str]:
        """The first label of every combination; looked up for each of thousands of conditions."""
        found: dict[tuple[str, ...], str] = {}
        for label in self.labels:
            found.setdefault(parse_perturbation(label, control=self.control), label)
        return found

    @cached_property
    def _measured(self) -> dict[tuple[str, ...], tuple[Condition, ...]]:
        found: dict[tuple[str, ...], list[Condition]] = {}
        for condition in self.conditions:
            found.setdefault(condition.parts, []).append(condition)
        return {parts: tuple(conditions) for parts, conditions in found.items()}

    def require(self, labels: Iterable[str]) -> None:
        """Check that every part of every label is known.

        Parameters
        ----------
        labels
            Perturbations, or combinations of them.

        Raises
        ------
        transpert.errors.UnknownNameError
            If some are not; all of them are named.
        """
        known = set(self.parts)
        unknown = sorted({part for label in labels for part in parse_perturbation(label, control=self.control)} - known)
        if unknown:
            raise UnknownNameError("perturbation", unknown, sorted(known))
