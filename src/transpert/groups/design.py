"""The experimental design: which columns of ``obs`` say what was done to a cell, and where it came from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import pandas as pd

from transpert.conditions.controls import is_control_label
from transpert.errors import ConditionError, ControlError, OptionError, UnknownNameError, list_names

from .labels import label_codes


@dataclass(frozen=True, slots=True)
class Design:
    """The columns of ``obs`` that describe an experiment.

    Parameters
    ----------
    perturbation_key
        Column with the perturbation; combinations as ``"A+B"``, in any order. ``"perturbation"`` by default.
    control
        The label of control cells in that column; ``"control"`` by default.
    context_keys
        Columns that make a context (cell type, cell line, ...). Empty means that all cells share one context.
    batch_key
        Column with the batch (donor, replicate, plate); controls are matched inside a batch where it has enough.
    dose_key
        Column with the dose, a number or ``"0.1+10"`` for the parts of a combination; NaN for controls.
    time_key
        Column with the time since the perturbation.
    split_key
        Column with ``"train"``, ``"validation"`` and ``"test"``, as written by :func:`transpert.pp.split`.
    direction_key
        Column with the direction of a genetic perturbation (``"CRISPRi"``, ``"CRISPRa"``, ``"knock-out"``), or
        ``"CRISPRa+CRISPRi"`` for the parts of a combination; NaN for controls.

    Raises
    ------
    transpert.errors.OptionError
        If two roles name the same column.

    Examples
    --------
    >>> from transpert.groups import Design
    >>> Design("perturbation", "control", ("cell_type",)).columns
    ('perturbation', 'cell_type')
    """

    perturbation_key: str = "perturbation"
    control: str = "control"
    context_keys: tuple[str, ...] = ()
    batch_key: str | None = None
    dose_key: str | None = None
    time_key: str | None = None
    split_key: str | None = None
    direction_key: str | None = None

    def __post_init__(self) -> None:
        keys = (self.context_keys,) if isinstance(self.context_keys, str) else tuple(self.context_keys)
        object.__setattr__(self, "context_keys", keys)
        object.__setattr__(self, "control", str(self.control))  # columns of numbers are read as text
        repeated = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if repeated:
            raise OptionError(f"one column has two roles: {list_names(repeated)}", where="the design")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that the design names."""
        optional = (self.batch_key, self.dose_key, self.time_key, self.split_key, self.direction_key)
        return (self.perturbation_key, *self.context_keys, *(column for column in optional if column is not None))

    def check(self, obs: pd.DataFrame, *, need_controls: bool = True) -> None:
        """Check that ``obs`` has every column, without gaps where none may be, and has control cells.

        Parameters
        ----------
        obs
            The annotation of the cells.
        need_controls
            Whether cells without controls are refused.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a column does not exist; the nearest one is named.
        transpert.errors.ConditionError
            If a label is missing in some cells.
        transpert.errors.ControlError
            If no cell has a label of controls.
        """
        absent = [column for column in self.columns if column not in obs]
        if absent:
            raise UnknownNameError("column", absent, map(str, obs.columns), where="obs")
        labelled = (self.perturbation_key, *self.context_keys, self.batch_key, self.split_key)
        for column in (column for column in labelled if column is not None):
            missing = int(obs[column].isna().sum())
            if missing:
                raise ConditionError(
                    f"{missing} cells have no value",
                    where=f"obs[{column!r}]",
                    remedy="Name the value or drop the cells.",
                )
        if not need_controls:
            return
        _, labels = label_codes(obs[self.perturbation_key])
        if not any(is_control_label(str(label), control=self.control) for label in labels):
            raise ControlError(
                f"no cell is labelled {self.control!r}",
                where=f"obs[{self.perturbation_key!r}]",
                remedy=f"Pass control= one of its labels: {list_names(sorted(labels))}.",
            )

    def check_not_written(self, written: Collection[str]) -> None:
        """Check that no column has a name under which something else is about to be written.

        Parameters
        ----------
        written
            Names of the columns that are written.

        Raises
        ------
        transpert.errors.OptionError
            If a column has one of these names.

        Examples
        --------
        >>> from transpert.groups import Design
        >>> Design("perturbation", "control", ("tissue",)).check_not_written(["source"])
        """
        taken = [column for column in self.columns if column in written]
        if taken:
            raise OptionError(
                f"the design names columns that would be overwritten: {list_names(taken)}",
                where="obs",
                remedy=f"Rename them, adata.obs = adata.obs.rename(columns={{{taken[0]!r}: 'my_{taken[0]}'}}), and say "
                "so in the design.",
            )

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Return the same design for columns that have other names.

        Parameters
        ----------
        names
            The new name of each column that has one.

        Examples
        --------
        >>> from transpert.groups import Design
        >>> Design("perturbation", "control", ("tissue",)).renamed({"tissue": "organ"}).columns
        ('perturbation', 'organ')
        """

        def new(column: str | None) -> str | None:
            return None if column is None else names.get(column, column)

        return replace(
            self,
            perturbation_key=names.get(self.perturbation_key, self.perturbation_key),
            context_keys=tuple(names.get(column, column) for column in self.context_keys),
            batch_key=new(self.batch_key),
            dose_key=new(self.dose_key),
            time_key=new(self.time_key),
            split_key=new(self.split_key),
            direction_key=new(self.direction_key),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the design as plain data that JSON can hold."""
        return {**asdict(self), "context_keys": list(self.context_keys)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a design from what :meth:`to_dict` returned."""
        contexts: Sequence[str] = values["context_keys"]
        return cls(**{**values, "context_keys": tuple(contexts)})
