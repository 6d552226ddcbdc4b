"""The other public names: methods of models, stores, designs and vocabularies, and the commands of the shell."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.reliability.arrays import Listed
from tests.reliability.odd import KEYS

import transpert as tp
from transpert.data.source import MemorySource

KINDS = [tp.Additive, tp.ContextMean, tp.MeanFoldChange, tp.NearestPerturbation, tp.NoChange, tp.Replicate,
         tp.RidgeTransport]  # fmt: skip


def of_faces(shop: Any) -> list[Listed]:
    """Return what no other list of the workshop has."""
    parts = (_of_methods, _of_designs, _of_sets, _of_splits, _of_responses, _of_files, _of_commands)
    return [entry for part in parts for entry in part(shop)]


def _of_methods(shop: Any) -> list[Listed]:
    a, anchored = shop.copy, shop.anchored
    anchored.export(shop.folder / "exported", overwrite=True)
    exported = tp.transport.ExportedPredictor.load(shop.folder / "exported")
    asked = {"contexts": None, "perturbations": None, "doses": None, "times": None, "directions": None, "seed": 0}
    table = pd.DataFrame({"context": ["context_0"], "perturbation": ["P0"], "n_cells": [3]})
    counts = shop.adata.layers["counts"][:5].copy()
    sizes = np.asarray(shop.adata.obs["library_size"][:5], dtype=float)
    setup = {**KEYS, "control": "control", "layer": "counts", "split_key": "split"}

    def train(kind: Any, **given: Any) -> Any:
        return shop.trained(given.pop("adata"), kind, **given)

    @functools.cache
    def network() -> Any:
        model = shop.made(tp.SCALE, preset="tiny", joining="always", training=tp.model.TrainingOptions(steps=1))
        model.train(accelerator="cpu", enable_progress_bar=False)
        return model

    trained = [
        (f"train {kind.__name__}", lambda kind=kind, **given: train(kind, **given), lambda: {"adata": a(), **setup})
        for kind in KINDS
    ]
    return [
        *trained,
        ("summary", anchored.summary, dict),
        ("export", anchored.export, lambda: {
            "dir_path": shop.fresh(), **asked, "conditions": None, "adata": a(), "unseen": "error",
            "overwrite": False}),
        ("predict a table", anchored.predict, lambda: {
            "conditions": table.copy(), "contexts": None, "perturbations": None, "progress": False}),
        ("get_effects of a table", anchored.get_effects, lambda: {"conditions": table.drop(columns="n_cells")}),
        ("ExportedPredictor.predict", exported.predict, lambda: {
            "counts": counts, "library_size": sizes, "population": "context_0: P0", "genes": None, "seed": 0}),
        ("ExportedPredictor.save", exported.save, lambda: {"dir_path": shop.fresh(), "overwrite": False}),
        ("ExportedPredictor.load", type(exported).load, lambda: {"dir_path": shop.folder / "exported"}),
        ("get_latent_representation", lambda **given: network().get_latent_representation(**given), lambda: {
            "adata": a()}),
        ("tl.distances", tp.tl.distances, lambda: {
            "pred": shop.prediction(), "truth": a(), "metric": "edistance", "design": None, "context_keys": None,
            "n_components": 3, "max_cells": 5, "seed": 0}),
    ]  # fmt: skip


def _of_designs(shop: Any) -> list[Listed]:
    obs = shop.adata.obs
    vocabulary = tp.conditions.PerturbationVocabulary(("control", "A", "A+B"), "control")
    return [
        ("Design.check", shop.design.check, lambda: {"obs": obs.copy(), "need_controls": True}),
        ("Design.control_cells", shop.design.control_cells, lambda: {"obs": obs.copy()}),
        ("Design.report_labels", shop.design.report_labels, lambda: {"obs": obs.copy(), "genes": ()}),
        ("Design.check_not_written", shop.design.check_not_written, lambda: {"written": ["source"]}),
        ("Design.renamed", shop.design.renamed, lambda: {"names": {"context": "organ"}}),
        ("Design.from_dict", tp.groups.Design.from_dict, lambda: {"values": shop.design.to_dict()}),
        ("PerturbationVocabulary", tp.conditions.PerturbationVocabulary, lambda: {
            "labels": ("control", "A"), "control": "control", "conditions": ()}),
        ("PerturbationVocabulary.read", vocabulary.read, lambda: {"label": "B+A"}),
        ("PerturbationVocabulary.spelling", vocabulary.spelling, lambda: {"label": "B+A"}),
        ("PerturbationVocabulary.require", vocabulary.require, lambda: {"labels": ["A"]}),
        ("Embedding.shuffle", shop.vocabulary.shuffle, lambda: {"seed": 0}),
        ("Embedding.distances", shop.vocabulary.distances, lambda: {"names": ["A"], "known": ["B"]}),
        ("Embedding.to_frame", shop.vocabulary.to_frame, dict),
        ("Condition.read", tp.conditions.Condition.read, lambda: {"text": "A+B, dose 1"}),
    ]  # fmt: skip


def _of_sets(shop: Any) -> list[Listed]:
    groups = shop.groups()
    matching = tp.groups.match_controls(groups, warn=False)
    sampler = tp.data.SetSampler(groups, matching, set_size=4, sets_per_batch=2, batches_per_epoch=1)
    counts = shop.adata.layers["counts"].tocsr()
    source = MemorySource.from_matrix(counts)
    return [
        ("SetDataModule", tp.data.SetDataModule, lambda: {
            "source": source, "train": sampler, "validation": None, "ahead": 0, "on_device": False}),
        ("read_sets", tp.data.read_sets, lambda: {"source": source, "plan": next(iter(sampler.plan(0)))}),
        ("SetSampler.plan", lambda **given: list(sampler.plan(**given)), lambda: {"epoch": 0, "start_step": 0}),
        ("SetSampler.shard", sampler.shard, lambda: {"rank": 0, "world_size": 1}),
        ("Store.open", tp.data.Store.open, lambda: {"path": shop.folder / "store"}),
        ("Store.read_obs", shop.store.read_obs, dict),
        ("Store.names", shop.store.names, lambda: {"positions": np.arange(2)}),
        ("Store.verify", shop.store.verify, dict),
    ]  # fmt: skip


def _of_responses(shop: Any) -> list[Listed]:
    moved = shop.copy()
    tp.tl.predict(moved, shop.anchored, perturbation="P0", key_added="moved")
    tp.tl.responses(moved, "moved", n_splits=2)
    return [
        ("tl.responses", tp.tl.responses, lambda: {
            "adata": moved.copy(), "key": "moved", "groupby": None, "layer": "counts", "library_size_key": None,
            "n_splits": 2, "seed": 0}),
        ("pl.responses", tp.pl.responses, lambda: {
            "adata": moved.copy(), "key": "moved", "kind": "cells", "n_genes": 3, "show": False, "ax": None,
            "return_fig": False}),
        ("tl.rare_tails", tp.tl.rare_tails, lambda: {
            "model": shop.anchored, "perturbations": None, "contexts": None, "adata": shop.copy(), "share": 0.1,
            "level": 0.9, "seed": 0}),
    ]  # fmt: skip


def _of_splits(shop: Any) -> list[Listed]:
    divided = shop.copy()
    tp.pp.split(divided, holdout={"context": "context_0"}, **KEYS)
    split = tp.groups.Design("perturbation", "control", ("context",), split_key="split")
    return [
        ("save_split", tp.pp.save_split, lambda: {
            "adata": divided.copy(), "path": shop.fresh().with_suffix(".json"), "key": "split", "dataset": "cells"}),
        ("load_split", tp.pp.load_split, lambda: {
            "adata": shop.copy(), "source": divided.uns["split"], "design": None, "dataset": None,
            "key_added": "mine", "on_leak": "report"}),
        ("check_split", tp.pp.check_split, lambda: {"adata": divided.copy(), "design": split, "on_leak": "report"}),
    ]  # fmt: skip


def _of_files(shop: Any) -> list[Listed]:
    others = shop.copy()
    others.obs_names = [f"other_{name}" for name in others.obs_names]
    others.write_h5ad(shop.folder / "others.h5ad")
    norman = shop.copy()
    norman.obs = pd.DataFrame({"guide_ids": norman.obs["perturbation"].astype(str)}, index=norman.obs_names)
    norman.write_h5ad(shop.folder / "norman.h5ad")

    def local(path: Any) -> Any:
        return tp.datasets.norman19(path=shop.folder / "norman.h5ad" if path is None else path)

    # of the others nothing but the description differs; without a path they download
    return [
        ("kang18", tp.datasets.kang18, dict),
        ("norman19", local, lambda: {"path": shop.folder / "norman.h5ad"}),
    ]


def _of_commands(shop: Any) -> list[Listed]:
    def command(*words: str) -> Any:
        return lambda **options: shop.shell(*words, **options)

    def small(section: str = "") -> Path:
        given = shop.settings().read_text() + '[train]\npreset = "tiny"\nsteps = 1\n' + section
        path = shop.fresh().with_suffix(".toml")
        path.write_text(given.replace("results", path.stem))
        return path

    @functools.cache
    def done() -> Path:
        path = small('[rank]\ngenes = ["gene_0"]\n[scaling]\nmodels = ["MeanShift"]\nseeds = 1\n')
        for step in ("split", "train"):
            shop.shell(step, path)
        return path

    def copied() -> Path:
        return Path(shutil.copytree(stored, shop.fresh()))

    stored = shop.folder / "store"
    return [
        ("transpert info", command("info"), dict),
        ("transpert profile", command("profile"), lambda: {
            "cells": stored, "__preset": "tiny", "__steps": 2, "__accelerator": "cpu", "__split_key": None}),
        ("transpert run", command("run"), lambda: {"file": small(), "__set": "evaluate.n_bootstrap=2"}),
        ("transpert rank", command("rank"), lambda: {"file": done(), "__set": None}),
        ("transpert scaling", command("scaling"), lambda: {"file": done(), "__set": None}),
        ("transpert train", command("train"), lambda: {"file": done(), "__set": None}),
        ("transpert predict", command("predict"), lambda: {"file": done(), "__set": None}),
        ("transpert store append", command("store", "append"), lambda: {
            "path": copied(), "file": shop.folder / "others.h5ad", "__layer": "counts",
            "__library_size_key": None}),
        ("transpert store verify", command("store", "verify"), lambda: {"path": stored}),
        ("transpert quickstart", command("quickstart"), lambda: {
            "__out": shop.fresh(), "__cell_type": "DC", "__preset": "tiny", "__steps": 1,
            "__accelerator": "cpu", "__seed": 0}),
    ]  # fmt: skip
