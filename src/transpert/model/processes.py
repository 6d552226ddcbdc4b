"""Several processes, each with its device: how the work and the parameters are shared out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, override

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from transpert._arguments import refused
from transpert.errors import OptionError, ProcessError, TranspertError, list_names
from transpert.nn.blocks import TransformerBlock

# a process that does not answer for so long is taken to be dead
_TIMEOUT = timedelta(minutes=10)
# how the libraries under torch.distributed say that another process is gone. Their names alone say nothing: mistakes in
# setting up several processes, such as a port that is taken or a GPU that two of them use, are told by the same ones
_LOST = re.compile(
    r"connection (was likely )?(closed|reset|refused)|broken pipe|pair closure|remote (process|peer|server)"
    r"|ncclRemoteError|communicator was aborted|(?<!launch )timed out|(?<!launch)timeout",
    re.IGNORECASE,
)


def check_accelerator(name: Any) -> None:
    """Refuse what Lightning would refuse with a traceback, before anything is read."""
    known = ["auto", "gpu", *AcceleratorRegistry.available_accelerators()]
    if not isinstance(name, str):
        return  # an accelerator of Lightning knows itself
    if name not in known:
        raise OptionError(f"there is no accelerator {name!r}", where="accelerator", remedy=f"Use {list_names(known)}.")
    asked = {"auto": [], "gpu": ["cuda", "mps"]}.get(name, [name])
    if asked and not any(AcceleratorRegistry[kind]["accelerator"].is_available() for kind in asked):
        raise OptionError(
            f"this machine has no {name} that torch can use", where="accelerator", remedy="Use 'cpu' or 'auto'."
        )


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2: every process holds a part of every parameter and of its optimiser state.

    Checkpoints hold the whole parameters, so that they can be read by any number of processes, also by one without
    shards.
    """

    def __init__(self, *, timeout: timedelta = _TIMEOUT) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    @override
    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return full_state(self.lightning_module)

    @override
    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        named = get_optimizer_state_dict(self.model, getattr(optimizer, "_optimizer", optimizer), options=options)
        # only the first process is given the whole, and writes it
        return _renamed(named, {name: number for number, name in enumerate(self._trained_names())}) if named else {}

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return self.checkpoint_io.load_checkpoint(checkpoint_path)

    @override
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.model is not None
        set_model_state_dict(self.model, dict(checkpoint["state_dict"]), options=StateDictOptions(full_state_dict=True))

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        assert self.model is not None
        names = dict(enumerate(self._trained_names()))
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            set_optimizer_state_dict(
                self.model,
                optimizer,
                optim_state_dict=_renamed(state, names),
                options=StateDictOptions(full_state_dict=True),
            )

    @property
    @override
    def lightning_restore_optimizer(self) -> bool:
        return True

    def _trained_names(self) -> list[str]:
        """Names of the parameters in the order in which an optimiser numbers them."""
        assert self.lightning_module is not None
        return [name for name, value in self.lightning_module.named_parameters() if value.requires_grad]


def _renamed(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """Give the parameters of an optimiser state other names, or numbers."""
    return {
        "state": {names[old]: value for old, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [names[old] for old in group["params"]]} for group in state["param_groups"]
        ],
    }


def choose_strategy(
    strategy: str | Strategy,
    devices: Any,
    checkpoint_io: CheckpointIO,
    *,
    accelerator: str = "auto",
    num_nodes: int = 1,
) -> str | Strategy:
    """Return the strategy that Lightning needs for the name that a user gave."""
    if not isinstance(strategy, str | Strategy):
        raise refused("strategy", strategy, "Give 'auto', 'ddp', 'fsdp2', or a strategy of Lightning.")
    chosen: str | Strategy = strategy
    several = count_devices(devices, accelerator) * num_nodes > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1
    if strategy == "auto" and several:
        chosen = "ddp"
    if chosen == "ddp":
        # some choices of options leave parameters without use
        chosen = DDPStrategy(find_unused_parameters=True, timeout=_TIMEOUT)
    elif chosen == "fsdp2":
        chosen = ShardedStrategy()
    elif isinstance(chosen, str) and chosen != "auto":
        raise OptionError(
            f"strategy={chosen!r} does not exist here",
            remedy="Choose 'auto', 'ddp', 'fsdp2', or pass a Strategy of Lightning. Processes that are forked or "
            "spawned would keep the weights to themselves.",
        )
    if isinstance(chosen, Strategy):
        chosen.checkpoint_io = checkpoint_io
    return chosen


def count_devices(devices: Any, accelerator: str = "auto") -> int:
    """Return how many devices of this machine are meant, in the words of Lightning."""
    if isinstance(devices, list | tuple):
        return len(devices)
    if isinstance(devices, str) and devices != "auto":
        names = [name.strip() for name in devices.split(",") if name.strip()]
        if not names or not all(name.removeprefix("-").isdigit() for name in names):
            raise OptionError(
                f"devices is {devices!r}", remedy="Give a number, a list of devices, '0,1', -1 for all GPUs, or 'auto'."
            )
        if "," in devices:
            return len(names)
        devices = int(names[0])
    if devices == -1:
        return torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 1
    return devices if isinstance(devices, int) else 1


def shard_parameters(member: nn.Module, mesh: DeviceMesh) -> None:
    """Share out the parameters of a network among the processes of a mesh, block by block."""
    data_parallel = mesh["data_parallel"]
    for part in list(member.modules()):
        if isinstance(part, TransformerBlock):
            fully_shard(part, mesh=data_parallel)
    fully_shard(member, mesh=data_parallel)
    register_fsdp_forward_method(member, "losses")


def is_sharded(module: nn.Module) -> bool:
    """Whether the parameters of a module are shared out among processes."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """Copy the weights of a module to the CPU, put together from all processes where they are shared out."""
    # one after the other: a device that holds a part of the weights need not have room for all of them
    return {name: _whole(value).to("cpu", copy=True) for name, value in module.state_dict().items()}


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def gather_objects[Value](value: Value) -> list[Value]:
    """Return the values of all processes."""
    if not distributed.is_available() or not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def largest(number: int, device: torch.device) -> int:
    """Return the largest of the numbers of all processes."""
    if not distributed.is_available() or not distributed.is_initialized():
        return number
    value = torch.tensor(number, device=device)
    distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return int(value)


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    return getattr(rank_zero_only, "rank", 0) == 0


def lost_process(error: BaseException, world_size: int) -> ProcessError | None:
    """Return the error to raise if another process is gone, ``None`` if the error means something else."""
    if world_size < 2 or isinstance(error, TranspertError) or not _LOST.search(str(error)):
        return None
    return ProcessError(
        f"another of the {world_size} processes has stopped or does not answer",
        where=str(error).splitlines()[0][:200] if str(error) else None,
        remedy='Look at the messages of the others; start all of them again with resume="auto".',
    )
