"""Effects that other screens measured, as a further source of predictions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._arguments import check_number, refused
from transpert._signatures import check_fields
from transpert.conditions import Condition
from transpert.errors import OptionError, list_names
from transpert.groups import Design, make_groups, match_controls

from .coefficients import rows_by
from .rates import visibility
from .shrinkage import shrink_effects
from .uncertainty import PSEUDO_RATE

# how much more the context with the most similar controls may count than the one with the least similar: e to the power
_SHARPNESS = (0.0, 1.0, 2.0, 4.0, 8.0)
# conditions, and other contexts of each, from which that is chosen
_MOST_CONDITIONS = 100
_FEWEST_CONTEXTS = 3
# share of the squared error that likeness has to save
_LEAST_GAIN = 0.05


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
    profiles : (Q, G)
        Mean log1p counts per 10k of the controls of each effect. With them, contexts whose controls are like those of
        the one that is asked for count more, as far as that predicts contexts of this screen better. Without them all
        contexts count the same.

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
    profiles: np.ndarray | None = None
    _by_condition: dict[Hashable, np.ndarray] = field(init=False, repr=False)
    _by_action: dict[Hashable, np.ndarray] = field(init=False, repr=False)
    _sharpness: float = field(init=False, repr=False, default=0.0)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("conditions", "contexts", "genes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        shape = (len(self.conditions), len(self.genes))
        for name in ("log_fold", "variance", *(() if self.profiles is None else ("profiles",))):
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
        object.__setattr__(self, "_sharpness", self._choose_sharpness())

    @classmethod
    def from_frame(
        cls,
        log_fold: pd.DataFrame,
        standard_errors: pd.DataFrame | None = None,
        *,
        contexts: Sequence[str] | None = None,
        base: float = math.e,
        name: str = "evidence",
        profiles: pd.DataFrame | None = None,
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
        profiles
            Mean log1p counts per 10k of the controls of each row, of the same shape; see the class.

        Returns
        -------
        The evidence.

        Raises
        ------
        transpert.errors.OptionError
            If the tables do not fit each other or are not numbers.
        """
        check_number(base, name="base", least=1.0 + 1e-9)
        for what, table in (("standard errors", standard_errors), ("profiles", profiles)):
            if table is None or (table.index.equals(log_fold.index) and table.columns.equals(log_fold.columns)):
                continue
            raise OptionError(
                f"the {what} have other rows or columns than the log fold changes",
                where=name,
                remedy="Give both tables the same index and columns.",
            )
        unit = math.log(base)
        try:
            effects = log_fold.to_numpy(dtype=float) * unit
            errors = np.zeros_like(effects) if standard_errors is None else standard_errors.to_numpy(dtype=float) * unit
            controls = None if profiles is None else profiles.to_numpy(dtype=float)
        except (TypeError, ValueError) as error:
            raise OptionError(
                "the tables hold something else than numbers", where=name, remedy="Leave other columns out."
            ) from error
        conditions = tuple(Condition.read(str(label)) for label in log_fold.index)
        where = [""] * len(conditions) if contexts is None else list(map(str, contexts))
        return cls(conditions, tuple(where), tuple(map(str, log_fold.columns)), effects, errors**2, name, controls)

    @classmethod
    def from_pseudobulks(
        cls, counts: pd.DataFrame, obs: pd.DataFrame, design: Design, *, name: str = "pseudobulks"
    ) -> Self:
        """Make evidence of summed counts, such as ``decoupler`` and ``pertpy`` make of cells.

        Effects are log fold changes of mean counts per 10k between the samples of a condition and the controls of its
        context. Their variance is that between samples of one group, pooled over groups, or that of counting where it
        is larger or no group has two samples.

        Parameters
        ----------
        counts : (S, G)
            Raw counts; one row a sample, one column a gene, all genes that were measured.
        obs : (S, ...)
            Annotation of the samples, with the columns that ``design`` names.
        design
            Which column says what. Batches are not told apart.
        name
            Name in messages.

        Returns
        -------
        The evidence.

        Raises
        ------
        transpert.errors.OptionError
            If the tables do not fit each other, or hold something else than counts.
        transpert.errors.UnknownNameError, transpert.errors.ConditionError, transpert.errors.ControlError
            If ``obs`` does not fit the design, or a context has no control.

        Examples
        --------
        >>> import pandas as pd, transpert as tp
        >>> counts = pd.DataFrame({"GBP1": [10, 12, 40, 44], "ACTB": [90, 88, 60, 56]})
        >>> obs = pd.DataFrame({"perturbation": ["control", "control", "IFNG", "IFNG"]})
        >>> found = tp.transport.Evidence.from_pseudobulks(counts, obs, tp.Design("perturbation", "control"))
        >>> found.log_fold.round(2).tolist()
        [[1.34, -0.43]]
        """
        if not counts.index.equals(obs.index):
            remedy = "Give both tables the same rows in the same order."
            raise OptionError("the annotation has other samples than the counts", where=name, remedy=remedy)
        values = _checked_counts(counts, name)
        groups = make_groups(obs, dataclasses.replace(design, batch_key=None))
        matching = match_controls(groups, min_controls=1, warn=False)
        rates = values / values.sum(axis=1, keepdims=True) * _keys.SCALE_FACTOR
        cells = [groups.cells(group) for group in range(len(groups))]
        mean = np.log(np.array([rates[rows].mean(axis=0) for rows in cells]) + PSEUDO_RATE)
        variance = _variances(values, np.log(rates + PSEUDO_RATE), cells)
        treated = groups.perturbed_groups
        # a condition may have controls of its own time
        controls = [matching.control_groups[int(group)] for group in treated]
        before, error = (np.array([of_all[rows].mean(axis=0) for rows in controls]) for of_all in (mean, variance))
        conditions = tuple(groups.conditions[group] for group in treated)
        contexts = tuple(groups.table["context"].iloc[treated].astype(str))
        genes = tuple(map(str, counts.columns))
        return cls(conditions, contexts, genes, mean[treated] - before, variance[treated] + error, name)

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
        profiles = None if self.profiles is None else np.where(place < 0, np.nan, self.profiles[:, place])
        return type(self)(self.conditions, self.contexts, wanted, effects, variances, self.name, profiles)

    def effect(self, condition: Condition, context: str, profile: np.ndarray | None = None) -> np.ndarray | None:
        """Return the shrunken log fold change of a condition, ``(G,)``; ``None`` where nothing is known of it.

        Effects at just its dose and time come before those at others, those in just its context before those in others.
        Of several contexts those count most whose controls are like ``profile``, the mean log1p counts per 10k of the
        controls in the context that is asked for, ``(G,)``. A combination that was not measured is the sum of its
        parts.
        """
        found = self._mean(condition, context, profile)
        if found is None and condition.is_combination:
            parts = [self._mean(single, context, profile) for single in condition.singles()]
            known = [part for part in parts if part is not None]
            if len(known) == len(parts):
                effects, variances = (np.sum(values, axis=0) for values in zip(*known, strict=True))
                found = effects, variances
        return None if found is None else shrink_effects(*found)

    def _mean(
        self, condition: Condition, context: str, profile: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The mean effect over the rows that are most like what is asked, and its sampling variance."""
        rows = self._by_condition.get(condition, self._by_action.get(condition.action, np.array([], dtype=int)))
        if not len(rows):
            return None
        here = np.array([self.contexts[row] == context for row in rows])
        rows = rows[here] if here.any() else rows
        share = self._shares(rows, profile, self._sharpness)
        return share @ self.log_fold[rows], share**2 @ self.variance[rows]

    def _shares(self, rows: np.ndarray, profile: np.ndarray | None, sharpness: float) -> np.ndarray:
        """How much each of some effects counts where the controls have a profile; all the same without one."""
        distance = np.zeros(len(rows))
        if self.profiles is not None and profile is not None and sharpness:
            shared = np.isfinite(self.profiles[rows]).all(axis=0) & np.isfinite(profile)
            distance = np.square(self.profiles[rows][:, shared] - profile[shared]).sum(axis=1)
            # only differences count: what all contexts of another screen differ by is a matter of the screens
            distance = sharpness * (distance - distance.min()) / max(float(np.ptp(distance)), 1e-12)
        share = np.exp(-distance)
        return share / share.sum()

    def _choose_sharpness(self) -> float:
        """By how much more contexts with like controls count, from predicting each context from the others."""
        if self.profiles is None:
            return 0.0
        errors = np.zeros(len(_SHARPNESS))
        for rows in list(self._by_condition.values())[:_MOST_CONDITIONS]:
            for row in rows:
                others = rows[[self.contexts[other] != self.contexts[row] for other in rows]]
                if len(others) < _FEWEST_CONTEXTS:
                    continue
                shares = np.array([self._shares(others, self.profiles[row], sharpness) for sharpness in _SHARPNESS])
                # errors count as they will show: in mean log1p
                wrong = visibility(np.expm1(self.profiles[row])) * (shares @ self.log_fold[others] - self.log_fold[row])
                errors += np.nan_to_num(np.square(wrong)).mean(axis=1)
        best = int(np.argmin(errors))
        return _SHARPNESS[best] if errors[best] < (1 - _LEAST_GAIN) * errors[0] else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class WeighedEvidence:
    """Evidence with its weight in each situation: ``"pair"``, ``"context"`` or ``"perturbation"``."""

    evidence: Evidence
    weights: Mapping[str, float]


def _checked_counts(counts: pd.DataFrame, name: str) -> np.ndarray:
    """Return counts as numbers, once it is known that every sample has some."""
    try:
        values = counts.to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        remedy = "Leave other columns out."
        raise OptionError("the counts hold something else than numbers", where=name, remedy=remedy) from error
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.rint(values)).any():
        raise OptionError("these are no raw counts", where=name, remedy="Sum raw counts over the cells of each sample.")
    if not (values.sum(axis=1) > 0).all():
        raise OptionError("a sample has no counts", where=name, remedy="Drop it.")
    return values


def _variances(counts: np.ndarray, log_rates: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Sampling variance of the log mean rate of each group of samples."""
    within = np.zeros(counts.shape[1])
    freedom = sum(len(rows) - 1 for rows in groups)
    for rows in groups:
        within += np.square(log_rates[rows] - log_rates[rows].mean(axis=0)).sum(axis=0)
    between = within / max(freedom, 1)
    return np.array([np.maximum(between / len(rows), 1 / (counts[rows].sum(axis=0) + 1)) for rows in groups])
