"""The steps of a whole job, each from the settings and the files of the step before."""

from __future__ import annotations

import dataclasses
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transpert._files import reading
from transpert._folders import used_alone
from transpert.cli._console import read_h5ad, write_figure, write_file, write_table
from transpert.cli.settings import Settings
from transpert.errors import OptionError, StoreError, list_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from transpert.tl import ScalingStudy

CELLS, MODEL, PREDICTION, SCORES, REPORT = "cells.h5ad", "model", "prediction.h5ad", "scores.csv", "report.html"
RANKING, CHECKPOINTS = "ranking.csv", "checkpoints"


def alone(settings: Settings) -> AbstractContextManager[None]:
    """Keep another job out of the folder of results, which would mix the cells of one with the model of the other."""
    folder = Path(settings.output.folder)
    return used_alone(folder, "job", StoreError, "run the command again") if is_first() else nullcontext()


def is_first() -> bool:
    """Whether this is the first of all processes that train together, which writes and speaks for them."""
    return not int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)  # torchrun sets both, Lightning one


def split(settings: Settings) -> AnnData:
    """Normalise the cells, divide them, and write both."""
    from transpert import pp

    data = settings.data
    adata = read_h5ad(Path(data.file))
    pp.normalize(adata, layer=data.layer, library_size_key=data.library_size_key)
    _divide(adata, settings)
    write_file(Path(settings.output.folder) / CELLS, adata.write_h5ad)
    return adata


def _divide(adata: AnnData, settings: Settings) -> None:
    """Write a split that was saved, or a new one."""
    from transpert import pp
    from transpert.groups import Design

    data, asked = settings.data, settings.split
    if asked.saved is not None:
        if asked.holdout is not None or asked.by is not None:
            remedy = "Keep one of saved, holdout and by."
            raise OptionError("another split is saved already", where="[split]", remedy=remedy)
        design = Design(data.perturbation_key, data.control, tuple(data.context_keys))
        of_cell_load = Path(asked.saved).suffix == ".toml"
        pp.load_split(adata, asked.saved, design=design if of_cell_load else None, on_leak=asked.on_leak)
        return
    names = ("holdout", "by", "fraction", "choice", "seen_parts", "known_perturbations", "pathways", "on_leak", "seed")
    levels = {f"{level}_key": getattr(data, f"{level}_key") for level in ("dose", "time", "batch") if asked.by == level}
    columns = {name: getattr(data, name) for name in ("perturbation_key", "control", "context_keys")}
    pp.split(adata, **columns, **levels, **{name: getattr(asked, name) for name in names})


def train(settings: Settings) -> str:
    """Train on the cells of the step before, and write the model."""
    from transpert.model import SCALE, TrainingOptions

    asked = settings.train
    adata = read_h5ad(_existing_file(settings, CELLS, "split"))
    design = dataclasses.asdict(settings.data)
    design.pop("file")
    SCALE.setup_anndata(adata, **{**design, "layer": "counts"}, split_key="split")
    training = None if asked.steps is None else TrainingOptions(steps=asked.steps)
    model = SCALE(adata, preset=asked.preset, training=training, seed=asked.seed)
    folder = Path(settings.output.folder)
    again: dict[str, Any] = {"checkpoint_dir": folder / CHECKPOINTS, "resume": "auto"} if asked.checkpoints else {}
    model.train(accelerator=asked.accelerator, devices=asked.devices, strategy=asked.strategy, **again)
    model.save(folder / MODEL, overwrite=True)
    return model.summary()


