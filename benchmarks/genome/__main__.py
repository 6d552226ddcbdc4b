"""Measure verbs on screens of real size.

``python -m benchmarks.genome run`` prints one JSON line a row; ``--short`` takes small screens, ``--source`` the
package of another working tree, so that before and after are measured in one run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .measure import ROOT, measure, measure_alone


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.genome", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("one", help="one measurement, in this process")
    one.add_argument("verb")
    one.add_argument("design")
    run = commands.add_parser("run", help="measurements, each in a process of its own")
    run.add_argument("--verbs", nargs="+", default=None)
    run.add_argument("--designs", nargs="+", default=list("abcd"))
    run.add_argument("--source", nargs="+", type=Path, default=[ROOT / "src"])
    run.add_argument("--limit", type=float, default=900, help="seconds that a measurement may take")
    for command in (one, run):
        command.add_argument("--folder", type=Path, default=Path("build/genome"))
        command.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "one":
        print(json.dumps(measure(arguments.verb, arguments.design, arguments.folder, short=arguments.short)))
        return
    verbs = arguments.verbs or _all_verbs()
    for design in arguments.designs:
        for verb in verbs:
            for source in arguments.source:
                row = measure_alone(
                    verb, design, arguments.folder, short=arguments.short, source=source, limit=arguments.limit
                )
                print(json.dumps({"source": source.parent.name, **row}), flush=True)


def _all_verbs() -> list[str]:
    """The names of the verbs, for which the package is imported."""
    from .verbs import VERBS

    return list(VERBS)


if __name__ == "__main__":
    main()
