"""A measurement in a process of its own, whose peak memory then is that of the measurement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def run_alone(*arguments: str) -> Any:
    """Run Python with these arguments, and read the last line that it prints as JSON."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_HERE.parents[1] / "src"), str(_HERE)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return json.loads(done.stdout.strip().splitlines()[-1])
