"""Processes that train together tell each other that they live, so that none waits for one that does not."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import suppress
from datetime import timedelta
from typing import override

import lightning
from torch import distributed

_BEAT = 1.0  # seconds between two signs of life
_SILENCE = 40  # beats without one, after which a process is taken to be gone; a slow one still gives them
_ENDED, _FAILED = "ended", "failed"
_ANSWER = timedelta(seconds=5)  # of the store


class Heartbeat(lightning.Callback):
    """Give a sign of life every second while a training lasts, and watch those of the other processes.

    The libraries under torch.distributed see at once that a process has ended, but wait minutes for one that hangs, or
    whose machine is gone. A time limit for steps would end slow ones too. Beats are counted, not seconds: processes
    that are stopped together go on together.
    """

    def __init__(self) -> None:
        self._before = _connections()  # those that come later are between the processes
        self._over = threading.Event()
        self._silent: dict[int, int] = {}
        self._threads: list[threading.Thread] = []

    @override
    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        others = set(range(trainer.world_size)) - {trainer.global_rank}
        if others and distributed.is_initialized() and not self._threads:
            self._store = distributed.distributed_c10d._get_default_store().clone()
            self._store.set_timeout(_ANSWER)
            self._rank, self._silent = trainer.global_rank, dict.fromkeys(others, 0)
            # all processes train equally often; what was said in earlier trainings does not count
            self._training = self._store.add(f"transpert/trainings/{self._rank}", 1)
            # the store may not answer either, when the process that holds it is gone: one thread asks it, one counts
            self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._watch)]
            for thread in self._threads:
                thread.start()

    @override
    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._end(_ENDED)

    @override
    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._end(_FAILED)

    def _end(self, how: str) -> None:
        """Say that no signs will follow, and why."""
        if self._threads and not self._over.is_set():
            self._over.set()
            with suppress(Exception):  # the one that holds the store may be gone
                self._store.set(self._key(self._rank), how)

    def _key(self, rank: int) -> str:
        return f"transpert/alive/{self._training}/{rank}"

    def _beat(self) -> None:
        """Give signs of life, and look for those of the others."""
        seen: dict[int, str] = {}
        number = 0
        while not self._over.wait(_BEAT):
            number += 1
            with suppress(Exception):  # who does not answer is silent
                self._store.set(self._key(self._rank), str(number))
                for rank in list(self._silent):
                    if self._store.check([self._key(rank)]):
                        self._hear(rank, self._store.get(self._key(rank)).decode(), seen)

    def _hear(self, rank: int, sign: str, seen: dict[int, str]) -> None:
        """Take note of what another process says."""
        if sign == _ENDED:
            self._silent.pop(rank, None)
        elif sign == _FAILED:
            self._silent[rank] = _SILENCE
        elif sign != seen.get(rank):
            self._silent[rank], seen[rank] = 0, sign

    def _watch(self) -> None:
        """Count the beats since each process was heard, and end the waiting for one that is silent."""
        while not self._over.wait(_BEAT):
            for rank in list(self._silent):
                self._silent[rank] = self._silent.get(rank, 0) + 1
            if max(self._silent.values(), default=0) > _SILENCE:
                self._over.set()
                # whoever waits for the other, now or later, is told that the connection was closed
                for handle in _connections() - self._before:
                    _shut_down(handle)
                return


def _connections() -> set[int]:
    """Return the network connections that this process has open; none where the system does not say."""
    with suppress(OSError):
        return {int(name) for name in os.listdir("/proc/self/fd") if _is_connection(int(name))}
    return set()


def _is_connection(handle: int) -> bool:
    """Whether an open file is a connection to another process over a network."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.fstat(handle).st_mode):
            with socket.socket(fileno=os.dup(handle)) as found:
                found.getpeername()
                return found.family in (socket.AF_INET, socket.AF_INET6)
    return False


def _shut_down(handle: int) -> None:
    """Close a connection for both sides, while whoever uses it keeps the open file."""
    with suppress(OSError), socket.socket(fileno=os.dup(handle)) as found:
        found.shutdown(socket.SHUT_RDWR)
