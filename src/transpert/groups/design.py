"""The experimental design: which columns of ``obs`` say what was done to a cell, and where it came from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._amounts import check_amounts
from transpert._arguments import check_arguments, check_names, check_text, named_options
from transpert._signatures import as_annotated
from transpert.conditions.labels import LabelFormat, control_labels
from transpert.conditions.lookalikes import check_spellings, report_labels, report_nothing_given
from transpert.conditions.text import AMOUNT_KINDS, CONDITION_KINDS
from transpert.errors import ControlError, OptionError, UnknownNameError, check_known, list_names

from .labels import check_labelled, label_codes


@named_options()
@dataclass(frozen=True, slots=True)
class Design:
    """The columns of ``obs`` that describe an experiment.

    Parameters
    ----------
    perturbation_key
        Column with the perturbation; combinations as ``"A+B"``, in any order. ``"perturbation"`` by default.
    control
        The label of control cells in that column, ``"control"`` by default; several, ``["AAVS1", "NT"]``, or patterns,
        ``"non-targeting*"`` or a compiled regular expression, are pooled. The first label stands for all of them;
        ``"control"`` does where there are only patterns.
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
    combination_separator
        What joins the parts of a combination in that column, ``"_"`` in ``"A_B"``. With ``","``, lists as text,
        ``"['A', 'B']"``, are combinations too.
    further_controls
        The labels and patterns of ``control`` but for the one that stands for all; not for users.

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
    control: Any = "control"  # any Controls when a design is made; afterwards the one label that stands for them
    context_keys: tuple[str, ...] = ()
    batch_key: str | None = None
    dose_key: str | None = None
    time_key: str | None = None
    split_key: str | None = None
    direction_key: str | None = None
    combination_separator: str = _keys.COMBINATION
    further_controls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_text(self.perturbation_key, name="perturbation_key")
        check_arguments({column: getattr(self, column) for column in self.__slots__})
        keys = () if self.context_keys is None else tuple(check_names(self.context_keys, name="context_keys"))
        object.__setattr__(self, "context_keys", keys)
        # a design made from another one names all its controls again
        controls = [*control_labels(self.control), *control_labels(self.further_controls, empty=True)]
        labels = LabelFormat.of(controls, self.combination_separator)
        object.__setattr__(self, "control", labels.control)
        object.__setattr__(self, "further_controls", labels.further_controls)
        repeated = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if repeated:
            raise OptionError(
                f"one column has two roles: {list_names(repeated)}",
                where="the design",
                remedy="Name another column for one of them, or leave it out.",
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that the design names."""
        perturbation, *others = (getattr(self, name) for name in self._roles())
        return (perturbation, *self.context_keys, *_columns_set(*others))

    @classmethod
    def _roles(cls) -> list[str]:
        """Return the fields that name one column, that of the perturbation first."""
        return [field.name for field in fields(cls) if field.name.endswith("_key")]

    @as_annotated()
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
            # the one column of a design that this package writes
            remedy = "Call tp.pp.split(adata, ...) first." if absent == [self.split_key] == [_keys.SPLIT] else None
            raise UnknownNameError("column", absent, map(str, obs.columns), where="obs", remedy=remedy)
        check_labelled(obs, (self.perturbation_key,), label_format=self.label_format)
        check_labelled(obs, (*self.context_keys, *_columns_set(self.batch_key, self.split_key)))
        for column in self.amount_columns:
            check_amounts(obs[column], where=f"obs[{column!r}]", separator=self.combination_separator)
        if not need_controls:
            return
        _, labels = label_codes(obs[self.perturbation_key])
        if not any(map(self.label_format.is_control, map(str, labels))):
            what, remedy = self.label_format.why_no_control(labels)
            raise ControlError(what, where=f"obs[{self.perturbation_key!r}]", remedy=remedy)

    @property
    def label_format(self) -> LabelFormat:
        """How the perturbation column is written."""
        return LabelFormat(self.control, self.further_controls, self.combination_separator)

    @property
    def controls(self) -> list[str]:
        """All labels and patterns of controls."""
        return [self.control, *self.further_controls]

    @property
    def named_controls(self) -> str:
        """The labels and patterns of controls, for a message."""
        return self.label_format.named_controls

    @as_annotated()
    def control_cells(self, obs: pd.DataFrame) -> np.ndarray:
        """Return which cells are controls.

        Parameters
        ----------
        obs
            The annotation of the cells.

        Returns
        -------
        Mask ``(n_obs,)`` bool.

        Raises
        ------
        transpert.errors.UnknownNameError
            If there is no column of perturbations.

        Examples
        --------
        >>> import pandas as pd
        >>> from transpert.groups import Design
        >>> Design("perturbation", ["DMSO", "NT*"]).control_cells(pd.DataFrame({"perturbation": ["NT1", "A"]})).tolist()
        [True, False]
        """
        check_known("column", [self.perturbation_key], obs, where="obs")
        return self.label_format.control_cells(obs[self.perturbation_key])

    @as_annotated()
    def report_labels(self, obs: pd.DataFrame, genes: Iterable[str] = ()) -> None:
        """Report labels that look like other controls, combinations written otherwise, or guides of one target.

        Parameters
        ----------
        obs
            The annotation of the cells.
        genes
            Names of genes, which combinations may join.

        Warns
        -----
        transpert.errors.AssumptionWarning
            If there are any, by name; also of labels that differ in capitals alone, and of doses and times of 0.

        Raises
        ------
        transpert.errors.ConditionError
            If labels differ in blanks alone.

        Examples
        --------
        >>> import pandas as pd
        >>> from transpert.groups import Design
        >>> Design("perturbation", "control").report_labels(pd.DataFrame({"perturbation": ["control", "A"]}))
        """
        if self.perturbation_key not in obs:
            return  # whoever reads the groups refuses that by name
        for column in (self.perturbation_key, *self.context_keys, *_columns_set(self.batch_key)):
            if column in obs:
                check_spellings(label_codes(obs[column])[1], where=f"obs[{column!r}]")
        codes, labels = label_codes(obs[self.perturbation_key])
        perturbed = ~np.array([self.label_format.is_control(str(label)) for label in labels], dtype=bool)[codes]
        for column in self.amount_columns:
            if column in obs:
                amounts = pd.to_numeric(obs[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
                report_nothing_given(int((perturbed & (amounts == 0)).sum()), where=f"obs[{column!r}]")
        report_labels(labels, self.label_format, where=f"obs[{self.perturbation_key!r}]", genes=genes)

    @as_annotated()
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

    @as_annotated()
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
        columns: dict[str, Any] = {role: getattr(self, role) for role in self._roles()}
        renamed = {role: names.get(column, column) for role, column in columns.items() if column is not None}
        contexts = tuple(names.get(column, column) for column in self.context_keys)
        return replace(self, context_keys=contexts, **renamed)

    @property
    def condition_keys(self) -> dict[str, str]:
        """Columns of the dose, the time and the direction, where the design has them.

        Examples
        --------
        >>> from transpert.groups import Design
        >>> Design("perturbation", "control", time_key="hours").condition_keys
        {'time': 'hours'}
        """
        named = {kind: getattr(self, f"{kind}_key") for kind in CONDITION_KINDS}
        return {kind: key for kind, key in named.items() if key is not None}

    @property
    def amount_columns(self) -> list[str]:
        """Columns of the dose and the time, where the design has them."""
        return [key for kind, key in self.condition_keys.items() if kind in AMOUNT_KINDS]

    def setup_arguments(self, **others: Any) -> dict[str, Any]:
        """Return the design as arguments of ``setup_anndata``, with others in their places.

        Parameters
        ----------
        **others
            Arguments that differ from the design or are not in it.

        Examples
        --------
        >>> from transpert.groups import Design
        >>> Design("perturbation", "control", time_key="hours").setup_arguments(layer="counts")["time_key"]
        'hours'
        """
        values = {**asdict(self), "control": self.controls, "context_keys": list(self.context_keys), **others}
        return {name: value for name, value in values.items() if value is not None and name != "further_controls"}

    def to_dict(self) -> dict[str, Any]:
        """Return the design as plain data that JSON can hold."""
        names = ("context_keys", "further_controls")
        return asdict(self) | {name: list(getattr(self, name)) for name in names}

    @classmethod
    @as_annotated()
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a design from what :meth:`to_dict` returned."""
        lists: dict[str, Any] = {
            name: tuple(values[name])
            for name in ("context_keys", "further_controls")
            if isinstance(values.get(name), list | tuple | np.ndarray)
        }
        return cls(**{**values, **lists})


def _columns_set(*columns: str | None) -> list[str]:
    """Return the columns that a design has."""
    return [column for column in columns if column is not None]
