"""Effects that other screens measured, as a further source of predictions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from transpert._arguments import check_number, refused
from transpert._signatures import check_fields
from transpert.conditions import Condition
from transpert.errors import OptionError, list_names

from .coefficients import rows_by
from .shrinkage import shrink_effects


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Effects that another screen measured: other contexts, perhaps other genes, some of the same perturbations.

    Given to a model as ``evidence=``, it counts beside the model's own effects by a weight that is fitted on what it
    says of the model's own groups while they are left out; a screen that does not help there gets the weight 0. It
    must not hold cells that predictions will be scored on.

    Parameters
    ----------
    conditions
        Condition of each effect.
    contexts
        Context of each effect; an empty text where it is of no context of yours. Effects in the very context that is
        asked for come before all others.
    genes
        Names of the genes.
    log_fold : (Q, G)
        Natural-log fold changes of mean counts; NaN where a gene was not measured.
    variance : (Q, G)
        Their sampling variances.
    name
        Name in messages and in ``summary()``.

    Examples
    --------
    >>> import pandas as pd
    >>> from transpert.transport import Evidence
    >>> table = pd.DataFrame({"GBP1": [1.2], "ACTB": [0.0]}, index=["IFNG"])
    >>> Evidence.from_frame(table, name="a screen of last year").perturbations
    ('IFNG',)
    """

    conditions: tuple[Condition, ...]
    contexts: tuple[str, ...]
    genes: tuple[str, ...]
    log_fold: np.ndarray
    variance: np.ndarray
    name: str = "evidence"
    _by_condition: dict[Hashable, np.ndarray] = field(init=False, repr=False)
    _by_action: dict[Hashable, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("conditions", "contexts", "genes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        shape = (len(self.conditions), len(self.genes))
        for name in ("log_fold", "variance"):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != shape or np.isinf(values).any():
                raise refused(name, values, f"Give numbers of the shape {shape}: effects x genes, NaN if not measured.")
            object.__setattr__(self, name, values)
        if len(self.contexts) != len(self.conditions) or not self.conditions or not self.genes:
            remedy = "Give at least one effect and one gene, and a condition and a context for each effect."
            raise OptionError("there are no effects, or their names differ in number", where=self.name, remedy=remedy)
        if len(set(self.genes)) < len(self.genes):
            repeated = sorted({gene for gene in self.genes if self.genes.count(gene) > 1})
            raise OptionError(
                f"genes occur twice: {list_names(repeated)}", where=self.name, remedy="Give each gene once."
            )
        if not (np.nan_to_num(self.variance) >= 0).all():
            raise refused("variance", self.variance, "Give squares of standard errors.")
        # effects are asked for thousands of times, of sources with thousands of conditions
        object.__setattr__(self, "_by_condition", rows_by((condition,) for condition in self.conditions))
        object.__setattr__(self, "_by_action", rows_by((condition.action,) for condition in self.conditions))

    @classmethod
    def from_frame(
        cls,
        log_fold: pd.DataFrame,
        standard_errors: pd.DataFrame | None = None,
        *,
        contexts: Sequence[str] | None = None,
        base: float = math.e,
        name: str = "evidence",
    ) -> Self:
        """Make evidence of a table of log fold changes, such as a package for differential expression writes.

        Parameters
        ----------
        log_fold : (Q, G)
            One row an effect, its index the conditions (``"A"``, ``"A+B"``, ``"A, dose 1"``); one column a gene.
        standard_errors
            Of the same shape; without them every effect is taken as it is.
        contexts : (Q,)
            Context of each row.
        base
            Base of the logarithm: ``math.e``, or 2 for log2 fold changes.
        name
            Name in messages.

        Returns
        -------
        The evidence.

        Raises
        ------
        transpert.errors.OptionError
            If the tables do not fit each other or are not numbers.
        """
        check_number(base, name="base", least=1.0 + 1e-9)
        if standard_errors is not None and not (
            standard_errors.index.equals(log_fold.index) and standard_errors.columns.equals(log_fold.columns)
        ):
            raise OptionError(
                "the standard errors have other rows or columns than the log fold changes",
                where=name,
                remedy="Give both tables the same index and columns.",
            )
        unit = math.log(base)
        try:
            effects = log_fold.to_numpy(dtype=float) * unit
            errors = np.zeros_like(effects) if standard_errors is None else standard_errors.to_numpy(dtype=float) * unit
        except (TypeError, ValueError) as error:
            raise OptionError(
                "the tables hold something else than numbers", where=name, remedy="Leave other columns out."
            ) from error
        conditions = tuple(Condition.read(str(label)) for label in log_fold.index)
        where = [""] * len(conditions) if contexts is None else list(map(str, contexts))
        return cls(conditions, tuple(where), tuple(map(str, log_fold.columns)), effects, errors**2, name)

    @property
    def perturbations(self) -> tuple[str, ...]:
        """Names of all perturbations, alone or in a combination."""
        return tuple(sorted({part for condition in self.conditions for part in condition.parts}))

    def of_genes(self, genes: Iterable[str]) -> Self:
        """Return the same effects of some genes, in their order; NaN where a gene was not measured.

        Raises
        ------
        transpert.errors.OptionError
            If none of the genes was measured.
        """
        wanted = tuple(map(str, genes))
        place = pd.Index(self.genes).get_indexer(pd.Index(wanted))
        if (place < 0).all():
            raise OptionError(
                "not one gene has the name of a gene of the data",
                where=self.name,
                remedy="Give the genes of both the same kind of name, symbols or Ensembl identifiers.",
            )
        effects, variances = (
            np.where(place < 0, np.nan, values[:, place]) for values in (self.log_fold, self.variance)
        )
        return type(self)(self.conditions, self.contexts, wanted, effects, variances, self.name)

    def effect(self, condition: Condition, context: str) -> np.ndarray | None:
        """Return the shrunken log fold change of a condition, ``(G,)``; ``None`` where nothing is known of it.

        Effects at just its dose and time come before those at others, those in just its context before those in others.
        A combination that was not measured is the sum of its parts.
        """
        found = self._mean(condition, context)
        if found is None and condition.is_combination:
            parts = [self._mean(single, context) for single in condition.singles()]
            known = [part for part in parts if part is not None]
            if len(known) == len(parts):
                effects, variances = (np.sum(values, axis=0) for values in zip(*known, strict=True))
                found = effects, variances
        return None if found is None else shrink_effects(*found)

    def _mean(self, condition: Condition, context: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The mean effect over the rows that are most like what is asked, and its sampling variance."""
        known = self._by_condition.get(condition, self._by_action.get(condition.action, ()))
        rows = list(map(int, known))
        rows = [row for row in rows if self.contexts[row] == context] or rows
        if not rows:
            return None
        return self.log_fold[rows].mean(axis=0), self.variance[rows].mean(axis=0) / len(rows)


@dataclass(frozen=True, slots=True, eq=False)
class WeighedEvidence:
    """Evidence with its weight in each situation: ``"pair"``, ``"context"`` or ``"perturbation"``."""

    evidence: Evidence
    weights: Mapping[str, float]
