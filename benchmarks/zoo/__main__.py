"""Command line of the zoo: ``python -m benchmarks.zoo --help``."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd

from .designs import KINDS, N_SCREENS, design
from .regret import compared, means_table, regret_table, summary_table
from .running import BASELINES, METHODS, quieten, read_results, run_screen, wanted_numbers

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run what is asked for."""
    arguments = _parser().parse_args()
    arguments.function(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Make the results that are missing, a screen at a time."""
    numbers = wanted_numbers(arguments.half, arguments.kind, arguments.screens)
    if arguments.data is None:
        numbers = [n for n in numbers if design(n).source in ("simulated", "profiles")]
        print("Without --data the screens cut out of real data are left out.", flush=True)
    methods = arguments.method or [*BASELINES, "anchor"]
    with ProcessPoolExecutor(arguments.jobs, initializer=quieten) as pool:
        places = (methods, arguments.rename or {}, arguments.results, arguments.data, arguments.again)
        jobs = {pool.submit(run_screen, number, *places): number for number in numbers}
        for done in as_completed(jobs):
            try:
                lines = done.result()
            except Exception as error:  # noqa: BLE001
                lines = [f"{jobs[done]} failed: {type(error).__name__}: {error}"]
            for line in filter(None, lines):
                print(line, flush=True)


def table(arguments: argparse.Namespace) -> None:
    """Print means, differences and regret of a half."""
    results = read_results(arguments.results)
    if arguments.half:
        results = results[results["half"] == arguments.half]
    if arguments.kind:
        results = results[results["kind"].isin(arguments.kind)]
    others = [name for name in dict.fromkeys(results["method"]) if name not in BASELINES]
    methods = arguments.method or others
    print(f"Half: {arguments.half or 'both'}; {results['number'].nunique()} screens\n")
    print(_markdown(means_table(results).round(3)), "\n")
    print(_markdown(summary_table(results, methods)), "\n")
    if len(methods) > 1:
        pairs = {f"{b} - {a}": compared(results, b, a) for a, b in zip(methods, methods[1:], strict=False)}
        print(_markdown(pd.DataFrame(pairs).T.rename_axis("difference")), "\n")
    for method in methods:
        print(_markdown(regret_table(results, method)), "\n")


def _markdown(rows: pd.DataFrame) -> str:
    head = [str(rows.index.name), *map(str, rows.columns)]
    lines = [head, ["---"] * len(head), *([str(name), *map(str, values)] for name, *values in rows.itertuples())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "zoo")
    shared.add_argument("--half", choices=["chosen", "unseen"], help="even or odd screens; both by default")
    shared.add_argument("--kind", nargs="*", choices=[*dict.fromkeys(KINDS)], help="kinds of design")
    shared.add_argument("--method", nargs="*", help="methods, or names that results were kept under")
    making = commands.add_parser("run", parents=[shared], help="make the results that are missing")
    data = os.environ.get("TRANSPERT_DATA")
    making.add_argument("--data", type=Path, default=Path(data) if data else None, help="real data; or $TRANSPERT_DATA")
    making.add_argument("--screens", type=int, default=N_SCREENS, help="how many, from the first")
    making.add_argument("--jobs", type=int, default=2)
    making.add_argument("--again", action="store_true", help="also those that there are")
    making.add_argument("--rename", type=_renaming, help="METHOD=NAME: keep the results under another name")
    making.set_defaults(function=run)
    printing = commands.add_parser("table", parents=[shared], help="print regret by kind of design")
    printing.set_defaults(function=table)
    return parser


def _renaming(text: str) -> dict[str, str]:
    method, _, name = text.partition("=")
    if method not in METHODS or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not METHOD=NAME with a method of {', '.join(METHODS)}")
    return {method: name}


if __name__ == "__main__":
    main()
