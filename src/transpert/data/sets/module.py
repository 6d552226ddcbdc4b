"""Sets of cells for a Lightning trainer: one process or many, resumed at any step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import batched
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch

from transpert._signatures import as_annotated
from transpert.errors import OptionError, StoreError

from ..source import CellSource
from .batches import CellSets, DeviceCells, read_plans
from .prefetch import prefetch
from .sampler import SetSampler


class SetLoader:
    """Iterate over the batches of one epoch; knows its epoch and step, so that it can go on where it stopped.

    Parameters
    ----------
    source
        Where the cells are.
    sampler
        Which cells make a batch.
    fixed
        Yield the sets of epoch 0 in every epoch, as validation does.
    ahead
        Batches read in advance by a thread; 0 for none.
    pin_memory
        Put the batches into page-locked memory.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from transpert.data import MemorySource, SetLoader, SetSampler
    >>> from transpert.groups import Design, make_groups, match_controls
    >>> groups = make_groups(pd.DataFrame({"perturbation": ["control", "A"] * 6}), Design("perturbation", "control"))
    >>> sampler = SetSampler(groups, match_controls(groups), set_size=2, sets_per_batch=1, batches_per_epoch=3)
    >>> loader = SetLoader(MemorySource.from_matrix(np.ones((12, 5))), sampler)
    >>> [batch.step for batch in loader], loader.state_dict()
    ([0, 1, 2], {'epoch': 0, 'step': 3})
    """

    def __init__(
        self,
        source: CellSource | DeviceCells,
        sampler: SetSampler,
        *,
        fixed: bool = False,
        ahead: int = 2,
        pin_memory: bool = False,
    ) -> None:
        self._source, self._plans, self._fixed, self._ahead = source, sampler, fixed, ahead
        # batches that a GPU gathered are on it already
        self._pin = pin_memory and not isinstance(source, DeviceCells)
        self.epoch, self.step = 0, 0

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for ``set_epoch``; a ``sampler`` of the loader itself it would take for shuffling."""
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; another than the current one starts at its first step."""
        if not self._fixed and epoch != self.epoch:
            self.epoch, self.step = epoch, 0

    def read_from(self, source: CellSource | DeviceCells) -> None:
        """Read the next batches from somewhere else that holds the same cells."""
        self._source = source

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches handed out in it."""
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the epoch and step of :meth:`state_dict`."""
        self.epoch, self.step = state["epoch"], state["step"]

    def __len__(self) -> int:
        return self._plans.batches_per_epoch

    def __iter__(self) -> Iterator[CellSets]:
        if self._fixed or self.step >= len(self):
            self.step = 0
        for batch in prefetch(self._batches, self._ahead):
            # counted before the batch is used: a checkpoint after it must begin with the next one
            self.step = batch.step + 1
            yield batch

    def _batches(self) -> Iterator[CellSets]:
        plans = self._plans.plan(self.epoch, self.step)
        if isinstance(self._source, DeviceCells):
            yield from map(self._source.read_sets, plans)
            return
        at_once = max(1, self._source.cells_per_read // self._plans.cells_per_batch)
        for some in batched(plans, at_once):
            for batch in read_plans(self._source, some):
                yield batch.pin_memory() if self._pin else batch


class SetDataModule(L.LightningDataModule):
    """Training and validation sets for a Lightning trainer.

    Parameters
    ----------
    source
        Where the cells are.
    train
        The sampler of the training sets. Its ``sets_per_batch`` is the global batch, which several processes share:
        any number of them sees the same sets.
    validation
        The sampler of the validation sets, whose epoch 0 is used every time.
    ahead
        Batches that a thread reads in advance; 0 for none.
    on_device
        Keep all cells on the device of the trainer: ``True``, ``False``, or ``"auto"`` for a GPU on which they take
        at most half of the free memory.

    Notes
    -----
    The state (epoch and step) is in every checkpoint, together with a fingerprint of the cells; a checkpoint of
    other cells is refused.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from transpert.data import MemorySource, SetDataModule, SetSampler
    >>> from transpert.groups import Design, make_groups, match_controls
    >>> obs = pd.DataFrame({"perturbation": ["control"] * 12 + ["A"] * 12, "line": "x"})
    >>> groups = make_groups(obs, Design("perturbation", "control", ("line",)))
    >>> sampler = SetSampler(groups, match_controls(groups), set_size=4, sets_per_batch=3)
    >>> module = SetDataModule(MemorySource.from_matrix(np.ones((24, 5))), sampler)
    >>> batch = next(iter(module.train_dataloader()))
    >>> x0, x1 = batch.dense_log1p()
    >>> x0.shape
    torch.Size([3, 4, 5])
    """

    @as_annotated()
    def __init__(
        self,
        source: CellSource,
        train: SetSampler,
        validation: SetSampler | None = None,
        *,
        ahead: int = 2,
        on_device: bool | str = False,
    ) -> None:
        super().__init__()
        if not isinstance(on_device, bool) and on_device != "auto":
            raise OptionError(f"on_device={on_device!r} does not exist", remedy="Use True, False or 'auto'.")
        for sampler in (train, validation):
            if sampler is not None:
                sampler.validate(source.n_obs)
        self.source, self.train, self.validation = source, train, validation
        self._ahead, self._on_device = ahead, on_device
        self._fingerprint = source.fingerprint
        self._train_loader: SetLoader | None = None
        self._state = {"epoch": 0, "step": 0}
        self._device_cells: DeviceCells | None = None

    def train_dataloader(self) -> SetLoader:
        """Return the loader of the training sets of this process."""
        self._train_loader = self._loader(self.train)
        self._train_loader.load_state_dict(self._state)
        return self._train_loader

    def val_dataloader(self) -> SetLoader | list:
        """Return the loader of the validation sets of this process; an empty list without any."""
        return [] if self.validation is None else self._loader(self.validation, fixed=True)

    def state_dict(self) -> dict[str, Any]:
        """Return epoch and step of the training, and the fingerprint of the cells."""
        state = self._state if self._train_loader is None else self._train_loader.state_dict()
        return {**state, "fingerprint": self._fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the epoch and step of a checkpoint.

        Raises
        ------
        transpert.errors.StoreError
            If the cells are not those of the checkpoint.
        """
        if state_dict["fingerprint"] != self._fingerprint:
            raise StoreError(
                "the cells have changed since the checkpoint was written",
                where=f"fingerprint {self._fingerprint} instead of {state_dict['fingerprint']}",
                remedy="Train on the original cells, or start again from the beginning.",
            )
        self._state = {"epoch": state_dict["epoch"], "step": state_dict["step"]}
        if self._train_loader is not None:
            self._train_loader.load_state_dict(self._state)

    def _loader(self, sampler: SetSampler, *, fixed: bool = False) -> SetLoader:
        device = torch.device("cpu")
        if self.trainer is not None:
            sampler = sampler.shard(self.trainer.global_rank, self.trainer.world_size)
            device = self.trainer.strategy.root_device
        return SetLoader(self._cells(device), sampler, fixed=fixed, ahead=self._ahead, pin_memory=device.type == "cuda")

    def _cells(self, device: torch.device) -> CellSource | DeviceCells:
        wanted = self._on_device
        if wanted == "auto":
            wanted = device.type == "cuda" and self._fits(device)
        if not wanted:
            return self.source
        if self._device_cells is None or self._device_cells.device != device:
            self._device_cells = DeviceCells(self.source, device)
        return self._device_cells

    def release(self) -> None:
        """Let go of the copy of the cells on the device; the place in the data is kept."""
        self._device_cells = None
        if self._train_loader is not None:
            self._train_loader.read_from(self.source)

    def _fits(self, device: torch.device) -> bool:
        free, _ = torch.cuda.mem_get_info(device)
        return DeviceCells.bytes_needed(self.source) < free / 2
