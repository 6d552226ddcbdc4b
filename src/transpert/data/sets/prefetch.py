"""Run an iterator in a thread, a few items ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

_POLL_SECONDS = 0.1


def prefetch[Item](make: Callable[[], Iterator[Item]], ahead: int) -> Iterator[Item]:
    """Yield what ``make()`` yields, computed in a thread up to ``ahead`` items in advance.

    An error in the thread is raised where the items are consumed. Closing the iterator ends the thread.
    """
    if ahead < 1:
        yield from make()
        return
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(make, ready, stop), daemon=True, name="transpert-prefetch")
    thread.start()
    try:
        while True:
            item, error, done = ready.get()
            if error is not None:
                raise error
            if done:
                return
            yield item
    finally:
        stop.set()
        thread.join()


def _fill(make: Callable[[], Iterator], ready: queue.Queue, stop: threading.Event) -> None:
    try:
        for item in make():
            if not _put(ready, (item, None, False), stop):
                return
        _put(ready, (None, None, True), stop)
    except BaseException as error:  # noqa: BLE001 - it is raised again in the consuming thread
        _put(ready, (None, error, True), stop)


def _put(ready: queue.Queue, entry: tuple, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ready.put(entry, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False
