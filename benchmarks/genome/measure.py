"""One measurement: a verb on a screen, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def measure(verb: str, design: str, folder: Path, *, short: bool) -> dict[str, Any]:
    """Return the CPU seconds, the seconds, and the peak memory while the verb ran, of all that was held."""
    warnings.simplefilter("ignore")
    from .designs import read_screen
    from .verbs import VERBS

    screen, adata = read_screen(design, folder, short=short)
    run = VERBS[verb](screen, adata, folder)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    start, used = time.perf_counter(), time.process_time()
    run()
    return {
        "design": design, "verb": verb, "cpu_s": round(time.process_time() - used, 2),
        "wall_s": round(time.perf_counter() - start, 2), "peak_gb": round(_status("VmHWM"), 2),
        "held_before_gb": round(before, 2),
    }  # fmt: skip


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1e6


def measure_alone(
    verb: str, design: str, folder: Path, *, short: bool = False, source: Path = ROOT / "src", limit: float = 900
) -> dict[str, Any]:
    """Measure in a process of its own, with the package that is in ``source``; a failure is a row too."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.genome", "one", verb, design, "--folder", str(folder)]
    command += ["--short"] if short else []
    known = {"design": design, "verb": verb}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return {**known, "failed": f"over {limit:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {**known, "failed": lines[-1][:200] if lines else f"ended by signal {-done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])
