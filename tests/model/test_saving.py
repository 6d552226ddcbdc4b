"""Model folders: whole or refused, never with a pickle."""

from __future__ import annotations

import copy
import json

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import torch

import transpert as tp
from transpert import _schema
from transpert.data import Store, build_store
from transpert.errors import (
    AssumptionWarning,
    ModelFileError,
    OptionError,
    StoreError,
    UnknownNameError,
)
from transpert.groups import Design
from transpert.model import TrainingOptions, saving
from transpert.model.cells import in_memory

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}
ASKED = {"perturbations": ["P0"], "progress": False}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25)


@pytest.fixture(scope="module")
def model(cells):
    tp.SCALE.setup_anndata(cells, **KEYS)
    training = TrainingOptions(steps=2, steps_per_epoch=1, set_size=6, sets_per_batch=4)
    model = tp.SCALE(cells, preset="tiny", joining="always", training=training)
    model.train(enable_progress_bar=False, accelerator="cpu")
    return model


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    return tmp_path / "model"


def change(folder, *, seal: bool = True, **entries) -> None:
    """Change what a model says, as somebody would who makes the checksum anew."""
    path = folder / "model.json"
    description = {**json.loads(path.read_text()), **entries}
    description = {key: value for key, value in description.items() if value is not None and key != "checksum"}
    path.write_text(json.dumps(_schema.sealed(description) if seal else description))


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1  # of a weight, which no reader would notice
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["weights.safetensors", "arrays.npz", "adata.h5ad"])
def test_a_flipped_bit_is_found(folder, name) -> None:
    assert tp.SCALE.load(folder).is_trained_
    flip(folder / name)
    with pytest.raises(ModelFileError, match=f"'{name}' is missing or does not have its checksum"):
        tp.SCALE.load(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "arrays.npz", "adata.h5ad"])
def test_a_lost_file_is_found(folder, name) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFileError, match=f"'{name}' is missing"):
        tp.SCALE.load(folder)


def test_saved_cells_are_not_read_where_others_are_given(model, folder, cells) -> None:
    (folder / "adata.h5ad").unlink()
    again = tp.SCALE.load(folder, cells)
    np.testing.assert_array_equal(again.predict(**ASKED).to_df(), model.predict(**ASKED).to_df())


def test_a_multimodal_model_is_saved_with_its_cells(cells, tmp_path) -> None:
    data = mudata.MuData({"rna": cells.copy()})
    for column in ("perturbation", "context"):
        data.obs[column] = cells.obs[column]
    tp.RidgeTransport.setup_mudata(data, modality="rna", **KEYS)
    model = tp.RidgeTransport(data)
    model.train()
    model.save(tmp_path / "model", save_anndata=True)
    again = tp.RidgeTransport.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(**ASKED).to_df(), model.predict(**ASKED).to_df())
    flip(tmp_path / "model" / "mdata.h5mu")
    with pytest.raises(ModelFileError, match=r"'mdata.h5mu' .* does not have its checksum"):
        tp.RidgeTransport.load(tmp_path / "model")


def test_nothing_is_left_where_the_cells_cannot_be_written(model, tmp_path, monkeypatch) -> None:
    def fail(self, path):
        raise OSError("no space")

    monkeypatch.setattr(anndata.AnnData, "write", fail)
    with pytest.raises(ModelFileError, match="no space.*Save the model again"):
        model.save(tmp_path / "model", save_anndata=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["evil.pkl", "model.PT", "x.pth", "last.ckpt", "pytorch_model.bin", "x.joblib"])
def test_a_pickle_beside_a_model_is_refused(folder, name) -> None:
    (folder / name).write_bytes(b"anything")
    with pytest.raises(ModelFileError, match=f"{name} would be a pickle, which can run code and is not opened"):
        tp.SCALE.load(folder)
    (folder / name).unlink()
    (folder / "notes.txt").write_text("mine")
    assert tp.SCALE.load(folder).is_trained_


@pytest.mark.parametrize("entry", ["registry", "class", "state", "files"])
def test_an_entry_that_is_missing_is_named(folder, entry) -> None:
    change(folder, **{entry: None})
    with pytest.raises(ModelFileError, match=f"missing required field `{entry}`.*model.json.*take it from a copy"):
        tp.SCALE.load(folder)


def test_models_without_checksums_are_of_another_format(folder) -> None:
    change(folder, format=1, files=None)
    with pytest.raises(ModelFileError, match="the model has format 1, this version reads 2 and 3.*train again"):
        tp.SCALE.load(folder)


