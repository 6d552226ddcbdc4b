"""The long form of the fuzzed calls: ``python tests/reliability/soak.py 10000 [seed]`` prints what came of them."""

from __future__ import annotations

import sys
import types
from pathlib import Path

# a package of this name may be installed, and would be imported in place of the folder
TESTS = types.ModuleType("tests")
TESTS.__path__ = [str(Path(__file__).parents[1])]
sys.modules["tests"] = TESTS

PIECE = 500  # calls of a seed, after which the cells and models are made anew


def main(n_calls: int, seed: int) -> int:
    """Make the calls in pieces, each with a seed of its own, and print the counts."""
    from tests.reliability.fuzzing import Report, run

    total = Report()
    for number in range(0, n_calls, PIECE):
        found = run(min(PIECE, n_calls - number), seed + number // PIECE, shown=True)
        total.outcomes.update(found.outcomes)
        total.faults += found.faults
        print(f"{number + PIECE} calls: {total}", flush=True)
    return int(bool(total.faults))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
