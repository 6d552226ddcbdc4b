"""Environments of their own for the peers, so that nobody's pins decide what the others run with."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = {
    "cell-load": ["cell-load==0.10.4"],
    "scvi-tools": ["scvi-tools==1.5.1"],
    "bionemo-scdl": ["bionemo-scdl==0.1.3"],
    "state": ["arc-state==0.11.1"],  # CC BY-NC-SA: run, never copied from
    "annbatch": ["annbatch[torch,numba]==0.3.1", "zarrs"],
}


def python_of(name: str, folder: Path) -> Path:
    """Return the interpreter of an environment with the packages of ``name``; made from PyPI at the first call."""
    place = folder / name
    python = place / "bin" / "python"
    complete = place / ".complete"
    if complete.exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=True)
    uv = shutil.which("uv")
    install = (
        [uv, "pip", "install", "-q", "--python", str(python)] if uv else [str(python), "-m", "pip", "install", "-q"]
    )
    print(f"installing {', '.join(REQUIREMENTS[name])} into {place}", file=sys.stderr)
    subprocess.run([*install, *REQUIREMENTS[name]], check=True)
    complete.touch()
    return python
