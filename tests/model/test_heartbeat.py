"""A process that is gone is noticed, one that is slow is not, and waiting for the former ends."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace

import pytest
from torch import distributed

from transpert.model import heartbeat
from transpert.model.heartbeat import Heartbeat


@pytest.fixture
def fast(monkeypatch):
    """Beats of a hundredth of a second, and a store in this process."""
    store = distributed.HashStore()
    monkeypatch.setattr(heartbeat, "_BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "_SILENCE", 20)
    known = SimpleNamespace(
        is_initialized=lambda: True, distributed_c10d=SimpleNamespace(_get_default_store=store.clone)
    )
    monkeypatch.setattr(heartbeat, "distributed", known)
    return store


def started(rank: int, world_size: int = 2) -> Heartbeat:
    made = Heartbeat()
    made.setup(SimpleNamespace(world_size=world_size, global_rank=rank), None, "fit")
    return made


def connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection over the network of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


def wait_on(end: socket.socket, seconds: float) -> bytes | None:
    """What comes from the other end: nothing more, where it was closed; None where nobody spoke."""
    end.settimeout(seconds)
    try:
        return end.recv(1)
    except TimeoutError:
        return None


def test_waiting_for_a_process_that_is_gone_ends(fast) -> None:
    before = connection()
    first, second = started(0), started(1)
    between = connection()
    assert wait_on(between[0], 0.5) is None  # both live
    second._over.set()  # no further sign, and no word why
    assert wait_on(between[0], 5) == b""
    assert wait_on(before[0], 0.05) is None  # what was open before has nothing to do with it
    first.teardown(None, None, "fit")
    for end in (*before, *between):
        end.close()


@pytest.mark.parametrize(("how", "heard"), [("teardown", None), ("on_exception", b"")])
def test_a_process_that_has_ended_is_not_waited_for_and_one_that_failed_is_known_at_once(fast, monkeypatch, how, heard):
    monkeypatch.setattr(heartbeat, "_SILENCE", 1000)
    first, second = started(0), started(1)
    between = connection()
    time.sleep(0.1)
    getattr(second, how)(None, None, "fit" if how == "teardown" else KeyboardInterrupt())
    assert wait_on(between[0], 0.5) == heard
    first.teardown(None, None, "fit")
    for end in between:
        end.close()


@pytest.mark.parametrize("how", ["teardown", "on_exception"])
def test_what_was_said_in_an_earlier_training_does_not_count(fast, how) -> None:
    for beats in (started(0), started(1)):
        getattr(beats, how)(None, None, "fit" if how == "teardown" else KeyboardInterrupt())
    first, second = started(0), started(1)
    between = connection()
    assert wait_on(between[0], 0.5) is None
    second._over.set()
    assert wait_on(between[0], 5) == b""
    first.teardown(None, None, "fit")
    for end in between:
        end.close()


def test_one_process_alone_is_not_watched(fast) -> None:
    before = threading.active_count()
    alone = started(0, world_size=1)
    assert threading.active_count() == before
    alone.teardown(None, None, "fit")
    assert fast.num_keys() == 0
