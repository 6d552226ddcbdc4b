"""The perturbations a data set knows, found by name in whatever order a combination is spelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from transpert._signatures import as_annotated, check_fields
from transpert.errors import ControlError, UnknownNameError

from .condition import Condition
from .labels import Controls, LabelFormat


@dataclass(frozen=True)
class PerturbationVocabulary:
    """The perturbation labels of a data set and the single perturbations in them.

    Parameters
    ----------
    labels
        The labels as the data spells them, controls included.
    control
        The label of control cells, several, or a pattern, as for :meth:`transpert.SCALE.setup_anndata`; or a
        ``LabelFormat``, which also says what joins combinations.
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
    control: Controls
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, but=("control",))
        if not any(map(self.label_format.is_control, self.labels)):
            what, remedy = self.label_format.why_no_control(self.labels)
            raise ControlError(what, where="the perturbation column", remedy=remedy)

    @cached_property
    def label_format(self) -> LabelFormat:
        """How the labels are written."""
        return LabelFormat.of(self.control)

    @property
    def parts(self) -> tuple[str, ...]:
        """The single perturbations, sorted."""
        return tuple(sorted({part for parts in self._spellings for part in parts}))

    @as_annotated()
    def spelling(self, label: str) -> str:
        """Return the data's own spelling of a label, or the sorted one for a combination that the data lack.

        Parameters
        ----------
        label
            A perturbation, or a combination in any order.

        Returns
        -------
        The label as the data has it; that of controls for what is no perturbation.
        """
        return self.spelling_of(self.label_format.parts(label))

    def spelling_of(self, parts: tuple[str, ...]) -> str:
        """Return the data's own label for sorted parts, or one in the same format for parts that the data lack.

        Parameters
        ----------
        parts
            The single perturbations, sorted; none for controls.
        """
        if not parts:
            return self.label_format.control
        return self._spellings.get(parts) or self.label_format.join(parts)

    @as_annotated()
    def read(self, label: str) -> Condition:
        """Read a label as the data has it, or else the text of a condition.

        Parameters
        ----------
        label
            A label of the data, or a text such as ``"KLF1+MAP2K6, dose 1"``.

        Returns
        -------
        The condition; a label of the data says no more than the perturbations.
        """
        if label in self._known_labels:
            return Condition(self.label_format.parts(label))
        return Condition.read(label, self.label_format)

    @cached_property
    def _known_labels(self) -> frozenset[str]:
        return frozenset(self.labels)

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
            found.setdefault(self.label_format.parts(label), label)
        return found

    @cached_property
    def _measured(self) -> dict[tuple[str, ...], tuple[Condition, ...]]:
        found: dict[tuple[str, ...], list[Condition]] = {}
        for condition in self.conditions:
            found.setdefault(condition.parts, []).append(condition)
        return {parts: tuple(conditions) for parts, conditions in found.items()}

    @as_annotated()
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
        unknown = sorted({part for label in labels for part in self.label_format.parts(label)} - known)
        if unknown:
            raise UnknownNameError("perturbation", unknown, sorted(known))
