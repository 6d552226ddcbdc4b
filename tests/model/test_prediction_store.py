"""Predictions on disk are those in memory, however often the work was interrupted or divided."""

from __future__ import annotations

import errno

import anndata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.errors import AssumptionWarning, ControlError, OptionError, StoreError
from transpert.model import TrainingOptions
from transpert.model.prediction import parts as prediction_store

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "batch_key": "batch", "layer": "counts"}


@pytest.fixture(scope="module")
def model() -> tp.SCALE:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=3, n_genes=40, n_cells=40, n_batches=2)
    tp.SCALE.setup_anndata(adata, **KEYS)
    training = TrainingOptions(steps=6, steps_per_epoch=3, set_size=16, sets_per_batch=4)
    model = tp.SCALE(adata, preset="tiny", training=training, joining=tp.model.JoiningOptions(gate=0.5))
    model.train(enable_progress_bar=False, accelerator="cpu")
    return model


OPTIONS = {"n_cells": 30, "seed": 3, "progress": False}


def assert_same(stored, predicted) -> None:
    """The cells on disk are those in memory."""
    np.testing.assert_array_equal(stored.X.toarray(), predicted.to_df())
    for name in filter(None, predicted.layers):
        np.testing.assert_array_equal(stored.layers[name].toarray(), predicted.layers[name].toarray())
    np.testing.assert_array_equal(stored.obsm["X_scale"], predicted.obsm["X_scale"])
    assert list(stored.obs_names) == list(predicted.obs_names)
    assert list(stored.var_names) == list(predicted.var_names)
    assert list(stored.obs) == list(predicted.obs)
    for name, column in predicted.obs.items():
        assert stored.obs[name].tolist() == column.tolist(), name


@pytest.mark.parametrize("cells_per_part", [1, 70, 10_000], ids=["one condition", "two conditions", "one context"])
def test_cells_on_disk_are_those_in_memory(model, tmp_path, cells_per_part, recwarn) -> None:
    path = model.predict_to_store(tmp_path / "pred.zarr", cells_per_part=cells_per_part, **OPTIONS)
    assert not [warning for warning in recwarn if "Consolidated metadata" in str(warning.message)]
    assert_same(anndata.read_zarr(path), model.predict(**OPTIONS))
    assert sorted(tmp_path.iterdir()) == [path]


def stop_after(monkeypatch, n_parts: int) -> list[int]:
    """Interrupt when so many parts have been written; return the numbers of those that are."""
    written: list[int] = []
    write = prediction_store.PredictionParts.write

    def watched(self, number, cells):
        if len(written) == n_parts:
            raise KeyboardInterrupt
        write(self, number, cells)
        written.append(number)

    monkeypatch.setattr(prediction_store.PredictionParts, "write", watched)
    return written


def test_an_interrupted_prediction_goes_on_without_repeating_itself(model, tmp_path, monkeypatch) -> None:
    out = tmp_path / "pred.zarr"
    with monkeypatch.context() as patch:
        before = stop_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            model.predict_to_store(out, cells_per_part=1, **OPTIONS)
    assert not out.exists()
    with monkeypatch.context() as patch:
        after = stop_after(patch, 10_000)
        model.predict_to_store(out, cells_per_part=1, **OPTIONS)
    assert before == [0, 1, 2, 3] and after == list(range(4, 12))  # nine conditions and three controls
    assert_same(anndata.read_zarr(out), model.predict(**OPTIONS))


def test_an_interrupted_joining_begins_anew(model, tmp_path, monkeypatch) -> None:
    out = tmp_path / "pred.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(prediction_store, "_append", lambda root, cells: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            model.predict_to_store(out, cells_per_part=70, **OPTIONS)
    assert not out.exists()
    path = model.predict_to_store(out, cells_per_part=70, **OPTIONS)
    assert_same(anndata.read_zarr(path), model.predict(**OPTIONS))


def unfinished(model, out, monkeypatch, n_parts: int = 5):
    """Leave a prediction of which so many parts are there; return its folder."""
    with monkeypatch.context() as patch:
        stop_after(patch, n_parts)
        with pytest.raises(KeyboardInterrupt):
            model.predict_to_store(out, cells_per_part=1, **OPTIONS)
    return out.with_name(out.name + ".partial")


