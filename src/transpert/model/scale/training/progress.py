"""What a training does before and after its steps, shown while it does it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import Callback
from rich import get_console
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ...processes import is_first_process

type Report = Callable[[str], None]

_SHOWN = {"train_loss": "loss", "validation_loss": "validation"}  # as they stand at the end of an epoch


@contextmanager
def stages(shown: bool) -> Iterator[Report]:
    """Show which part of a long work is under way, and for how long; in a file of a log a line for each part."""
    if shown and is_first_process() and not is_renewed(get_console()):
        yield _lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, disable=not (shown and is_first_process()), transient=True) as bar:
        line = bar.add_task("", total=None)

        def report(text: str) -> None:
            bar.reset(line, description=text)
            bar.refresh()  # the screen is renewed now and then only, and the next part may take all the processor

        yield report


def is_renewed(console: Console) -> bool:
    """Whether what a console shows can be renewed where it stands: in a terminal and a notebook, and not in a file."""
    return console.is_terminal or console.is_jupyter


def _lines() -> Report:
    """Return what writes a line where a part of the work begins; how far it is within the part is left out."""
    last = ""

    def report(text: str) -> None:
        nonlocal last
        part = text.partition(":")[0]
        if part != last:
            print(part, file=sys.stderr, flush=True)
        last = part

    return report


class EpochLines(Callback):
    """Write a line an epoch, where a bar would become one endless line."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the losses of the epoch."""
        if trainer.is_global_zero:
            found = {name: float(value) for name, value in trainer.callback_metrics.items() if name in _SHOWN}
            losses = ", ".join(f"{_SHOWN[name]} {value:.4g}" for name, value in sorted(found.items()))
            number = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            print(f"{number}: {losses}" if losses else number, file=sys.stderr, flush=True)
