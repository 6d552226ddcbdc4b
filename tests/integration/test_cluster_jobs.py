"""The job files of the documentation, run with programs that only note how they were called.

What they start is run with two workers in ``tests/model/test_survival.py``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "docs" / "scripts" / "cluster"


@pytest.mark.parametrize(
    ("job", "arguments", "program", "line"),
    [
        ("train", ["cells.h5ad", "model"], "torchrun", "train.py cells.h5ad model"),
        ("predict", ["model", "cells.h5ad", "pred.zarr"], "python", "predict.py model cells.h5ad pred.zarr 3 16"),
        ("evaluate", ["p.zarr", "c.h5ad", "s.csv"], "python", "evaluate.py p.zarr c.h5ad s.csv scheduler-7.json"),
    ],
)
def test_job_files_start_their_script_with_what_it_takes(job, arguments, program, line, tmp_path) -> None:
    for name in ("python", "torchrun", "dask", "srun", "scontrol"):
        noted = f'echo "{name} $@" >> {tmp_path}/log'
        does = {"srun": 'exec "$@"', "scontrol": "echo node0"}.get(name, noted)
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    given = {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7"}
    given |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(SCRIPTS / f"{job}.slurm"), *arguments], env=given, check=True, cwd=tmp_path, timeout=60)
    said = (tmp_path / "log").read_text().splitlines()
    assert any(text.startswith(program) and text.endswith(line) for text in said), said
    assert (SCRIPTS / line.split()[0]).exists()
