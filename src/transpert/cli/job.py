"""The steps of a whole job, each from the settings and the files of the step before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transpert.cli._console import read_h5ad
from transpert.cli.settings import Settings
from transpert.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

CELLS, MODEL, PREDICTION, SCORES, REPORT = "cells.h5ad", "model", "prediction.h5ad", "scores.csv", "report.html"


def split(settings: Settings) -> AnnData:
    """Normalise the cells, divide them, and write both."""
    from transpert import pp

    data, asked = settings.data, settings.split
    adata = read_h5ad(Path(data.file))
    pp.normalize(adata, layer=data.layer, library_size_key=data.library_size_key)
    pp.split(
        adata,
        holdout=asked.holdout,
        by=asked.by,  # type: ignore[arg-type]  # pp.split says which there are
        fraction=asked.fraction,
        perturbation_key=data.perturbation_key,
        control=data.control,
        context_keys=data.context_keys,
        seed=asked.seed,
    )
    folder = Path(settings.output.folder)
    folder.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(folder / CELLS)
    return adata


def train(settings: Settings) -> str:
    """Train on the cells of the step before, and write the model."""
    from transpert.model import SCALE, TrainingOptions

    asked = settings.train
    adata = read_h5ad(_found(settings, CELLS, "split"))
    design = dataclasses.asdict(settings.data)
    design.pop("file")
    SCALE.setup_anndata(adata, **{**design, "layer": "counts"}, split_key="split")
    training = None if asked.steps is None else TrainingOptions(steps=asked.steps)
    model = SCALE(adata, preset=asked.preset, training=training, seed=asked.seed)
    model.train(accelerator=asked.accelerator)
    model.save(Path(settings.output.folder) / MODEL, overwrite=True)
    return model.summary()


def predict(settings: Settings) -> AnnData:
    """Predict what was asked for, by default what was held out, and write it."""
    from transpert.model import SCALE

    asked = settings.predict
    adata = read_h5ad(_found(settings, CELLS, "split"))
    model = SCALE.load(_found(settings, MODEL, "train"), adata)
    wanted = _held_out(adata, settings) if asked.contexts is None and asked.perturbations is None else {}
    arguments: dict[str, Any] = {"contexts": asked.contexts, "perturbations": asked.perturbations, **wanted}
    pred = model.predict(**arguments, n_cells=asked.n_cells, seed=asked.seed)
    pred.write_h5ad(Path(settings.output.folder) / PREDICTION)
    return pred


def _held_out(adata: AnnData, settings: Settings) -> dict[str, Any]:
    """Return the contexts and perturbations of the test set."""
    from transpert._anndata import frame

    data = settings.data
    cells = frame(adata.obs)
    test = cells[cells["split"] == "test"]
    contexts = test[data.context_keys].astype(str).drop_duplicates().to_dict("records") if data.context_keys else None
    return {"contexts": contexts, "perturbations": sorted(test[data.perturbation_key].astype(str).unique())}


def evaluate(settings: Settings) -> pd.DataFrame:
    """Score the prediction, and write the scores."""
    from transpert import tl

    asked = settings.evaluate
    scores = tl.evaluate(
        read_h5ad(_found(settings, PREDICTION, "predict")),
        read_h5ad(_found(settings, CELLS, "split")),
        metrics=asked.metrics,
        baselines=asked.baselines,
        library_size_key=settings.data.library_size_key,
        n_bootstrap=asked.n_bootstrap,
        seed=asked.seed,
    )
    scores.to_csv(Path(settings.output.folder) / SCORES, index=False)
    return scores


def report(settings: Settings, command: str) -> Path:
    """Write the page about the prediction."""
    import pandas as pd

    from transpert import pl

    pred = read_h5ad(_found(settings, PREDICTION, "predict"))
    truth = read_h5ad(_found(settings, CELLS, "split"))
    scores = pd.read_csv(_found(settings, SCORES, "evaluate"))
    return pl.report(pred, truth, Path(settings.output.folder) / REPORT, scores=scores, command=command)


def _found(settings: Settings, name: str, step: str) -> Path:
    """Return a file that an earlier step wrote."""
    path = Path(settings.output.folder) / name
    if not path.exists():
        raise StoreError("the file does not exist yet", where=str(path), remedy=f"Run transpert {step} first.")
    return path