def test_one_changed_digit_of_the_description_is_found(folder) -> None:
    path = folder / "model.json"
    text = path.read_text()
    for old, new in (('"n_inputs": 20', '"n_inputs": 21'), ('"format": 3', '"format": 2'), ('"P1"', '"P3"')):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ModelFileError, match="does not have its checksum|has format 2"):
            tp.SCALE.load(folder)


def test_a_model_of_the_version_before_is_loaded_and_said_to_have_no_checksum(model, folder) -> None:
    change(folder, format=2, seal=False)
    with pytest.warns(AssumptionWarning, match="before descriptions had a checksum.*save the model again"):
        again = tp.SCALE.load(folder)
    np.testing.assert_array_equal(again.predict(**ASKED).X.toarray(), model.predict(**ASKED).X.toarray())


def deeper(description, path, value):
    """A description with another value at some place."""
    changed = copy.deepcopy(description)
    *way, last = path
    at = changed
    for key in way:
        at = at[key]
    at[last] = value
    return changed


WIDTHS = ("options", "options", "network", "encoder")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("registry", "setup_method_name"), "save"),
        (("registry", "setup_method_name"), "setup_store"),
        (("registry", "setup_args", "dir_path"), "elsewhere"),
        (("registry", "setup_args"), [1]),
        (
            ("registry", "field_registries", "perturbation", "state_registry", "categorical_mapping", "dtype"),
            "S999999999",
        ),
        (("registry", "field_registries", "perturbation", "state_registry", "categorical_mapping", "dtype"), 3),
        ((*WIDTHS, "width"), 10**9),
        ((*WIDTHS, "width"), 10**30),
        ((*WIDTHS, "width"), 65),
        ((*WIDTHS, "depth"), 10**9),
        (("options", "options", "joining", "folds"), 10**9),
        (("options", "options", "network", "decoder", "hidden"), 10**8),
        (("options", "options"), None),
        (("options", "preset"), 3),
        (("options", "surprise"), 3),
        (("labels",), "P0"),
        (("conditions", 1, "parts"), 3),
        (("conditions", 1, "doses"), ["x"]),
        (("readout", "kind"), "other"),
        (("readout",), []),
        (("state", "n_inputs"), 10**12),
        (("state", "n_inputs"), "20"),
        (("state", "conditions"), {}),
        (("state", "anchor", "contexts"), ["a"]),
        (("state", "anchor", "options", "spaces"), ["other"]),
        (("state", "anchor", "parts"), 3),
        (("state", "gate"), "high"),
        (("state", "gate"), 7.5),
        (("files", "arrays.npz"), [0]),
        (("files", "../arrays.npz"), [0, "a"]),
        (("uncertainty", "errors"), 3),
    ],
)
def test_what_no_model_says_is_refused_by_name(model, path, value, tmp_path) -> None:
    folder = tmp_path / "model"
    model.save(folder)
    before = sorted(tmp_path.rglob("*"))
    description = json.loads((folder / "model.json").read_text())
    change(folder, **{path[0]: deeper(description, path, value)[path[0]]})
    with pytest.raises(ModelFileError) as caught:
        tp.SCALE.load(folder)
    assert caught.value.remedy
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"format": 3}', "[" * 100_000, '"' + "9" * 10, "nul", "\0"])
def test_a_description_that_is_none_is_refused(folder, text) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelFileError):
        tp.SCALE.load(folder)


def test_arrays_and_weights_that_are_not_listed_are_not_read(folder) -> None:
    for name in ("arrays.npz", "weights.safetensors"):
        files = json.loads((folder / "model.json").read_text())["files"]
        change(folder, files={key: entry for key, entry in files.items() if key != name})
        with pytest.raises(ModelFileError, match=f"'{name}' is missing or does not have its checksum"):
            tp.SCALE.load(folder)
        change(folder, files=files)
    assert tp.SCALE.load(folder).is_trained_


