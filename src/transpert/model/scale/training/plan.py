"""How the networks are trained: AdamW, warm-up and cosine, averaged weights, the best of them kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast, override

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from transpert.data import CellSets
from transpert.errors import TrainingError, list_names
from transpert.nn import ConditionBatch, SetBatch, SetDraws

from ...processes import full_state, gather_objects, is_sharded, shard_parameters
from ..folds import Folds
from ..module import Draws, TransportModule
from ..options import TrainingOptions
from .history import TrainingHistory

_TRAINING, _VALIDATION = 0, 1
# gradients are allowed to overflow there: the scaler leaves out the step
_SCALED_PRECISION = "16-mixed"


class TransportTrainingPlan(lightning.LightningModule):
    """Train every member on the sets that its fold does not leave out, validate it on those that are left out.

    The random numbers of a set depend on the seed, the epoch and the place of the set in its step, so that neither a
    resumed run, nor several processes, nor accumulated gradients change them.
    """

    def __init__(
        self,
        module: TransportModule,
        options: TrainingOptions,
        conditions: ConditionBatch,
        folds: Folds,
        *,
        anchor: np.ndarray | None = None,
        names: Sequence[str] | None = None,
        in_components: bool = False,
        seed: int = 0,
        fingerprint: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.options, self.seed = module, options, seed
        self._in_components = in_components
        self.averaged = (
            AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(options.average)) if options.average else None
        )
        if self.averaged is not None:
            self.averaged.requires_grad_(False)
        if options.compile:
            for network in module.networks:
                for part in (network.cells, network.sets, network.field):
                    part.compile()
        self.history = TrainingHistory()
        self._conditions = conditions
        n_networks = len(module.networks)
        self._seen, self._unseen = torch.as_tensor(folds.seen(n_networks)), torch.as_tensor(folds.unseen(n_networks))
        self._anchor = None if anchor is None else torch.as_tensor(anchor, dtype=torch.float32)
        self._names = list(map(str, range(len(folds.test_fold)) if names is None else names))
        self._fingerprint = dict(fingerprint or {})
        self._best: tuple[float, dict[str, Tensor]] | None = None
        # the batches of the step that is being taken, and their losses
        self._recent: list[tuple[CellSets, dict[str, Tensor]]] = []
        self._validation: list[dict[str, Tensor]] = []
        self._resumed: dict[str, Any] | None = None

    @override
    def configure_model(self) -> None:
        mesh = self.device_mesh
        if mesh is None or is_sharded(self.module):
            return
        modules = [self.module]
        if self.averaged is not None:
            modules.append(cast(TransportModule, self.averaged.module))
        for module in modules:
            for network in module.networks:
                shard_parameters(network, mesh)

    # --- a step ---------------------------------------------------------------------------------------------

    @override
    def transfer_batch_to_device(self, batch: CellSets, device: torch.device, dataloader_idx: int) -> CellSets:
        if device.type != "cuda":
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        # Lightning would wait for everything that is not a tensor. What was done to the sets is looked up on the CPU:
        # the numbers of their groups stay there, so that nothing waits for them either
        return dataclasses.replace(batch.to(device, non_blocking=True), groups=batch.groups)

    def _sets(self, batch: CellSets) -> tuple[SetBatch, Tensor]:
        """Densify the cells on the device and look up what was done to them; the groups stay on the CPU."""
        groups = batch.groups.cpu()
        if self._in_components:
            x0, x1 = batch.dense_embedding()
            return SetBatch(x0, x1, self._conditions[groups].to(x0.device)), groups
        x0, x1 = batch.dense_log1p()
        if self._anchor is not None:
            x0 = (x0 + self._anchor[groups].to(x0.device)[:, None]).clamp_min(0)
        state0 = state1 = None
        if batch.embedding is not None:
            state0, state1 = batch.dense_embedding()
        condition = self._conditions[groups].to(x0.device)
        return SetBatch(x0, x1, condition, state0, state1), groups

    def _draws(self, batch: CellSets, stream: int) -> Draws:
        """The random numbers of the sets of this batch, which is a part of a step."""
        parts = self.options.accumulate if stream == _TRAINING else 1
        in_batch = len(batch) * self.trainer.world_size
        first = batch.step % parts * in_batch + self.trainer.global_rank * len(batch)
        step = batch.step // parts

        def draws(member: int, chosen: Tensor) -> SetDraws:
            sequence = np.random.SeedSequence([self.seed, stream, batch.epoch, step, member])
            generator = torch.Generator(chosen.device).manual_seed(int(sequence.generate_state(1)[0]))
            return SetDraws(generator, in_batch * parts, chosen + first)

        return draws

    @override
    def training_step(self, batch: CellSets, batch_idx: int) -> Tensor:
        sets, groups = self._sets(batch)
        output = self.module.loss(sets, self._seen[groups], draws=self._draws(batch, _TRAINING))
        self._recent.append((batch, {"loss": output.loss.detach(), **output.extra_metrics}))
        return output.loss

    @property
    def is_within_step(self) -> bool:
        """Whether gradients have been accumulated that no step of the optimiser has used."""
        return bool(self._recent)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val or torch.inf)
        # the norm is one over all processes, so all of them stop, before the step could spoil a weight
        finite = bool(torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm))
        if self.trainer.precision == _SCALED_PRECISION:
            losses = torch.stack([losses["loss"] for _, losses in self._recent])
            finite = self.trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(losses).all()))
        if not finite:
            raise self._not_finite()

    @override
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)
        parts = [losses for _, losses in self._recent]
        names = [name for name in parts[0] if all(name in losses for losses in parts)]
        means = {name: torch.stack([losses[name] for losses in parts]).mean() for name in names}
        self.history.add_step(self.trainer.current_epoch, means)
        self._recent = []

    @override
    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if not self.trainer.is_last_batch:
            return
        self.history.collect(self.trainer.strategy.reduce)
        self._log("train", self.history.mean(self.trainer.current_epoch))

    def _not_finite(self) -> TrainingError:
        """Return which sets have a loss that is not finite; if none has, which were in the step."""
        found: set[str] = set()
        for batch, _ in self._recent:
            sets, groups = self._sets(batch)
            draws = self._draws(batch, _TRAINING)
            for number, group in enumerate(batch.groups.tolist()):
                alone = torch.tensor([number], device=sets.x0.device)
                with torch.no_grad():
                    output = self.module.loss(
                        sets[alone],
                        self._seen[groups[number : number + 1]],
                        draws=lambda member, chosen, draws=draws, alone=alone: draws(member, alone[chosen]),  # type: ignore[misc]
                    )
                if not torch.isfinite(output.loss):
                    found.add(self._names[group])
        culprits = sorted(set().union(*gather_objects(found)))
        present = {self._names[group] for batch, _ in self._recent for group in batch.groups.tolist()}
        names = culprits or sorted(set().union(*gather_objects(present)))
        what = "loss" if culprits else "gradient"
        return TrainingError(
            f"the {what} is not finite at step {self.global_step} of epoch {self.trainer.current_epoch}",
            where=f"the sets of {list_names(names)}",
            remedy="The step was not taken and the best weights so far are restored. Look at these cells, or lower "
            "the learning rate or the gradient clip.",
        )

    # --- validation -----------------------------------------------------------------------------------------

    @override
    def validation_step(self, batch: CellSets, batch_idx: int) -> None:
        sets, groups = self._sets(batch)
        # the same draws every time, so that losses can be compared
        draws = self._draws(batch, _VALIDATION)
        output = self._current.loss(sets, self._unseen[groups], draws=draws)
        if output.n_obs_minibatch:
            terms = {"loss": output.loss, **output.extra_metrics}
            weight = torch.tensor(float(output.n_obs_minibatch), device=output.loss.device)
            self._validation.append({**{name: value * weight for name, value in terms.items()}, "": weight})

    @override
    def on_validation_epoch_end(self) -> None:
        if not self._validation:
            return
        names = list(self._validation[0])
        sums = torch.stack([torch.stack([row[name].float() for row in self._validation]).sum() for name in names])
        self._validation = []
        *totals, weight = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        losses = {name: total / weight for name, total in zip(names, totals, strict=False)}
        if not math.isfinite(losses["loss"]):
            raise TrainingError(
                f"the validation loss is {losses['loss']} after epoch {self.trainer.current_epoch}",
                remedy="The best weights so far are restored. Lower the learning rate.",
            )
        self.history.add_validation(self.trainer.current_epoch, losses)
        self._log("validation", losses)
        if self._best is None or losses["loss"] < self._best[0]:
            self._best = (losses["loss"], full_state(self._current))

    def _log(self, stage: str, losses: Mapping[str, float]) -> None:
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": 1, "sync_dist": True}
        for name, value in losses.items():
            self.log(f"{stage}_{name}", value, prog_bar=name == "loss", **options)

    # --- weights --------------------------------------------------------------------------------------------

    @property
    def _current(self) -> TransportModule:
        return self.module if self.averaged is None else cast(TransportModule, self.averaged.module)

    def best_weights(self) -> dict[str, Tensor]:
        """Return the weights that did best on the left-out groups, or the last ones if none were left out."""
        return full_state(self._current) if self._best is None else self._best[1]

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.options
        parameters = list(self.module.parameters())
        fuses = all(parameter.device.type in ("cuda", "cpu") for parameter in parameters)
        optimizer = torch.optim.AdamW(
            parameters,
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            # one kernel for all parameters; gradients that are scaled could then not be clipped
            fused=True if fuses and self.trainer.precision != _SCALED_PRECISION else None,
        )
        total = max(int(self.trainer.estimated_stepping_batches), 1)
        rise = max(int(options.warmup * total), 1)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(total - rise, 1), 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # --- going on after an interruption ---------------------------------------------------------------------

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history.collect(self.trainer.strategy.reduce)
        checkpoint["transpert"] = {
            "fingerprint": self._fingerprint,
            "history": self.history.state_dict(),
            "best": None if self._best is None else {"loss": self._best[0], "weights": self._best[1]},
            "stopped": self.trainer.should_stop,
            # dropout draws from these
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = self._resumed = checkpoint["transpert"]
        self.history.load_state_dict(own["history"])
        self._best = None if own["best"] is None else (own["best"]["loss"], own["best"]["weights"])

    @override
    def on_train_start(self) -> None:
        if self._resumed is None:
            return
        self.trainer.should_stop = self._resumed["stopped"]
        torch.set_rng_state(self._resumed["random"])
        if len(self._resumed["random_cuda"]) == torch.cuda.device_count() > 0:
            torch.cuda.set_rng_state_all(self._resumed["random_cuda"])
        self._resumed = None
