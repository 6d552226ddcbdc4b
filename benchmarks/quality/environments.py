"""Environments of their own for the peers, outside the repository: nobody's pins decide what others run with."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER_VARIABLE = "TRANSPERT_PEERS"
PYTHON = "3.12"


def default_folder() -> Path:
    """Folder of the environments: ``$TRANSPERT_PEERS``, or one in the temporary folder."""
    return Path(os.environ.get(FOLDER_VARIABLE, Path(tempfile.gettempdir()) / "peers"))


def python_of(name: str, requirements: list[str], folder: Path) -> Path:
    """Return the interpreter of an environment, made from PyPI at the first call; two callers wait for each other."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / name
    python = place / "bin" / "python"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / ".complete").exists():
            return python
        shutil.rmtree(place, ignore_errors=True)
        print(f"installing {', '.join(requirements)} into {place}", file=sys.stderr)
        uv = _uv()
        subprocess.run([uv, "venv", "-q", "--python", PYTHON, str(place)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *requirements], check=True)
        (place / ".complete").touch()
    return python


def _uv() -> str:
    found = shutil.which("uv") or Path(__file__).resolve().parents[2] / ".bootstrap" / "bin" / "uv"
    if not Path(found).exists():
        raise FileNotFoundError("uv is needed to make the environments of the peers: pip install uv")
    return str(found)