def predict(settings: Settings) -> AnnData:
    """Predict what was asked for, by default what was held out, and write it."""
    from transpert.model import SCALE

    asked = settings.predict
    adata = read_h5ad(_existing_file(settings, CELLS, "split"))
    model = SCALE.load(_existing_file(settings, MODEL, "train"), adata)
    wanted = _held_out(adata, settings) if asked.contexts is None and asked.perturbations is None else {}
    arguments: dict[str, Any] = {"contexts": asked.contexts, "perturbations": asked.perturbations, **wanted}
    pred = model.predict(**arguments, n_cells=asked.n_cells, seed=asked.seed)
    write_file(Path(settings.output.folder) / PREDICTION, pred.write_h5ad)
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
        read_h5ad(_existing_file(settings, PREDICTION, "predict")),
        read_h5ad(_existing_file(settings, CELLS, "split")),
        metrics=asked.metrics,
        baselines=asked.baselines,
        library_size_key=settings.data.library_size_key,
        n_bootstrap=asked.n_bootstrap,
        seed=asked.seed,
    )
    write_table(Path(settings.output.folder) / SCORES, scores)
    return scores


def report(settings: Settings, command: str) -> Path:
    """Write the page about the prediction."""
    import pandas as pd

    from transpert import pl

    pred = read_h5ad(_existing_file(settings, PREDICTION, "predict"))
    truth = read_h5ad(_existing_file(settings, CELLS, "split"))
    path = _existing_file(settings, SCORES, "evaluate")
    with reading(StoreError, path, "table of scores", "Run transpert evaluate again."):
        scores = pd.read_csv(path)
    return pl.report(pred, truth, Path(settings.output.folder) / REPORT, scores=scores, command=command)


def rank(settings: Settings) -> pd.DataFrame:
    """Rank perturbations by what is desired, and write the ranking."""
    from transpert import tl
    from transpert.model import SCALE

    asked = settings.rank
    given = {"signature": asked.signature, "cells": asked.cells, "genes": asked.genes}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise OptionError(
            f"{list_names(named, quote=False) or 'nothing'} says what is wanted",
            where="[rank]",
            remedy="Give one of signature (a CSV file), cells (h5ad) and genes (a list).",
        )
    wanted: Any = asked.genes
    if asked.cells is not None:
        wanted = read_h5ad(Path(asked.cells))
    elif asked.signature is not None:
        wanted = _signature(Path(asked.signature))
    adata = read_h5ad(_existing_file(settings, CELLS, "split"))
    model = SCALE.load(_existing_file(settings, MODEL, "train"), adata)
    ranking = tl.rank_targets(
        model,
        wanted,
        candidates=asked.candidates,
        contexts=asked.contexts,
        direction=asked.direction,  # type: ignore[arg-type]  # rank_targets says which there are
        seed=asked.seed,
    )
    write_table(Path(settings.output.folder) / RANKING, ranking)
    return ranking


def _signature(path: Path) -> pd.Series:
    """Read log fold changes by gene."""
    import pandas as pd

    remedy = "Write a header and two columns: gene, log fold change."
    with reading(OptionError, path, "table of genes and log fold changes", remedy):
        return pd.read_csv(path, index_col=0).iloc[:, 0].astype(float)


def scaling(settings: Settings) -> ScalingStudy:
    """Train models on parts of the cells, and write scores, saturation and a picture."""
    from transpert import pl, tl
    from transpert.groups import Design

    asked, data, folder = settings.scaling, settings.data, Path(settings.output.folder)
    columns = dataclasses.asdict(data)
    for name in ("file", "layer", "library_size_key"):
        columns.pop(name)
    columns["context_keys"] = tuple(columns["context_keys"])
    adata = read_h5ad(_existing_file(settings, CELLS, "split"))
    study = tl.scaling_study(
        adata,
        Design(**columns, split_key="split"),
        models=asked.models,
        axes=asked.axes,
        seeds=asked.seeds,
        metrics=asked.metrics,
        library_size_key=data.library_size_key,
        out=folder / "study",
    )
    write_table(folder / "scaling.csv", study.table)
    pl.scaling(study, show=False)
    write_figure(folder / "scaling.png")
    return study


def _existing_file(settings: Settings, name: str, step: str) -> Path:
    """Return a file that an earlier step wrote."""
    path = Path(settings.output.folder) / name
    if not path.exists():
        raise StoreError("the file does not exist yet", where=str(path), remedy=f"Run transpert {step} first.")
    return path
