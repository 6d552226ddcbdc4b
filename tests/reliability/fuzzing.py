"""Calls of every public entry point with odd arguments and odd cells, drawn from a seed.

``python tests/reliability/fuzzing.py 10000`` runs the long form and prints the counts.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import mudata
import numpy as np
import pandas as pd
from scipy import sparse

import transpert as tp
from transpert.errors import TranspertError

KEYS = {"perturbation_key": "perturbation", "context_keys": "context"}
_ODD: list[Callable[[], Any]] = [
    lambda: None, lambda: True, lambda: 3, lambda: -1, lambda: 0, lambda: 1.5, lambda: float("nan"),
    lambda: float("inf"), lambda: "x", lambda: "", lambda: [], lambda: ["x"], lambda: [3], lambda: {},
    lambda: {"a": 1}, lambda: (), lambda: b"x", lambda: np.int64(3), lambda: np.float32(0.5), lambda: np.array([1, 2]),
    object, lambda: 10**30, lambda: "a/b", lambda: pd.DataFrame({"a": [1]}), set, lambda: np.array(["context"]),
    lambda: [None], lambda: "perturbation", lambda: "context", lambda: "control", lambda: "counts", lambda: print,
    lambda: -0.5, lambda: 10**6 + 0.5, lambda: np.datetime64("2020-01-01"), lambda: 1j,
]  # fmt: skip


def cells() -> ad.AnnData:
    """Return a small screen with counts, logarithms, a split, doses, batches and an embedding."""
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=12, n_cells=12, n_batches=2)
    adata.obs["split"] = np.where(adata.obs["context"] == "context_0", "test", "train")
    adata.obs.loc[adata.obs["perturbation"] == "control", "split"] = "train"
    adata.X = adata.X.toarray()
    adata.obsm["X_odd"] = adata.X[:, :3].copy()
    return adata


# --- odd cells: each changes the AnnData that it is given ---------------------------------------------------------


def _counts(adata: ad.AnnData) -> sparse.csr_matrix:
    return adata.layers["counts"]


def _set(adata: ad.AnnData, matrix: Any) -> None:
    adata.layers["counts"] = matrix


def _duplicate_column(adata: ad.AnnData, rng: np.random.Generator) -> None:
    name = str(rng.choice(["perturbation", "context", "batch", "library_size"]))
    adata.obs = pd.concat([adata.obs, adata.obs[[name]]], axis=1)


def _damage(adata: ad.AnnData, rng: np.random.Generator) -> None:
    matrix = _counts(adata).copy()
    part = getattr(matrix, str(rng.choice(["indices", "indptr"])))
    part[rng.integers(len(part))] = int(rng.choice([-1, 10_000, 2**31 - 1, 5]))
    _set(adata, matrix)


def _odd_value(adata: ad.AnnData, rng: np.random.Generator) -> None:
    values = np.asarray(_counts(adata).toarray(), dtype=np.float64)
    values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, -1.0, 0.5, 2.0**33, 1e300])
    _set(adata, sparse.csr_matrix(values) if rng.random() < 0.5 else values)


def _odd_logs(adata: ad.AnnData, rng: np.random.Generator) -> None:
    values = np.asarray(adata.X, dtype=np.float64).copy()
    values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, -1.0, 50.0])
    adata.X = values


def _odd_label(adata: ad.AnnData, rng: np.random.Generator) -> None:
    name = str(rng.choice(["perturbation", "context", "batch", "split"]))
    labels = np.array(adata.obs[name].astype(str), dtype=object)
    labels[rng.integers(len(labels))] = [None, np.nan, "", "a+b+", 3, ("x",), "control+P0", "nan"][rng.integers(8)]
    adata.obs[name] = labels


def _constant(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.obs[str(rng.choice(["perturbation", "context", "split"]))] = str(rng.choice(["control", "P0", "x", ""]))


def _odd_library(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.obs["library_size"] = [0, -1.0, np.nan, "x", 1e300, 1, True][rng.integers(7)]


def _odd_uns(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.uns["transpert"] = ["x", 3, {"design": 4}, {"scores": "x"}, [], {"design": {"perturbation_key": 3}}][
        rng.integers(6)
    ]


def _repeat_names(adata: ad.AnnData, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        adata.var_names = ["g"] * adata.n_vars
    else:
        adata.obs_names = ["c"] * adata.n_obs


def _drop_slot(adata: ad.AnnData, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        del adata.layers["counts"]
    else:
        adata.X = None


def _drop_column(adata: ad.AnnData, rng: np.random.Generator) -> None:
    del adata.obs[str(rng.choice(["perturbation", "context", "library_size", "split"]))]


def _other_form(adata: ad.AnnData, rng: np.random.Generator) -> None:
    counts = _counts(adata)
    forms: list[Any] = [
        counts.tocsc(), sparse.csr_array(counts), sparse.csc_array(counts), counts.toarray(), counts.astype(np.int32),
        counts.astype(np.float64), counts.toarray().astype(np.float16), counts.tocoo(), counts.astype(bool),
    ]  # fmt: skip
    form = forms[rng.integers(len(forms))]
    if sparse.issparse(form) and form.format == "coo":
        return
    _set(adata, form)


def _lazy(adata: ad.AnnData, rng: np.random.Generator) -> None:
    import dask.array

    adata.layers["counts"] = dask.array.from_array(_counts(adata).toarray(), chunks=10)


def _numeric_names(adata: ad.AnnData, rng: np.random.Generator) -> None:
    adata.obs.columns = [*adata.obs.columns[:-1], 3]


DAMAGES = [
    _duplicate_column, _damage, _odd_value, _odd_logs, _odd_label, _constant, _odd_library, _odd_uns, _repeat_names,
    _drop_slot, _drop_column, _other_form, _lazy, _numeric_names,
]  # fmt: skip


def damaged(adata: ad.AnnData, rng: np.random.Generator) -> Any:
    """Return the cells with something odd about them, or something else in their place."""
    way = rng.integers(len(DAMAGES) + 4)
    if way < len(DAMAGES):
        changed = adata.copy()
        try:
            DAMAGES[way](changed, rng)
        except (KeyError, IndexError):  # a prediction has no batch
            return adata
        return changed
    if way == len(DAMAGES):
        return adata[: int(rng.choice([0, 1, 2]))].copy()
    if way == len(DAMAGES) + 1:
        return adata[:, : int(rng.choice([0, 1]))].copy()
    if way == len(DAMAGES) + 2:
        return adata[rng.permutation(adata.n_obs)[:60]]  # a view
    return mudata.MuData({"rna": adata.copy(), "other": adata[:, :3].copy()})


# --- entry points -----------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    """A call that succeeds as it is, and the arguments that may be made odd."""

    name: str
    call: Callable[..., Any]
    given: Callable[[], dict[str, Any]]


@dataclass
class Workshop:
    """What the calls need: cells, a trained model, its predictions, scores, a folder."""

    folder: Path
    adata: ad.AnnData = field(default_factory=cells)

    def __post_init__(self) -> None:
        self.model = self.trained(self.adata.copy(), layer="counts", split_key="split", **KEYS)
        self.pred = self.model.predict(progress=False)
        # ``evaluate`` judges populations that both sides have
        self.scores = tp.tl.evaluate(self.pred, self.adata, baselines="NoChange", n_bootstrap=10, progress=False)
        self.together = tp.tl.embed_together(self.pred, self.adata, n_components=3, n_neighbors=5, umap=False)
        self.together.obsm["X_umap"] = self.together.obsm["X_pca"][:, :2].copy()
        self.design = tp.groups.Design("perturbation", "control", ("context",))
        self.model.save(self.folder / "model")
        self.n = 0

    @staticmethod
    def trained(adata: Any, **options: Any) -> Any:
        tp.MeanShift.setup_anndata(adata, **options)
        model = tp.MeanShift(adata)
        model.train()
        return model

    def fresh(self) -> Path:
        self.n += 1
        return self.folder / f"out{self.n}"

    def entries(self) -> list[Entry]:
        """Return every entry point with arguments that it takes."""
        a, p, model = lambda: self.adata.copy(), lambda: self.pred.copy(), self.model
        asked: dict[str, Any] = {"contexts": None, "perturbations": None, "doses": None, "times": None, "seed": 0}
        names: dict[str, Any] = {**KEYS, "control": "control"}
        shown = {"show": False, "return_fig": False, "ax": None}
        drawn: dict[str, Any] = {"n_cells": 3, "readout": None, "include_controls": True, "progress": False}
        setup: dict[str, Any] = {
            **names, "layer": "counts", "split_key": "split", "batch_key": None, "library_size_key": None,
            "embedding_key": None, "dose_key": None, "time_key": None, "direction_key": None,
        }  # fmt: skip
        listed: list[tuple[str, Callable[..., Any], Callable[[], dict[str, Any]]]] = [
            ("setup and train", self.trained, lambda: {"adata": a(), **setup}),
            ("setup", tp.MeanShift.setup_anndata, lambda: {"adata": a(), **setup}),
            ("predict", model.predict, lambda: {**asked, **drawn, "adata": a(), "max_missing_genes": 0.0}),
            ("predict without cells", model.predict, lambda: {**asked, **drawn, "adata": None, "interval": None}),
            ("predict_populations", model.predict_populations, lambda: {
                "wanted": [("context_0", "P0")], "n_cells": 3, "seed": 0}),
            ("predict_to_store", model.predict_to_store, lambda: {
                "path": self.fresh(), **asked, **drawn, "cells_per_part": 100, "rank": 0, "world_size": 1}),
            ("get_effects", model.get_effects, lambda: {**asked, "adata": a(), "key_added": None}),
            ("save", model.save, lambda: {"dir_path": self.fresh(), "overwrite": False, "save_anndata": False}),
            ("load", type(model).load, lambda: {"dir_path": self.folder / "model", "adata": a(), "device": "cpu"}),
            ("evaluate", tp.tl.evaluate, lambda: {
                "pred": p(), "truth": a(), "layer": None, "counts_layer": "counts", "baselines": "MeanShift",
                "metrics": ["pearson_delta", "mae"], "ceiling": True, "library_size_key": None, "n_bootstrap": 5,
                "design": None, "options": None, "seed": 0, "progress": False}),
            ("audit", tp.tl.audit, lambda: {
                "pred": p(), "truth": a(), "metrics": ["pearson_delta"], "layer": None, "design": None,
                "options": None, "limits": None, "n_bootstrap": 5, "seed": 0, "progress": False}),
            ("to_counts", tp.tl.to_counts, lambda: {
                "pred": p(), "controls": a(), "counts_layer": "counts", "library_size_key": None, "layer": None,
                "include_controls": True, "seed": 0}),
            ("to_cell_eval", tp.tl.to_cell_eval, lambda: {
                "pred": p(), "truth": a(), "folder": self.fresh(), "layer": None, "modality": None,
                "control_label": "x", "overwrite": False}),
            ("compare", tp.tl.compare, lambda: {
                "scores": self.scores.copy(), "model": "MeanShift", "against": "NoChange", "metrics": None,
                "n_bootstrap": 10, "level": 0.95, "seed": 0}),
            ("effects", tp.tl.effects, lambda: {"data": a(), "layer": None, "key_added": "effects"}),
            ("rank_genes_groups", tp.tl.rank_genes_groups, lambda: {
                "data": a(), "method": "t-test", "groups": None, "layer": None, "counts_layer": "counts",
                "replicate_key": None, "paired": False, "modality": None, "key_added": "rank_genes_groups"}),
            ("embed_together", tp.tl.embed_together, lambda: {
                "pred": p(), "truth": a(), "n_components": 3, "n_neighbors": 5, "umap": False, "seed": 0}),
            ("tl.predict", tp.tl.predict, lambda: {
                "adata": a(), "model": model, "perturbation": "P0", "dose": None, "time": None, "key_added": None,
                "seed": 0}),
            ("score_table", tp.tl.score_table, lambda: {"scores": self.scores.copy(), "value": "value"}),
            ("split", tp.pp.split, lambda: {
                "adata": a(), "holdout": {"context": "context_0"}, "by": None, "fraction": 0.2, "validation": None,
                "validation_fraction": 0.0, "together": (), **names, "key_added": "split", "seed": 0}),
            ("split by", tp.pp.split, lambda: {
                "adata": a(), "by": "perturbation", "fraction": 0.5, **names, "seed": 0}),
            ("align_genes", tp.pp.align_genes, lambda: {
                "adata": a(), "genes": list(self.adata.var_names)[::-1], "max_missing": 0.0, "fill": 0.0}),
            ("check_counts", tp.pp.check_counts, lambda: {"data": a(), "layer": "counts", "where": None}),
            ("check_log1p", tp.pp.check_log1p, lambda: {"data": a(), "layer": None, "where": None}),
            ("library_sizes", tp.pp.library_sizes, lambda: {"counts": a().layers["counts"]}),
            ("log1p_per_10k", tp.pp.log1p_per_10k, lambda: {
                "counts": a().layers["counts"], "library_size": np.asarray(self.adata.obs["library_size"])}),
            ("check_unique_names", tp.pp.check_unique_names, lambda: {"adata": a()}),
            ("check_not_backed", tp.pp.check_not_backed, lambda: {"adata": a()}),
            ("make_groups", tp.groups.make_groups, lambda: {
                "obs": self.adata.obs.copy(), "design": self.design, "mask": None, "min_cells": 1}),
            ("Design", tp.groups.Design, lambda: {
                "perturbation_key": "perturbation", "control": "control", "context_keys": ("context",),
                "batch_key": None, "dose_key": None, "time_key": None, "split_key": None, "direction_key": None}),
            ("build_store", tp.data.build_store, lambda: {
                "files": a(), "out": self.fresh(), "design": self.design, "layer": "counts", "genes": None,
                "obs_columns": None, "library_size_key": None, "cells_per_part": 50, "seed": 0, "progress": False}),
            ("coexpression", tp.conditions.coexpression, lambda: {
                "adata": a(), **names, "layer": "counts", "library_size_key": None, "n_dimensions": 3, "seed": 0}),
            ("simulate", tp.datasets.simulate, lambda: {
                "n_contexts": 2, "n_perturbations": 2, "n_genes": 6, "n_cells": 5, "n_batches": 1, "doses": (),
                "times": (), "n_combinations": 0, "seed": 0, "effect_size": 1.0, "null": 0.0, "moved": 0.2}),
            ("energy_distance", tp.metrics.energy_distance, lambda: {
                "cells": np.asarray(self.adata.X)[:9], "other": np.asarray(self.adata.X)[9:20], "squared": False}),
            ("differential_expression", tp.metrics.differential_expression, lambda: {
                "cells": np.asarray(self.adata.X)[:9], "controls": np.asarray(self.adata.X)[9:20], "alpha": 0.05}),
            ("resolve_metrics", tp.metrics.resolve_metrics, lambda: {"metrics": "default"}),
            ("bootstrap_interval", tp.metrics.bootstrap_interval, lambda: {
                "values": np.arange(5.0), "n_samples": 10, "level": 0.9, "seed": 0}),
            ("pearson_delta", tp.metrics.pearson_delta, lambda: {
                "predicted": np.arange(6.0).reshape(2, 3), "real": np.arange(6.0).reshape(2, 3) ** 2}),
            ("pl.scores", tp.pl.scores, lambda: {
                "table": self.scores.copy(), "metric": "pearson_delta", "populations": True, **shown}),
            ("pl.score_heatmap", tp.pl.score_heatmap, lambda: {
                "table": self.scores.copy(), "model": None, "metrics": None, "max_rows": 40, **shown}),
            ("pl.embedding", tp.pl.embedding, lambda: {
                "together": self.together.copy(), "basis": "umap", "title": None, "size": None, "seed": 0, **shown}),
            ("pl.effects_scatter", tp.pl.effects_scatter, lambda: {
                "pred": p(), "truth": a(), "population": None, "genes": None, "n_labels": 3, **shown}),
            ("pl.overlap_curve", tp.pl.overlap_curve, lambda: {
                "pred": p(), "truth": a(), "population": None, "max_k": 5, "layer": None, **shown}),
        ]  # fmt: skip
        return [Entry(*entry) for entry in listed]


# --- what must hold --------------------------------------------------------------------------------------------


def state_of(value: Any) -> Any:
    """Return what may not change in an object that a call was given."""
    if isinstance(value, mudata.MuData):
        return {name: state_of(value[name]) for name in value.mod}
    if not isinstance(value, ad.AnnData):
        return None
    matrices = [value.X, *(value.layers[name] for name in value.layers.keys() if name is not None)]
    return [
        [_digest(matrix) for matrix in matrices], list(map(str, value.obs.columns)), list(value.obs_names),
        list(value.var_names), sorted(map(str, value.uns)), sorted(map(str, value.obsm)), sorted(map(str, value.varm)),
    ]  # fmt: skip


def _digest(matrix: Any) -> Any:
    if matrix is None or hasattr(matrix, "compute"):
        return None
    if sparse.issparse(matrix):
        return [part.tobytes() for part in (matrix.data, matrix.indices, matrix.indptr)]
    return np.asarray(matrix).tobytes()


def broken(entry: Entry, given: dict[str, Any], result: Any) -> str | None:
    """Return which invariant a result breaks."""
    if not isinstance(result, ad.AnnData) or entry.name in ("align_genes", "embed_together", "simulate"):
        return None
    if "counts" in result.layers:
        counts = result.layers["counts"]
        values = counts.data if sparse.issparse(counts) else np.asarray(counts)
        whole = given.get("readout") == "expected" or (values == np.rint(values)).all()
        if not (np.isfinite(values).all() and (values >= 0).all() and whole):
            return "counts are no counts"
    values = result.X.data if sparse.issparse(result.X) else np.asarray(result.X)
    if not np.isfinite(values).all() or (values < 0).any():
        return "values are not finite, or negative"
    if entry.name.startswith("predict") and "source" in result.obs:
        sizes = (
            result.obs[result.obs["source"] == "predicted"].groupby(["context", "perturbation"], observed=True).size()
        )
        if len(sizes) and given.get("n_cells") is not None and set(sizes) != {int(given["n_cells"])}:
            return f"{set(sizes)} cells, {given['n_cells']} were asked for"
    return None


@dataclass
class Report:
    """What came of the calls."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    shown: bool = False

    def add(self, outcome: str, fault: str | None = None) -> None:
        """Count an outcome, and note a fault."""
        self.outcomes[outcome] += 1
        if fault is not None:
            self.faults.append(fault)
            if self.shown:
                print(fault, flush=True)

    def __str__(self) -> str:
        return ", ".join(f"{n} {what}" for what, n in sorted(self.outcomes.items()))


