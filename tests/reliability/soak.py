"""The long form of the tests of reliability, in pieces, and one table of what came of them.

``python tests/reliability/soak.py [calls|files|metadata|forms|kills|processes|predictions ...]``, with ``--calls N``
and ``--kills N`` for how many.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import types
from pathlib import Path

# a package of this name may be installed, and would be imported in place of the folder
TESTS = types.ModuleType("tests")
TESTS.__path__ = [str(Path(__file__).parents[1])]
sys.modules["tests"] = TESTS

PIECE = 500  # calls of a seed, after which the cells and models are made anew
MOST_MEGABYTES = 10  # of growth over a thousand predictions, which the allocator makes without a leak

type Rows = list[tuple[str, int | float | str]]


def calls(asked: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Make odd calls of every public function, in pieces, each with a seed of its own."""
    from tests.reliability.fuzzing import Report, run

    total = Report()
    for number in range(0, asked.calls, PIECE):
        found = run(min(PIECE, asked.calls - number), asked.seed + number // PIECE, shown=True)
        total.outcomes.update(found.outcomes)
        total.faults += found.faults
        print(f"{min(number + PIECE, asked.calls)} calls: {total}", flush=True)
    return [("fuzzed calls", asked.calls), ("raw errors and invariants broken", len(total.faults))], total.faults


def files(asked: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Read hostile files of every kind."""
    from tests.reliability.hostile import attack
    from tests.reliability.workshop import Workshop

    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer, "shop")  # what is written outside would be seen beside it
        folder.mkdir()
        os.chdir(folder)
        found = attack(Workshop(folder), seed=asked.seed)
        os.chdir(Path(__file__).parent)
    return [
        ("hostile files", sum(found.outcomes.values())),
        ("faults of reading them", len(found.faults)),
    ], found.faults


def metadata(asked: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Read cells whose metadata other hands have changed."""
    from tests.reliability.metadata import attack_metadata
    from tests.reliability.workshop import Workshop

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = attack_metadata(Workshop(Path(folder)), seed=asked.seed, shown=True)
        os.chdir(Path(__file__).parent)
    rows: Rows = [("reads of changed metadata", sum(found.outcomes.values())), ("faults of them", len(found.faults))]
    return rows, found.faults


def forms(asked: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Give every public function its cells in every form."""
    from tests.reliability.forms import compare
    from tests.reliability.workshop import Workshop

    with tempfile.TemporaryDirectory() as shop, tempfile.TemporaryDirectory() as written:
        outcomes, faults = compare(Workshop(Path(shop)), Path(written))
    return [*((f"forms of cells: {what}", number) for what, number in outcomes.items())], faults


def kills(asked: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Kill, interrupt, double and starve everything that writes."""
    from tests.reliability.killing import FAULTS, Report, run

    total = Report()
    for fault in FAULTS:
        number = asked.kills if fault == "kill" else -(-asked.kills // 5)
        with tempfile.TemporaryDirectory() as folder:
            found = run(number, asked.seed, Path(folder), (fault,))
        total.add(found)
        print(f"{fault}: {found}", flush=True)
    rows: Rows = [(f"writers: {fault}", number) for fault, number in total.faults.items()]
    return [*rows, ("cells, models and files lost, raw errors", len(total.lost))], total.lost


def processes(asked: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Kill, and stop, one of two processes that train together."""
    from tests.reliability.killing import bereaved

    rows: Rows = []
    faults = []
    for how in ("SIGKILL", "SIGSTOP"):
        with tempfile.TemporaryDirectory() as folder:
            seconds, said = bereaved(how, Path(folder))
        rows.append((f"seconds until the other process ended, {how}", round(seconds)))
        faults += [] if seconds < 60 and said.startswith("ProcessError") else [f"{how}: {seconds:.0f} s, {said}"]
    return rows, faults


def predictions(asked: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Predict a thousand times, and from four threads."""
    import numpy as np
    from tests.reliability.lasting import growth, in_threads, model_of, network, train, values

    import transpert as tp

    models = [model_of(tp.KernelTransport), train(network())]
    megabytes, handles = growth(models, 1000)
    alone = [values(models[0], seed) for seed in range(4)]
    together = in_threads(*(lambda seed=seed: values(models[0], seed) for seed in range(4)))
    other = sum(not np.array_equal(one, several) for one, several in zip(alone, together, strict=True))
    rows: Rows = [("predictions", 1000), ("MB of growth", round(megabytes, 1)), ("open files left", handles)]
    faults = [f"{megabytes:.1f} MB, {handles} files"] if megabytes > MOST_MEGABYTES or handles else []
    return [*rows, ("other predictions in four threads", other)], faults + ["threads"] * other


PIECES = {piece.__name__: piece for piece in (calls, files, metadata, forms, kills, processes, predictions)}


def main(arguments: list[str]) -> int:
    """Run the pieces that are asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pieces", nargs="*", choices=[*PIECES, []], help="all of them by default")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    table: Rows = []
    found: list[str] = []
    for name in asked.pieces or PIECES:
        begin = time.monotonic()
        rows, faults = PIECES[name](asked)
        table += [*rows, (f"seconds for {name}", round(time.monotonic() - begin))]
        found += faults
    print("\n".join(["", *found, "", *(f"{what:<55} {value:>10}" for what, value in [*table, ("faults", len(found))])]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
