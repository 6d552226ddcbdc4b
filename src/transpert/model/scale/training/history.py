"""The losses of a training: of every step and every epoch, complete also after a run was resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

_LOSS, _STEP = "train_loss", "train_loss_step"


class TrainingHistory:
    """Collect losses without waiting for the device at every step."""

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._steps: dict[str, list[float]] = {}
        self._validations: list[dict[str, float]] = []
        self._pending: list[tuple[int, dict[str, Tensor]]] = []

    def add_step(self, epoch: int, losses: Mapping[str, Tensor]) -> None:
        """Remember the losses of a step, wherever they are."""
        self._pending.append((epoch, {name: value.detach() for name, value in losses.items()}))

    def add_validation(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Remember the mean losses of a validation."""
        self._validations.append({"epoch": epoch, **losses})

    def collect(self, reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        """Fetch what is still on the device."""
        if not self._pending:
            return
        names = list(self._pending[0][1])
        values = torch.stack([torch.stack([losses[name].float() for name in names]) for _, losses in self._pending])
        fetched = (values if reduce is None else reduce(values)).cpu().double()  # MPS has no double precision
        self._epochs += [epoch for epoch, _ in self._pending]
        for column, name in enumerate(names):
            self._steps.setdefault(name, []).extend(fetched[:, column].tolist())
        self._pending = []

    def mean(self, epoch: int) -> dict[str, float]:
        """Return the mean losses of the steps of an epoch that are settled."""
        chosen = np.array(self._epochs) == epoch
        return {name: float(np.asarray(values)[chosen].mean()) for name, values in self._steps.items()}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return one table a loss: ``train_...`` and ``validation_...`` by epoch, and the training loss by step."""
        found: dict[str, pd.DataFrame] = {}
        for name, values in self._steps.items():
            means = pd.Series(values).groupby(pd.Index(self._epochs, name="epoch")).mean()
            found[f"train_{name}"] = means.to_frame(f"train_{name}")
        if "loss" in self._steps:
            steps = pd.RangeIndex(len(self._epochs), name="step")
            found[_STEP] = pd.DataFrame({_STEP: self._steps["loss"]}, index=steps)
        table = pd.DataFrame(self._validations)
        for name in table.columns.drop("epoch", errors="ignore"):
            found[f"validation_{name}"] = table.set_index("epoch")[[name]].rename(columns={name: f"validation_{name}"})
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return plain data; what is pending must have been settled."""
        return {
            "epochs": list(self._epochs),
            "steps": {name: list(values) for name, values in self._steps.items()},
            "validations": [dict(row) for row in self._validations],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._epochs, self._steps = list(state["epochs"]), {k: list(v) for k, v in state["steps"].items()}
        self._validations, self._pending = [dict(row) for row in state["validations"]], []


def join_histories(
    before: Mapping[str, pd.DataFrame] | None, after: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Append the history of a further training, whose epochs and steps count on from those before."""
    if not before:
        return dict(after)
    past = {True: len(before.get(_STEP, ())), False: len(before.get(_LOSS, ()))}
    moved = {name: table.set_axis(table.index + past[name == _STEP]) for name, table in after.items()}
    return {
        name: pd.concat([table for table in (before.get(name), moved.get(name)) if table is not None])
        for name in {**before, **moved}
    }