def run(n_calls: int, seed: int = 0, *, only: str | None = None, shown: bool = False) -> Report:
    """Make so many calls, and report which end neither in a sound result nor in an error of ours with a remedy."""
    import matplotlib.pyplot as plt

    rng, report, here = np.random.default_rng(seed), Report(shown=shown), os.getcwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shop = Workshop(Path(folder))
        os.chdir(folder)  # odd paths land in it
        try:
            entries = [entry for entry in shop.entries() if only is None or entry.name == only]
            for number in range(n_calls):
                _one(entries[rng.integers(len(entries))], rng, report, f"call {number}")
                plt.close("all")
        finally:
            os.chdir(here)
    return report


def _one(entry: Entry, rng: np.random.Generator, report: Report, call: str) -> None:
    given = entry.given()
    odd = []
    # each argument once: anndata itself cannot cut cells that are odd already
    for name in rng.permutation(list(given))[: int(rng.choice([0, 1, 1, 1, 2]))].tolist():
        value = given[name]
        if isinstance(value, ad.AnnData) and rng.random() < 0.8:
            given[name] = damaged(value, rng)
        else:
            given[name] = _ODD[rng.integers(len(_ODD))]()
        odd.append(f"{name}={str(given[name])[:60]!r}")
    before = {name: state_of(value) for name, value in given.items()}
    what = f"{call}: {entry.name}({', '.join(odd)})"
    try:
        result = entry.call(**given)
    except TranspertError as error:
        report.add("refused")
        if not error.remedy:
            report.add("refused without a remedy", f"{what}: no remedy: {type(error).__name__}: {error}")
        # a setup before a training that fails is not taken back
        changed = {name: state_of(value) for name, value in given.items()} != before
        if changed and entry.name != "setup and train":
            report.add("changed on failure", f"{what}: changed its input, and failed: {error}")
    except Exception as error:  # noqa: BLE001  whatever it is, it is noted
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "src/transpert" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        report.add("raw errors", f"{what}: {type(error).__name__}: {str(error)[:110]} ({place})")
    else:
        fault = broken(entry, given, result)
        report.add("results" if fault is None else "broken", None if fault is None else f"{what}: {fault}")


if __name__ == "__main__":
    found = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, shown=True)
    print(found)
    sys.exit(bool(found.faults))
