"""One training from its start to its end: interrupted, resumed, on one device or several."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, override

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy
from rich.console import Console
from scvi.train import Trainer, TrainRunner

from transpert._arguments import refused
from transpert._seeds import ONE_AT_A_TIME
from transpert.data import SetDataModule
from transpert.errors import CheckpointError, OptionError, UnknownOptionError, list_names
from transpert.groups import Groups

from ...heartbeat import Heartbeat
from ...processes import choose_strategy, is_first_process, largest, lost_process
from ..options import TrainingOptions
from .checkpoints import (
    SafeCheckpointIO,
    checkpoint_path,
    checkpoints_held,
    find_checkpoints,
    newest_checkpoint,
    read_checkpoint,
)
from .fingerprints import Fingerprint, check_fingerprint
from .history import join_histories
from .plan import TransportTrainingPlan
from .products import fast_products
from .progress import EpochLines, is_renewed

type Resume = bool | Literal["auto"] | str | os.PathLike[str]

# as Lightning writes them; in others the weights themselves, or the cells, would have to be of that type
_PRECISIONS = ("32", "32-true", "bf16-mixed", "bf16", "16-mixed", "16")
# of the Trainer of Lightning, which the options of a model set
_OURS = {
    "gradient_clip_val": "Pass training=TrainingOptions(gradient_clip=...) to the model.",
    "accumulate_grad_batches": "Pass training=TrainingOptions(accumulate=...) to the model.",
    "max_steps": "Pass training=TrainingOptions(steps=...) to the model.",
}


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """Where and when checkpoints are written, and which one a training goes on from."""

    folder: Path | None = None
    every: int | None = None
    resume: Resume = False

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise OptionError(f"checkpoint_every_n_steps is {self.every}", remedy="Give a whole number of at least 1.")
        if self.resume is not False and not isinstance(self.resume, str | os.PathLike):
            raise refused("resume", self.resume, 'Give "auto", the path of a checkpoint, or False.')
        if self.folder is None and (self.every is not None or self.resume == "auto"):
            raise OptionError("there is no place for checkpoints", remedy="Give checkpoint_dir.")
        if self.folder is not None:
            _check_place(self.folder)

    def held(self) -> AbstractContextManager[None]:
        """Keep other trainings out of the folder; of several processes the first one writes, and does so."""
        return nullcontext() if self.folder is None or not is_first_process() else checkpoints_held(self.folder)


def _check_place(folder: Path) -> None:
    """Refuse a place in which no checkpoint could be written, before anything is trained."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise CheckpointError(f"{nearest} is a file", where="checkpoint_dir", remedy="Give the path of a folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"nothing can be written into {nearest}",
            where="checkpoint_dir",
            remedy="Give a folder that you may write to.",
        )


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """What a training runs on, as in Lightning."""

    max_epochs: int
    accelerator: str
    devices: Any
    precision: str | int
    strategy: str | Strategy
    early_stopping: bool
    other: dict[str, Any]


def checkpoint_to_resume(settings: CheckpointSettings, fingerprint: Fingerprint) -> Path | None:
    """Find the checkpoint a training goes on from, and check that it is one of this training."""
    if settings.resume is False:
        if settings.folder is not None and find_checkpoints(settings.folder):
            raise CheckpointError(
                "the folder holds the checkpoints of a training",
                where=str(settings.folder),
                remedy='Go on with it by resume="auto", or choose another folder.',
            )
        return None
    if settings.resume == "auto":
        assert settings.folder is not None
        found = newest_checkpoint(settings.folder)
    else:
        assert settings.resume is not True  # the settings refuse it
        given = Path(settings.resume)
        found = newest_checkpoint(given) if find_checkpoints(given) else given
    if found is not None:
        check_fingerprint(read_checkpoint(found), fingerprint, where=str(found))
    return found


