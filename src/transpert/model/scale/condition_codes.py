"""Conditions, contexts and batches as the numbers that the network looks up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from transpert._amounts import AmountScale
from transpert._schema import DAMAGED, checked
from transpert.conditions import Condition
from transpert.errors import ModelFileError, UnknownNameError
from transpert.groups import Groups
from transpert.groups.table import context_column
from transpert.nn import ConditionBatch


@dataclass(frozen=True, slots=True)
class ConditionTable:
    """Codes of perturbations, contexts and batches; 0 is no perturbation, or an unknown context or batch."""

    perturbations: tuple[str, ...]
    contexts: Mapping[str, tuple[str, ...]]
    batches: tuple[str, ...]
    directions: tuple[str, ...] = ()
    timed: bool = False
    dose_scale: AmountScale = AmountScale()  # where doses and times lie in the training data, whatever their unit
    time_scale: AmountScale = AmountScale()

    @classmethod
    def of(cls, groups: Groups, perturbations: Sequence[str]) -> Self:
        """Number what occurs in the training groups."""
        table = groups.table[~groups.table["is_control"]]
        contexts = {key: tuple(sorted(pd.unique(table[context_column(key)]))) for key in groups.design.context_keys}
        directions = {direction for condition in groups.conditions for direction in condition.directions if direction}
        timed = any(condition.time is not None for condition in groups.conditions)
        batches = tuple(sorted(pd.unique(table["batch"])))
        return cls(
            tuple(perturbations),
            contexts,
            batches,
            tuple(sorted(directions)),
            timed,
            AmountScale.of(dose for condition in groups.conditions for dose in condition.doses),
            AmountScale.of(condition.time for condition in groups.conditions),
        )

    def encode(
        self,
        conditions: Sequence[Condition],
        contexts: Sequence[Mapping[str, str]],
        batches: Sequence[str | None],
    ) -> ConditionBatch:
        """Look up conditions."""
        row = {name: i for i, name in enumerate(self.perturbations, start=1)}
        unknown = sorted({part for condition in conditions for part in condition.parts} - set(row))
        if unknown:
            raise UnknownNameError("perturbation", unknown, self.perturbations, where="the perturbation table")
        direction_codes = {name: i for i, name in enumerate(self.directions, start=1)}
        strange = {
            d for condition in conditions for d in condition.directions if d is not None and d not in direction_codes
        }
        if strange:
            raise UnknownNameError("direction", sorted(strange), self.directions, where="the table of directions")
        width = max([1, *(len(condition.parts) for condition in conditions)])
        parts = np.zeros((len(conditions), width), dtype=np.int64)
        doses = np.zeros((len(conditions), width), dtype=np.float32)
        given = np.zeros((len(conditions), width), dtype=bool)
        directions = np.zeros((len(conditions), width), dtype=np.int64)
        for i, condition in enumerate(conditions):
            for j, (part, dose) in enumerate(zip(condition.parts, condition.doses, strict=True)):
                parts[i, j] = row[part]
                directions[i, j] = direction_codes.get(condition.directions[j] or "", 0)
                given[i, j] = dose is not None
                doses[i, j] = self.dose_scale.place(dose)
        times = [self.time_scale.place(condition.time) for condition in conditions]
        codes = {key: {value: i for i, value in enumerate(values, 1)} for key, values in self.contexts.items()}
        context = [[codes[key].get(values.get(key, ""), 0) for key in self.contexts] for values in contexts]
        batch_codes = {name: i for i, name in enumerate(self.batches, 1)}
        return ConditionBatch(
            torch.from_numpy(parts),
            torch.from_numpy(doses),
            torch.from_numpy(given),
            torch.tensor(times, dtype=torch.float32),
            torch.tensor(context, dtype=torch.long).view(len(conditions), len(self.contexts)),
            torch.tensor([batch_codes.get(batch or "", 0) for batch in batches], dtype=torch.long),
            has_time=torch.tensor([condition.time is not None for condition in conditions]) if self.timed else None,
            direction=torch.from_numpy(directions) if self.directions else None,
        )

    def encode_groups(self, groups: Groups) -> ConditionBatch:
        """Look up every group of a data set, in order; row ``i`` belongs to group ``i``."""
        contexts = [groups.context_values(group) for group in range(len(groups))]
        return self.encode(groups.conditions, contexts, groups.table["batch"].tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return {
            "perturbations": list(self.perturbations),
            "contexts": {key: list(values) for key, values in self.contexts.items()},
            "batches": list(self.batches),
            "directions": list(self.directions),
            "timed": self.timed,
            "dose_scale": asdict(self.dose_scale),
            "time_scale": asdict(self.time_scale),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a table from what :meth:`to_dict` returned."""
        return checked(values, cls, ModelFileError, cls.__name__, DAMAGED)
