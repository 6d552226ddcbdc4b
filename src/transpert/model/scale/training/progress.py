"""What a training does before and after its steps, shown while it does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ...processes import is_first_process

type Report = Callable[[str], None]


@contextmanager
def stages(shown: bool) -> Iterator[Report]:
    """Show which part of a long work is under way, and for how long."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, disable=not (shown and is_first_process()), transient=True) as bar:
        line = bar.add_task("", total=None)

        def report(text: str) -> None:
            bar.reset(line, description=text)
            bar.refresh()  # the screen is renewed now and then only, and the next part may take all the processor

        yield report