def test_a_model_is_replaced_in_one_step(model, folder, tmp_path, monkeypatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.save(folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert tp.SCALE.load(folder).is_trained_
    model.save(folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert tp.SCALE.load(folder).is_trained_


def test_a_full_disk_is_named_and_the_old_model_stays(model, folder, monkeypatch) -> None:
    def full(*_):
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_file", full)
        with pytest.raises(ModelFileError, match="the disk is full.*Free space and save the model again"):
            model.save(folder, overwrite=True)
    assert tp.SCALE.load(folder).is_trained_


def test_a_file_is_not_replaced_by_a_model(model, tmp_path) -> None:
    (tmp_path / "model").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ModelFileError, match="there is a file of this name"):
            model.save(tmp_path / "model", overwrite=overwrite)
        with pytest.raises(ModelFileError, match="there is a file where a folder should be"):
            model.save(tmp_path / "model" / "below", overwrite=overwrite)
    assert (tmp_path / "model").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_a_number_is_a_gpu(folder, monkeypatch) -> None:
    with pytest.raises(OptionError, match="device 0 is a GPU, of which torch sees 0"):
        tp.SCALE.load(folder, device=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    moved = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: moved.append(device) or self)
    tp.SCALE.load(folder, device=0)
    assert moved == [torch.device("cuda:0")]


# --- stores and paths -------------------------------------------------------------------------------------------


@pytest.fixture
def store(cells, tmp_path) -> Store:
    return build_store(
        [cells], tmp_path / "cells.zarr", Design("perturbation", "control", ("context",)), layer="counts"
    )


def test_a_store_is_opened_by_its_path(model, folder, store, tmp_path) -> None:
    again = tp.SCALE.load(folder, str(store.path))
    expected = tp.SCALE.load(folder, store)
    np.testing.assert_array_equal(again.predict(**ASKED).to_df(), expected.predict(**ASKED).to_df())
    with pytest.raises(StoreError, match="this is no store"):
        tp.SCALE.load(folder, tmp_path)


def test_what_is_no_store_is_not_set_up_as_one(store, cells) -> None:
    with pytest.raises(
        OptionError, match=r"setup_store was given a str.*Open it, store = transpert.data.Store\(path\)"
    ):
        tp.SCALE.setup_store(str(store.path))
    with pytest.raises(OptionError, match="setup_store was given a AnnData"):
        tp.SCALE.setup_store(cells)


def test_a_store_is_not_set_up_as_cells_in_memory(store) -> None:
    for method, more in (("setup_anndata", {}), ("setup_mudata", {"modality": "rna"})):
        with pytest.raises(OptionError, match=f"{method} was given a Store. Register it with setup_store"):
            getattr(tp.SCALE, method)(store, **KEYS, **more)
        with pytest.raises(OptionError, match=f"{method} was given a str. Read the cells"):
            getattr(tp.SCALE, method)("cells.h5ad", **KEYS, **more)


def test_data_without_the_split_of_a_model_is_told_how_to_do_without(cells, tmp_path) -> None:
    plain = cells.copy()
    design = tp.groups.Design("perturbation", "control", ("context",))
    store = tp.data.build_store([plain], tmp_path / "cells.zarr", design, layer="counts")
    tp.pp.split(store.annotation, holdout={"context": "context_0"})
    tp.RidgeTransport.setup_store(store, split_key="split")
    model = tp.RidgeTransport(store)
    model.train()
    model.save(tmp_path / "model")
    asked = {"contexts": {"context": "context_0"}, "perturbations": "P0", "progress": False}
    expected = model.predict(**asked)
    # in a new session nothing of the split is left
    remedy = "'split'.*transpert.pp.split, before.*load it without data and pass the cells to predict.adata="
    for data in (tmp_path / "cells.zarr", plain):
        with pytest.raises(UnknownNameError, match=remedy):
            tp.RidgeTransport.load(tmp_path / "model", data)
    found = tp.RidgeTransport.load(tmp_path / "model").predict(adata=tmp_path / "cells.zarr", **asked)
    np.testing.assert_array_equal(found.to_df(), expected.to_df())
    again = tp.data.Store(tmp_path / "cells.zarr")
    tp.pp.split(again.annotation, holdout={"context": "context_0"})
    np.testing.assert_array_equal(
        tp.RidgeTransport.load(tmp_path / "model", again).predict(**asked).to_df(), expected.to_df()
    )


@pytest.mark.parametrize("n_genes_moved", [0, 3])
def test_loading_with_cells_reads_them_once_and_in_the_order_of_the_model(tmp_path, monkeypatch, n_genes_moved) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25)
    keys = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}
    reads = []
    read = in_memory.read_counts
    monkeypatch.setattr(in_memory, "read_counts", lambda *given, **named: reads.append(1) or read(*given, **named))
    tp.MeanShift.setup_anndata(adata, **keys)
    assert len(reads) == 1
    model = tp.MeanShift(adata)  # the cells may have changed since
    assert len(reads) == 2
    model.train()
    model.save(tmp_path / "model")
    reads.clear()
    order = np.roll(np.arange(20), n_genes_moved)
    loaded = tp.MeanShift.load(tmp_path / "model", adata[:, order].copy())
    assert len(reads) == 1
    assert loaded.genes.tolist() == model.genes.tolist()
    np.testing.assert_array_equal(loaded.cells.counts.toarray(), model.cells.counts.toarray())
    expected, found = (one.predict(progress=False).to_df() for one in (model, loaded))
    pd.testing.assert_frame_equal(found, expected)
