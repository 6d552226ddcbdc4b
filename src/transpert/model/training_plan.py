"""How the networks are trained: AdamW, warm-up and cosine, averaged weights, the best of them kept."""

from __future__ import annotations

import copy
import math
from typing import Any, override

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from transpert.data import CellSets
from transpert.errors import TrainingError
from transpert.nn import ConditionBatch, SetBatch

from .module import TransportModule
from .options import TrainingOptions

__all__ = ["TransportTrainingPlan"]


class TransportTrainingPlan(lightning.LightningModule):
    """Train every member on the sets outside its fold, validate it on those inside.

    Parameters
    ----------
    module
        The networks.
    options
        How to train.
    conditions
        The condition of every group, by number.
    folds : (P,)
        The fold of every group.
    anchor : (P, G)
        Mean shift by which the control cells of a group are moved before they enter the network; ``None`` for none.
    """

    def __init__(
        self,
        module: TransportModule,
        options: TrainingOptions,
        conditions: ConditionBatch,
        folds: np.ndarray,
        *,
        anchor: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.module, self.options = module, options
        self.averaged = (
            AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(options.average)) if options.average else None
        )
        self._conditions = conditions
        self._folds = torch.as_tensor(folds)
        self._anchor = None if anchor is None else torch.as_tensor(anchor, dtype=torch.float32)
        self._best: tuple[float, dict[str, Tensor]] | None = None

    def _sets(self, batch: CellSets) -> tuple[SetBatch, Tensor]:
        """Densify the cells on the device and look up what was done to them."""
        groups = batch.groups.cpu()
        x0, x1 = batch.dense_log1p()
        if self._anchor is not None:
            x0 = (x0 + self._anchor[groups].to(x0.device)[:, None]).clamp_min(0)
        state0 = state1 = None
        if batch.embedding is not None:
            state0, state1 = batch.dense_embedding()
        condition = self._conditions[groups].to(x0.device)
        return SetBatch(x0, x1, condition, state0, state1), self._folds[groups].to(x0.device)

    @override
    def training_step(self, batch: CellSets, batch_idx: int) -> Tensor:
        output = self.module.loss(*self._sets(batch))
        if not torch.isfinite(output.loss):
            groups = sorted(set(batch.groups.tolist()))
            raise TrainingError(
                f"the loss is {output.loss.item()} at step {self.global_step}",
                where=f"groups {groups}",
                remedy="Lower the learning rate; the best weights so far are kept.",
            )
        self._log("train", output.loss, output.extra_metrics, len(batch.groups))
        return output.loss

    @override
    def validation_step(self, batch: CellSets, batch_idx: int) -> None:
        module = self.module if self.averaged is None else self.averaged.module
        sets, folds = self._sets(batch)
        # the same times on the path every time, so that losses can be compared
        with torch.random.fork_rng(devices=[] if sets.x0.device.type == "cpu" else None):
            torch.manual_seed(batch_idx)
            output = module.loss(sets, folds, left_out=True)
        if output.n_obs_minibatch:
            self._log("validation", output.loss, output.extra_metrics, output.n_obs_minibatch)

    def _log(self, stage: str, loss: Tensor, terms: dict[str, Tensor], n_sets: int) -> None:
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": n_sets, "sync_dist": True}
        self.log(f"{stage}_loss", loss.detach(), prog_bar=True, **options)
        for name, value in terms.items():
            self.log(f"{stage}_{name}", value, **options)

    @override
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)

    @override
    def on_validation_epoch_end(self) -> None:
        loss = self.trainer.callback_metrics.get("validation_loss")
        if loss is not None and (self._best is None or loss.item() < self._best[0]):
            self._best = (loss.item(), copy.deepcopy(self._current().state_dict()))

    def _current(self) -> TransportModule:
        return self.module if self.averaged is None else self.averaged.module  # type: ignore[return-value]

    def restore_best(self) -> None:
        """Give the module the weights that did best on the left-out groups, or the last ones if none were left out."""
        state = self._current().state_dict() if self._best is None else self._best[1]
        self.module.load_state_dict(state)

    @override
    def configure_optimizers(self) -> dict[str, Any]:
        options = self.options
        optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        total = max(int(self.trainer.estimated_stepping_batches), 1)
        rise = max(int(options.warmup * total), 1)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(total - rise, 1), 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
