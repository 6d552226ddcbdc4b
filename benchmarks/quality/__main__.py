"""Command line of the benchmark: ``python -m benchmarks.quality --help``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from itertools import product
from pathlib import Path

from .configuration import chosen, load_methods, load_tasks
from .environments import default_folder
from .report import write_report
from .results import Run, check_same_cells, read_results, tidy
from .running import Places, commit, make, missing

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run what is asked for."""
    arguments = _parser().parse_args()
    arguments.function(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Make the missing runs, seed by seed, so that one seed of everything comes first."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    tasks, methods = load_tasks(), load_methods()
    places = Places(arguments.data, arguments.results, arguments.environments)
    commit()  # the code of this process is what is there now, whatever is changed while it runs
    names = chosen(arguments.task, tasks, "task")
    for seed, task_name in product(arguments.seeds, names):
        task = tasks[task_name]
        splits = chosen(arguments.split, {split.name: split for split in task.splits}, "split")
        for split, method_name in product(splits, chosen(arguments.method, methods, "method")):
            method = methods[method_name]
            this = Run(task_name, split, method_name, seed)
            if not method.takes(task_name) or not missing(this, task, places, again=arguments.again):
                continue
            start = time.perf_counter()
            result = make(this, task, method, places, arguments.limit)
            print(
                f"{task_name} / {split} / {method_name} / seed {seed}: {result.status}"
                f" ({time.perf_counter() - start:.0f} s) {result.reason[-300:]}",
                flush=True,
            )


def table(arguments: argparse.Namespace) -> None:
    """Write the page, and the tidy rows beside the results."""
    results = read_results(arguments.results)
    check_same_cells(results)
    tidy(results).to_csv(arguments.results / "rows.csv", index=False)
    write_report(results, load_tasks(), load_methods(), arguments.out, command="python -m benchmarks.quality table")
    print(f"{len(results)} results -> {arguments.out}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run", help="make the runs that have no result yet")
    runs.add_argument("--task", nargs="*", help="tasks; all by default")
    runs.add_argument("--split", nargs="*", help="splits; all of each task by default")
    runs.add_argument("--method", nargs="*", help="methods; all by default")
    runs.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    runs.add_argument("--data", type=Path, default=Path("data"), help="folder of the data files")
    runs.add_argument("--environments", type=Path, default=default_folder(), help="folder of the peers' environments")
    runs.add_argument("--limit", type=float, default=1_800, help="seconds of processor time that a run may take")
    runs.add_argument("--again", action="store_true", help="try again what failed or took too long")
    runs.set_defaults(function=run)
    tables = commands.add_parser("table", help="write the page from the results there are")
    tables.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "quality.md")
    tables.set_defaults(function=table)
    for command in (runs, tables):
        command.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "quality")
    return parser


if __name__ == "__main__":
    main()
