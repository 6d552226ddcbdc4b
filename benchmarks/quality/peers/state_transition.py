"""STATE through its command line: ``state tx train`` and ``state tx infer`` on highly variable genes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from exchange import CONTEXT, PERTURBATION, Job, dense, read_job, write_predictions

NAME, SPACE = "cells", "X_hvg"
BATCH = "batch_of_state"


def main() -> None:
    """Train, predict, write."""
    job = read_job()
    job.cells.obs[BATCH] = "one"
    training, toml = _write_training_data(job)
    start = time.perf_counter()
    _state("train", *_overrides(job, toml))
    trained = time.perf_counter()
    model = job.place / "state"
    blocks = _predictions(job, model)
    write_predictions(
        job,
        blocks,
        {
            "training_seconds": trained - start,
            "prediction_seconds": time.perf_counter() - trained,
            "version": f"arc-state {version('arc-state')}",
            "training_cells": training,
        },
    )


def _write_training_data(job: Job) -> tuple[int, Path]:
    folder = job.place / "training"
    folder.mkdir()
    cells = _plain(job.cells)
    cells.write_h5ad(folder / "cells.h5ad")
    toml = job.place / "state.toml"
    # contexts with controls only are in the data set too: there is nothing in them that could leak
    toml.write_text(f'[datasets]\n{NAME} = "{folder}"\n\n[training]\n{NAME} = "train"\n\n[zeroshot]\n\n[fewshot]\n')
    return cells.n_obs, toml


def _plain(cells: anndata.AnnData) -> anndata.AnnData:
    """Cells as STATE wants them: dense values in obsm, plain categories, no name on the index of genes."""
    obs = pd.DataFrame(
        {key: pd.Categorical(cells.obs[key].astype(str).astype(object)) for key in (PERTURBATION, CONTEXT, BATCH)},
        index=cells.obs_names.astype(str).astype(object),
    )
    var = pd.DataFrame(index=cells.var_names.astype(str).astype(object))
    return anndata.AnnData(cells.X, obs=obs, var=var, obsm={SPACE: dense(cells)})


def _overrides(job: Job, toml: Path) -> list[str]:
    fixed = {
        "data.kwargs.toml_config_path": toml,
        "data.kwargs.embed_key": SPACE,
        "data.kwargs.output_space": "gene",
        "data.kwargs.pert_col": PERTURBATION,
        "data.kwargs.cell_type_key": CONTEXT,
        "data.kwargs.batch_col": BATCH,
        "data.kwargs.control_pert": job.control,
        "data.kwargs.num_workers": 0,
        "data.kwargs.pin_memory": "false",
        "training.train_seed": job.seed,
        "output_dir": job.place,
        "name": "state",
        "use_wandb": "false",
    }
    return [f"{key}={value}" for key, value in {**fixed, **job.config["overrides"]}.items()]


def _predictions(job: Job, model: Path) -> list[tuple[dict | str, np.ndarray]]:
    """Let STATE fill cells that are labelled with what is wanted; the controls they start from are there too."""
    parts, keys = [], []
    for row in job.wanted:
        asked = job.controls(row["context"])
        asked.obs[PERTURBATION] = row["perturbation"]
        parts.append(asked)
        keys += [f"{row['context']}\t{row['perturbation']}"] * asked.n_obs
    for context in job.contexts():
        parts.append(job.controls(context))
        keys += [f"{context}\t"] * parts[-1].n_obs
    request = anndata.concat([_plain(part) for part in parts], index_unique="-")
    request.write_h5ad(job.place / "request.h5ad")
    checkpoint = max((model / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    arguments = {
        "--checkpoint": checkpoint,
        "--model-dir": model,
        "--adata": job.place / "request.h5ad",
        "--output": job.place / "answer.h5ad",
        "--embed-key": SPACE,
        "--pert-col": PERTURBATION,
        "--celltype-col": CONTEXT,
        "--control-pert": job.control,
        "--seed": job.seed,
    }
    _state("infer", "--quiet", *(str(item) for pair in arguments.items() for item in pair))
    answer = anndata.read_h5ad(job.place / "answer.h5ad")
    values = np.asarray(answer.obsm[SPACE])
    keys = np.array(keys, dtype=object)
    found: list[tuple[dict | str, np.ndarray]] = []
    for row in job.wanted:
        found.append((row, values[keys == f"{row['context']}\t{row['perturbation']}"]))
    found += [(context, values[keys == f"{context}\t"]) for context in job.contexts()]
    return found


def _state(command: str, *arguments: str) -> None:
    program = Path(sys.executable).with_name("state")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
    subprocess.run([str(program), "tx", command, *arguments], check=True, env=environment)


if __name__ == "__main__":
    main()