def default_precision(accelerator: str) -> str | int:
    """Return ``"bf16-mixed"`` where a GPU will be used that computes in it, else ``32``."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    # older GPUs only imitate it, slower than single precision
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else 32


def check_precision(precision: str | int | None) -> None:
    """Refuse a precision in which networks are not trained here."""
    if precision is not None and str(precision) not in _PRECISIONS:
        raise OptionError(
            f"precision is {precision!r}",
            remedy="Choose 32, 'bf16-mixed' or '16-mixed': the weights and the cells stay in single precision.",
        )


def check_trainer_options(given: Mapping[str, Any], train: Callable[..., None]) -> None:
    """Refuse what neither ``train`` nor the Trainer of Lightning knows, and what would only fail inside it."""
    taken = [name for name in given if name in _OURS]
    if taken:
        raise OptionError(f"train sets {list_names(taken)} itself", where="train", remedy=_OURS[taken[0]])
    known = {
        name for function in (train, Trainer, lightning.Trainer) for name in inspect.signature(function).parameters
    }
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UnknownOptionError(
            "option", unknown, sorted(known - {"self", "kwargs", "trainer_kwargs", *_OURS}), where="train"
        )
    callbacks = given.get("callbacks", ())
    if not isinstance(callbacks, list | tuple) or not all(isinstance(item, Callback) for item in callbacks):
        raise refused("callbacks", callbacks, "Give a list of callbacks of Lightning.")
    logger = given.get("logger", False)
    loggers = logger if isinstance(logger, list | tuple) else [logger]
    if not all(isinstance(item, bool | Logger) or item is None for item in loggers):
        raise refused("logger", logger, "Give a logger of Lightning, such as CSVLogger('logs'), True or False.")


def group_names(groups: Groups) -> list[str]:
    """Return what to call every group in a message: its perturbation, context and batch."""
    table = groups.table
    return [
        " / ".join(str(part) for part in parts if part != "")
        for parts in zip(table.perturbation, table.context, table.batch, strict=True)
    ]


def run_training(
    model: Any,
    plan: TransportTrainingPlan,
    data: SetDataModule,
    trainer: TrainerSettings,
    checkpoints: CheckpointSettings,
    fingerprint: Fingerprint,
    options: TrainingOptions,
    seed: int,
) -> None:
    """Train the networks of a model; its ``history`` is right also where this ends with an error."""
    writer = SafeCheckpointIO()
    strategy = choose_strategy(
        trainer.strategy,
        trainer.devices,
        writer,
        accelerator=trainer.accelerator,
        num_nodes=trainer.other.get("num_nodes", 1),
    )
    callbacks = [*trainer.other.get("callbacks", ()), CheckpointCallback(checkpoints, writer), Heartbeat()]
    if trainer.early_stopping:
        # ours, because that of scvi-tools is switched off where there are several processes; the loss is the mean over
        # all of them, so they all stop at once. A loss that is not finite is an error of the plan.
        callbacks.insert(
            0,
            EarlyStopping(
                "validation_loss", patience=options.patience, check_finite=False, check_on_train_epoch_end=False
            ),
        )
    defaults = {"logger": False, "check_val_every_n_epoch": 1}
    chosen: dict[str, Any] = {**defaults, **trainer.other, "callbacks": callbacks}
    if chosen.get("enable_progress_bar", True) and not is_renewed(Console(stderr=True)):
        callbacks.append(EpochLines())
        chosen["enable_progress_bar"] = False
    if isinstance(strategy, str):
        # a strategy carries its writer itself
        chosen["plugins"] = [*chosen.get("plugins", ()), writer]
    with _without_chatter():
        runner = model._train_runner_cls(
            model,
            training_plan=plan,
            data_splitter=data,
            max_epochs=trainer.max_epochs,
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            precision=trainer.precision,
            strategy=strategy,
            early_stopping=False,
            gradient_clip_val=options.gradient_clip,
            accumulate_grad_batches=options.accumulate,
            **chosen,
        )
    with checkpoints.held():  # which of several processes writes is known since there is a trainer
        resumed = checkpoint_to_resume(checkpoints, fingerprint)
        runner.ckpt_path = None if resumed is None else str(resumed)
        model.module.train()
        _run(runner, seed)


def _run(runner: TrainRunner, seed: int) -> None:
    """Train with draws of its own, while no other thread trains."""
    # all devices, since all of them are seeded; torch warns where they are not named
    with ONE_AT_A_TIME, torch.random.fork_rng(range(torch.accelerator.device_count())), _without_chatter():
        torch.manual_seed(seed)
        with fast_products():
            runner()


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Leave out what libraries say of a training and a user cannot act on."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))  # hardware that is not there, advertisements
    try:
        with warnings.catch_warnings():
            for start in (
                "early_stopping was automatically disabled",
                "You have overridden `transfer_batch_to_device`",  # the plan knows how sets are moved
                r"`isinstance\(treespec, LeafSpec\)` is deprecated",
            ):
                warnings.filterwarnings("ignore", message=start)
            yield
    finally:
        logger.setLevel(level)


class SetTrainRunner(TrainRunner):
    """Run a training plan that keeps its own history."""

    @override
    def _run_training_core(self) -> None:
        handler = signal.getsignal(signal.SIGINT)
        try:
            self.trainer.fit(self.training_plan, self.data_splitter, ckpt_path=self.ckpt_path)
        except _Interrupted as interruption:
            if interruption.signal == signal.SIGTERM:
                raise SystemExit(str(interruption)) from None
            raise KeyboardInterrupt(str(interruption)) from None
        except SystemExit as exit_:
            if self.trainer.interrupted:  # Lightning turns an interrupt inside a step into an exit
                signal.signal(signal.SIGINT, handler)
                raise KeyboardInterrupt("the training was interrupted inside a step") from exit_
            raise
        except RuntimeError as error:
            lost = lost_process(error, self.trainer.world_size)
            if lost is None:
                raise
            raise lost from error
        finally:
            if self.trainer.world_size == 1:
                self.training_plan.history.collect()
            self._update_history()
            self._release_cells()
        # scvi-tools knows the first device only, which is that of the first of several processes
        self.model.to_device(self.trainer.strategy.root_device)
        self.model.trainer = self.trainer

    def _release_cells(self) -> None:
        """Let go of the copy of the cells on the device, which the trainer would keep as long as the model lives."""
        self.data_splitter.release()
        for loop in (self.trainer.fit_loop, self.trainer.fit_loop.epoch_loop.val_loop):
            loop._combined_loader = None

    @override
    def _update_history(self) -> None:
        # after the trainings that came to their end: one that did not, and is resumed, is in the plan already
        frames = self.training_plan.history.frames()
        self.model.history_ = join_histories(self.model.completed_history, frames)


class _Interrupted(BaseException):
    """The user, or the machine, asked the training to stop, and it did so between two steps."""

    def __init__(self, message: str, signal_: int) -> None:
        self.signal = signal_
        super().__init__(message)


class CheckpointCallback(lightning.Callback):
    """Write checkpoints between two steps, and let a training be interrupted only there."""

    def __init__(self, settings: CheckpointSettings, writer: SafeCheckpointIO) -> None:
        self._settings, self._writer = settings, writer
        self._signal = 0
        self._restore: list[tuple[int, Any]] = []

    @override
    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._restore.append((number, signal.signal(number, self._note_signal)))

    def _note_signal(self, number: int, frame: Any) -> None:
        if self._signal == number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once
        self._signal = number

    @override
    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        # the last batch of an epoch counts when its validation is done
        if trainer.is_last_batch or pl_module.is_within_step:
            return
        every = self._settings.every
        due = every is not None and trainer.global_step % every == 0
        self._between_steps(trainer, due)

    @override
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        every = self._settings.every
        progress = trainer.fit_loop.epoch_progress.current
        last = trainer.should_stop or progress.processed == trainer.max_epochs  # type: ignore[attr-defined]
        self._between_steps(trainer, last or every is None or trainer.global_step % every == 0)

    def _between_steps(self, trainer: lightning.Trainer, due: bool) -> None:
        # a signal may have reached one process only, or each at another step
        number = largest(self._signal, trainer.strategy.root_device)
        folder = self._settings.folder
        if folder is not None and (due or number):
            self._write(trainer, checkpoint_path(folder, trainer.global_step))
        if number:
            go_on = 'Go on with resume="auto".' if folder is not None else "There is no checkpoint_dir to go on from."
            raise _Interrupted(f"the training was interrupted after step {trainer.global_step}. {go_on}", number)

    def _write(self, trainer: lightning.Trainer, path: Path) -> None:
        trainer.save_checkpoint(path)
        # only the first process writes; if it cannot, all of them stop
        if trainer.strategy.reduce_boolean_decision(self._writer.error is not None, all=False):
            raise self._writer.error or CheckpointError(
                "the first process could not write a checkpoint",
                where=str(path),
                remedy="See its message: free space, or give another folder.",
            )

    @override
    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._restore_signals()

    @override
    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._restore_signals()

    def _restore_signals(self) -> None:
        while self._restore:
            signal.signal(*self._restore.pop())
