"""What newcomers get wrong: every mistake ends in an error of ours that says what to do, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import anndata
import numpy as np
import pytest

import transpert as tp
from transpert import errors
from transpert.model import TrainingOptions

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}
ASKED = {"context": "context_0"}


@pytest.fixture(scope="module")
def cells() -> anndata.AnnData:
    """A small screen with a context held out, set up for two models."""
    cells = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=30)
    tp.pp.split(cells, holdout=ASKED)
    for model in (tp.SCALE, tp.RidgeTransport):
        model.setup_anndata(cells, split_key="split", **KEYS)
    return cells


@pytest.fixture(scope="module")
def untrained(cells) -> tp.SCALE:
    return tp.SCALE(cells, preset="tiny")


@pytest.fixture(scope="module")
def trained(cells) -> tp.RidgeTransport:
    model = tp.RidgeTransport(cells)
    model.train()
    return model


@pytest.fixture(scope="module")
def pred(trained) -> anndata.AnnData:
    return trained.predict(ASKED, progress=False)


class Changed:
    """A copy of cells as a newcomer brings them."""

    def __init__(self, cells: anndata.AnnData) -> None:
        self.cells = cells.copy()

    def set_up(self, **changes: object) -> None:
        tp.SCALE.setup_anndata(self.cells, **(KEYS | changes))

    def after(self, change: Callable[[anndata.AnnData], object]) -> Changed:
        change(self.cells)
        return self


def model_after_failed_set_up(cells) -> tp.SCALE:
    fresh = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=5)
    with pytest.raises(errors.UnknownNameError):
        tp.SCALE.setup_anndata(fresh, perturbation_key="perturbaton")
    return tp.SCALE(fresh)


def without_controls(cells) -> None:
    gone = (cells.obs["perturbation"] == "control") & (cells.obs["context"] == "context_1")
    cells._inplace_subset_obs((~gone).to_numpy())


def put(slot: str, name: str, value: object) -> Callable[[anndata.AnnData], object]:
    return lambda cells: getattr(cells, slot).__setitem__(name, value)


MISTAKES: dict[str, tuple[Callable[..., object], type[Exception], str]] = {
    # the cells and their columns
    "a typo in the column of the perturbation": (
        lambda c, **_: Changed(c).set_up(perturbation_key="perturbaton"),
        errors.UnknownNameError,
        r"unknown column: 'perturbaton' \(in obs\)\. Did you mean 'perturbation'\?",
    ),
    "a typo in a context column": (
        lambda c, **_: Changed(c).set_up(context_keys=["contxt"]),
        errors.UnknownNameError,
        "Did you mean 'context'",
    ),
    "a typo in the name of an option": (
        lambda c, **_: Changed(c).set_up(batchkey="batch"),
        errors.UnknownOptionError,
        r"unknown option: 'batchkey' \(in setup_anndata\)\. Did you mean 'batch_key'\?",
    ),
    "a short name for an option": (
        lambda c, **_: tp.SCALE.setup_anndata(c, perturbation="perturbation"),
        errors.UnknownOptionError,
        "Did you mean 'perturbation_key'",
    ),
    "another label of control cells": (
        lambda c, **_: Changed(c).set_up(control="NT"),
        errors.ControlError,
        "no cell is labelled 'NT'.*Pass control= one of its labels.*'control'",
    ),
    "a layer that is not there": (
        lambda c, **_: Changed(c).set_up(layer="count"),
        errors.UnknownNameError,
        "Did you mean 'counts'",
    ),
    "normalised values as counts": (
        lambda c, **_: Changed(c).set_up(layer=None),
        errors.CountsError,
        "look like log1p values.*Raw counts are needed",
    ),
    "missing labels": (
        lambda c, **_: (
            Changed(c).after(lambda a: put("obs", "perturbation", [None, *a.obs["perturbation"][1:]])(a)).set_up()
        ),
        errors.ConditionError,
        "cells have no value.*Name the value or drop the cells",
    ),
    "genes of the same name": (
        lambda c, **_: Changed(c).after(lambda a: setattr(a, "var_names", ["gene"] * a.n_vars)).set_up(),
        errors.GeneError,
        "var_names_make_unique",
    ),
    "a context without controls": (
        lambda c, **_: Changed(c).after(without_controls).set_up(),
        errors.ControlError,
        "'context_1'.*Add controls",
    ),
    "a dose that is a text": (
        lambda c, **_: Changed(c).after(put("obs", "dose", "10uM")).set_up(dose_key="dose"),
        errors.ConditionError,
        r"pp\.amounts",
    ),
    "a path in place of cells": (
        lambda **_: tp.SCALE.setup_anndata("screen.h5ad", perturbation_key="perturbation"),
        errors.OptionError,
        r"anndata\.read_h5ad",
    ),
    # the split
    "a split column before the split": (
        lambda **_: tp.SCALE.setup_anndata(tp.datasets.simulate(n_contexts=1, n_cells=5), split_key="split", **KEYS),
        errors.UnknownNameError,
        r"unknown column: 'split'.*tp\.pp\.split",
    ),
    "a cell type that is not there": (
        lambda c, **_: tp.pp.split(Changed(c).cells, holdout={"context": "context_7"}),
        errors.UnknownNameError,
        "unknown value: 'context_7'.*Known: 'context_0'",
    ),
    "everything held out": (
        lambda c, **_: tp.pp.split(Changed(c).cells, holdout={"context": [f"context_{i}" for i in range(3)]}),
        errors.SplitError,
        "Hold out fewer",
    ),
    "nothing held out": (lambda c, **_: tp.pp.split(Changed(c).cells), errors.OptionError, "Pass holdout="),
    # the model
    "no set-up": (
        lambda **_: tp.SCALE(tp.datasets.simulate(n_contexts=1, n_cells=5)),
        errors.OptionError,
        r"not set up for SCALE\. Call SCALE\.setup_anndata",
    ),
    "a set-up that failed": (
        lambda c, **_: model_after_failed_set_up(c),
        errors.OptionError,
        "A call that ended with an error set nothing up",
    ),
    "a set-up for another model": (
        lambda c, **_: tp.KernelTransport(c),
        errors.OptionError,
        r"not set up for KernelTransport\. Call KernelTransport\.setup_anndata",
    ),
    "a preset that is not there": (
        lambda c, **_: tp.SCALE(c, preset="smal"),
        errors.UnknownNameError,
        "Did you mean 'small'",
    ),
    "a typo in an option of the model": (
        lambda c, **_: tp.SCALE(c, prest="tiny"),
        errors.UnknownOptionError,
        "Did you mean 'preset'",
    ),
    "a typo in an option of the training": (
        lambda **_: TrainingOptions(step=100),
        errors.UnknownOptionError,
        r"unknown option: 'step' \(in TrainingOptions\)\. Did you mean 'steps'\?",
    ),
    "a word for a number": (
        lambda **_: TrainingOptions(learning_rate="fast"),
        errors.OptionError,
        "learning_rate is 'fast'. Give a number",
    ),
    # train and the Trainer
    "a typo in an option of train": (
        lambda untrained, **_: untrained.train(max_epoch=3),
        errors.UnknownOptionError,
        r"unknown option: 'max_epoch' \(in train\)\. Did you mean 'max_epochs'\?",
    ),
    "a typo in an option of the Trainer": (
        lambda untrained, **_: untrained.train(enable_progres_bar=False),
        errors.UnknownOptionError,
        "Did you mean 'enable_progress_bar'",
    ),
    "an option of the Trainer that the model sets": (
        lambda untrained, **_: untrained.train(gradient_clip_val=1.0),
        errors.OptionError,
        r"train sets 'gradient_clip_val' itself.*TrainingOptions\(gradient_clip=\.\.\.\)",
    ),
    "a GPU on a machine without one": (
        lambda untrained, monkeypatch, **_: (
            monkeypatch.setattr("torch.cuda.is_available", lambda: False),
            monkeypatch.setattr("torch.cuda.device_count", lambda: 0),
            untrained.train(accelerator="cuda"),
        ),
        errors.OptionError,
        "this machine has no cuda that torch can use.*'cpu' or 'auto'",
    ),
    "an accelerator that is not there": (
        lambda untrained, **_: untrained.train(accelerator="gpuu"),
        errors.OptionError,
        "no accelerator 'gpuu'.*'gpu'",
    ),
    "a name for a logger": (
        lambda untrained, **_: untrained.train(logger="wandb"),
        errors.OptionError,
        r"logger is 'wandb'\. Give a logger of Lightning",
    ),
    "a name for a callback": (
        lambda untrained, **_: untrained.train(callbacks="early stopping"),
        errors.OptionError,
        "Give a list of callbacks",
    ),
    "an option for a model in closed form": (
        lambda trained, **_: trained.train(max_epochs=5),
        errors.UnknownOptionError,
        r"unknown option: 'max_epochs' \(in train\)",
    ),
    # predictions
    "a prediction before the training": (
        lambda untrained, **_: untrained.predict(ASKED),
        errors.NotTrainedError,
        r"not trained\. Call train\(\) first",
    ),
    "a typo in the label of a context": (
        lambda trained, **_: trained.predict("contxt_0"),
        errors.UnknownNameError,
        r"unknown context: 'contxt_0' \(in contexts\)\. Did you mean 'context_0'\?",
    ),
    "a typo in a context": (
        lambda trained, **_: trained.predict({"context": "contxt_0"}),
        errors.UnknownNameError,
        "Did you mean 'context_0'",
    ),
    "a typo in a perturbation": (
        lambda trained, **_: trained.predict(ASKED, ["p0"]),
        errors.UnknownNameError,
        "unknown perturbation: 'p0'",
    ),
    "a typo in an option of predict": (
        lambda trained, **_: trained.predict(ASKED, n_cell=10),
        errors.UnknownOptionError,
        "Did you mean 'n_cells'",
    ),
    # scores and pictures
    "counts in place of log values": (
        lambda c, pred, **_: tp.tl.evaluate(
            Changed(pred).after(lambda a: setattr(a, "X", a.layers["counts"])).cells, c
        ),
        errors.CountsError,
        r"no log1p counts per 10k.*sc\.pp\.normalize_total",
    ),
    "prediction and truth swapped": (
        lambda c, pred, **_: tp.tl.evaluate(c, pred),
        errors.OptionError,
        r"they are swapped.*\(pred, truth\)",
    ),
    "genes under other names": (
        lambda c, pred, **_: tp.tl.evaluate(
            Changed(pred).after(lambda a: setattr(a, "var_names", [f"ENSG{i}" for i in range(a.n_vars)])).cells, c
        ),
        errors.GeneError,
        "20 of 20 genes are missing",
    ),
    "a metric that is not there": (
        lambda c, pred, **_: tp.tl.evaluate(pred, c, metrics=["pearson_dleta"]),
        errors.UnknownNameError,
        "Did you mean 'pearson_delta'",
    ),
    "a typo in an option of evaluate": (
        lambda c, pred, **_: tp.tl.evaluate(pred, c, baseline="all"),
        errors.UnknownOptionError,
        "Did you mean 'baselines'",
    ),
    "a plot before the evaluation": (
        lambda c, **_: tp.pl.scores(Changed(c).cells),
        errors.OptionError,
        r"carry no scores yet.*Run scores = tp\.tl\.evaluate\(pred, truth\) first",
    ),
    "a UMAP before it is computed": (
        lambda pred, **_: tp.pl.embedding(pred),
        errors.TranspertError,
        "unknown embedding: 'umap'.*tp.tl.embed_together",
    ),
    "a model that is not there": (
        lambda c, **_: tp.SCALE.load("modle", c),
        errors.ModelFileError,
        "Is the path right",
    ),
}


def test_there_are_at_least_thirty() -> None:
    assert len(MISTAKES) >= 30


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_an_error_that_says_what_to_do(
    mistake, cells, untrained, trained, pred, monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    make, kind, words = MISTAKES[mistake]
    before = np.asarray(cells.X.sum()), list(cells.obs), list(cells.uns)
    with pytest.raises(kind, match=words) as found:
        make(c=cells, untrained=untrained, trained=trained, pred=pred, monkeypatch=monkeypatch)
    assert isinstance(found.value, errors.TranspertError) and "\n" not in str(found.value)
    assert (np.asarray(cells.X.sum()), list(cells.obs), list(cells.uns)) == before
    assert not untrained.is_trained_ and not list(tmp_path.iterdir())