def largest_file(part):
    return max((path for path in part.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def lose(part) -> None:
    largest_file(part).unlink()


def truncate(part) -> None:
    path = largest_file(part)
    path.write_bytes(path.read_bytes()[:-10])


def flip(part) -> None:
    path = largest_file(part)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def forget(part) -> None:
    (part / "checksums.json").unlink()


def empty(part) -> None:
    (part / "checksums.json").write_text("{}")


@pytest.mark.parametrize("damage", [lose, truncate, flip, forget, empty])
def test_a_damaged_part_is_computed_again(model, tmp_path, monkeypatch, damage) -> None:
    out = tmp_path / "pred.zarr"
    folder = unfinished(model, out, monkeypatch)
    damage(folder / "part-000002")
    with monkeypatch.context() as patch:
        after = stop_after(patch, 10_000)
        with pytest.warns(
            AssumptionWarning, match="1 parts of the unfinished prediction .* computed again: 2"
        ) as caught:
            model.predict_to_store(out, cells_per_part=1, **OPTIONS)
    assert sum("computed again" in str(warning.message) for warning in caught) == 1
    assert after == [2, *range(5, 12)]
    assert_same(anndata.read_zarr(out), model.predict(**OPTIONS))


def test_a_damaged_part_of_another_process_is_named(model, tmp_path) -> None:
    out = tmp_path / "pred.zarr"
    shared = {"cells_per_part": 1, "world_size": 2, **OPTIONS}
    model.predict_to_store(out, rank=1, **shared)
    truncate(tmp_path / "pred.zarr.partial" / "part-000003")
    with pytest.raises(StoreError, match=r"damaged: 'part-000003' \(in .*pred.zarr.partial\). Delete these folders"):
        model.predict_to_store(out, rank=0, **shared)
    assert not out.exists()
    with pytest.warns(AssumptionWarning, match="computed again: 3"):
        assert model.predict_to_store(out, rank=1, **shared) == out
    assert_same(anndata.read_zarr(out), model.predict(**OPTIONS))


def with_other_counts(cells):
    # the same library sizes and shape
    cells.layers["counts"] = cells.layers["counts"][:, ::-1].copy()


def with_other_names(cells):
    cells.obs_names = [f"other_{name}" for name in cells.obs_names]


def with_other_genes(cells):
    cells.var_names = cells.var_names[::-1]


@pytest.mark.parametrize("change", [with_other_counts, with_other_names, with_other_genes])
def test_other_cells_are_not_gone_on_with(model, tmp_path, monkeypatch, change) -> None:
    cells = model.adata.copy()
    cells.obs["library_size"] = 1e5
    asked = {"cells_per_part": 1, "adata": cells, **OPTIONS}
    out = tmp_path / "pred.zarr"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            model.predict_to_store(out, **asked)
    other = cells.copy()
    change(other)
    with pytest.raises(StoreError, match="differs in 'cells'"):
        model.predict_to_store(out, **{**asked, "adata": other})
    # perturbed cells are not moved, and may be others
    perturbed = np.flatnonzero(cells.obs["perturbation"] != "control")
    counts = cells.layers["counts"].tolil()
    counts[perturbed[0], 0] += 1
    cells.layers["counts"] = counts.tocsr()
    with monkeypatch.context() as patch:
        assert 0 not in stop_after(patch, 10_000)
        assert model.predict_to_store(out, **asked) == out


def test_a_store_is_told_by_its_fingerprint(model, tmp_path, monkeypatch) -> None:
    design = tp.groups.Design("perturbation", "control", ("context",), batch_key="batch")
    cells = model.adata.copy()
    cells.obs["library_size"] = 1e5
    store = tp.data.build_store([cells], tmp_path / "cells.zarr", design, layer="counts")
    with_other_counts(cells)
    other = tp.data.build_store([cells], tmp_path / "other.zarr", design, layer="counts")
    out = tmp_path / "pred.zarr"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            model.predict_to_store(out, adata=store, **OPTIONS)
    with pytest.raises(StoreError, match="differs in 'cells'"):
        model.predict_to_store(out, adata=other, **OPTIONS)
    assert model.predict_to_store(out, adata=store, **OPTIONS) == out


def test_processes_share_the_work(model, tmp_path) -> None:
    out = tmp_path / "pred.zarr"
    shared = {"cells_per_part": 1, "world_size": 2, **OPTIONS}
    assert model.predict_to_store(out, rank=1, **shared) is None
    assert model.predict_to_store(out, rank=0, **shared) == out
    assert_same(anndata.read_zarr(out), model.predict(**OPTIONS))


def test_another_prediction_is_not_gone_on_with(model, tmp_path, monkeypatch) -> None:
    out = tmp_path / "pred.zarr"
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            model.predict_to_store(out, cells_per_part=1, **OPTIONS)
    with pytest.raises(StoreError, match="differs in 'seed'"):
        model.predict_to_store(out, cells_per_part=1, **{**OPTIONS, "seed": 4})
    with pytest.raises(StoreError, match="differs in 'n_parts', 'requests'"):
        model.predict_to_store(out, perturbations=["P0"], cells_per_part=1, **OPTIONS)
    assert len(list((tmp_path / "pred.zarr.partial").glob("part-*"))) == 1


def test_what_is_there_is_not_overwritten(model, tmp_path) -> None:
    out = tmp_path / "pred.zarr"
    out.mkdir()
    with pytest.raises(StoreError, match="something already"):
        model.predict_to_store(out, **OPTIONS)
    with pytest.raises(OptionError, match="rank is 2 of 2"):
        model.predict_to_store(tmp_path / "other.zarr", rank=2, world_size=2, **OPTIONS)
    assert list(out.iterdir()) == []


def test_a_full_disk_is_named_and_loses_nothing(model, tmp_path, monkeypatch) -> None:
    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "pred.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(anndata.AnnData, "write_zarr", full)
        with pytest.raises(StoreError, match="the disk is full"):
            model.predict_to_store(out, **OPTIONS)
    assert model.predict_to_store(out, **OPTIONS) == out


# ------------------------------------------------------------------------------------------------- doses and times
def with_amounts(kind: str) -> anndata.AnnData:
    """Doses and times in columns of this type; controls have a dose of 0 but no time."""
    doses, times = (0.1, 10.0), (6.0, 24.0)
    adata = tp.datasets.simulate(
        n_contexts=2, n_perturbations=2, n_combinations=1, n_genes=20, n_cells=12, doses=doses, times=times
    )
    adata.obs["dose"] = adata.obs["dose"].fillna(0.0)
    adata.obs.loc[adata.obs["perturbation"] == "control", "time"] = np.nan
    for column in ("dose", "time"):
        values = adata.obs[column]
        if kind != "numbers":
            values = values.map("{:g}".format, na_action="ignore").astype(object)
        adata.obs[column] = values.astype("category") if kind.startswith("cat") else values
    return adata


@pytest.mark.parametrize("kind", ["numbers", "text", "categories"])
@pytest.mark.parametrize("doses", [None, [3, "4+5"]], ids=["measured doses", "doses of parts"])
def test_doses_and_times_are_the_same_on_disk(kind, doses, tmp_path) -> None:
    adata = with_amounts(kind)
    tp.MeanShift.setup_anndata(
        adata, perturbation_key="perturbation", context_keys="context", layer="counts", dose_key="dose", time_key="time"
    )
    model = tp.MeanShift(adata)
    model.train()
    asked = {"perturbations": ["P0+P1"] if doses else None, "doses": doses, "n_cells": 5, "progress": False}
    pred = model.predict(**asked)
    assert pred.obs.loc[pred.obs["source"] == "predicted", ["dose", "time"]].notna().all(axis=None)
    pred.write_h5ad(tmp_path / "pred.h5ad")
    stored = anndata.read_zarr(model.predict_to_store(tmp_path / "pred.zarr", cells_per_part=1, **asked))
    for column in ("dose", "time"):
        assert stored.obs[column].dtype.kind == pred.obs[column].dtype.kind
        assert stored.obs[column].astype(str).tolist() == pred.obs[column].astype(str).tolist()
    written = "O" if kind != "numbers" else "f"
    assert pred.obs["time"].dtype.kind == written
    assert pred.obs["dose"].dtype.kind == ("O" if doses else written)


def test_values_of_another_type_are_not_lost() -> None:
    part = anndata.AnnData(obs=pd.DataFrame({"dose": [0.1, np.nan]}, index=["a", "b"]))
    with pytest.raises(StoreError, match=r"no categories: '0.1' \(in obs\['dose'\]\)"):
        prediction_store._with_categories(part, {"dose": pd.Index(["1"])})


# ---------------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize("wrong", [{"readout": "count"}, {"n_cells": 2.5}, {"seed": -1}])
def test_nothing_is_written_for_what_makes_no_sense(model, tmp_path, wrong) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        model.predict_to_store(tmp_path / "pred.zarr", **{**OPTIONS, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_a_context_has_no_controls(model, tmp_path) -> None:
    adata = model.adata.copy()
    adata.obs["library_size"] = 1e5
    cells = adata[(adata.obs["perturbation"] != "control") | (adata.obs["context"] == "context_0")].copy()
    with pytest.raises(ControlError, match="'context_1' has no control cells"):
        model.predict_to_store(tmp_path / "pred.zarr", adata=cells, **OPTIONS)
    assert list(tmp_path.iterdir()) == []
