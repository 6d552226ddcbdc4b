"""Every public entry point with arguments that it takes, and the cells, models and folders that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import annbatch
import anndata as ad
import mudata
import numpy as np
import pandas as pd
from tests.reliability.arrays import Listed, of_arrays, of_options
from tests.reliability.faces import of_faces
from tests.reliability.odd import KEYS, cells
from typer.testing import CliRunner

import transpert as tp
from transpert.cli import app
from transpert.errors import OptionError

# --- entry points -----------------------------------------------------------------------------------------------------


SLOW = (
    "predict_to_store", "train a network", "profile_training", "pl.report", "transpert report", "scaling_study",
    "transpert run", "transpert rank", "transpert scaling", "transpert train", "transpert predict",
    "transpert profile", "transpert store append", "transpert quickstart", "kang18", "get_latent_representation",
    "tl.distances",
)  # fmt: skip


# nothing is downloaded by accident
NOWHERE = dataclasses.replace(tp.datasets.PUBLIC_SETS["norman19"], name="nowhere", url="http://127.0.0.1:9/x.h5ad")


@dataclass
class Entry:
    """A call that succeeds as it is, and the arguments that may be made odd."""

    name: str
    call: Callable[..., Any]
    given: Callable[[], dict[str, Any]]

    @property
    def is_slow(self) -> bool:
        """Whether a call takes more than half a second."""
        return self.name in SLOW


@dataclass
class Workshop:
    """What the calls need: cells, trained models, their predictions, scores, folders."""

    folder: Path
    adata: ad.AnnData = field(default_factory=cells)

    def __post_init__(self) -> None:
        self.n = 0
        self.model = self.trained(self.adata.copy(), layer="counts", split_key="split", **KEYS)
        self.anchored = self.trained(self.adata.copy(), tp.KernelTransport, layer="counts", split_key="split", **KEYS)
        self.pred = self.model.predict(progress=False)
        # ``evaluate`` judges populations that both sides have
        self.scores = tp.tl.evaluate(self.pred, self.adata, baselines="NoChange", n_bootstrap=10, progress=False)
        self.together = tp.tl.embed_together(self.pred, self.adata, n_components=3, n_neighbors=5, umap=False)
        self.together.obsm["X_umap"] = self.together.obsm["X_pca"][:, :2].copy()
        self.design = tp.groups.Design("perturbation", "control", ("context",))
        self.model.save(self.folder / "model")
        self.store = tp.data.build_store(self.adata, self.folder / "store", self.design, layer="counts")
        self.dosed = tp.datasets.simulate(
            n_contexts=2, n_perturbations=1, n_genes=6, n_cells=9, doses=(1.0, 3.0), times=(2.0,)
        )
        self.shares = tp.tl.effect_shares(self.adata.copy(), design=self.design, n_splits=2, n_bootstrap=2)
        effects = self.model.get_effects()
        self.wanted = effects.iloc[:, 0]
        self.ranking = tp.tl.rank_targets(self.anchored, self.wanted, n_cells=10, progress=False)
        screen = tp.datasets.simulate(n_contexts=2, n_perturbations=6, n_genes=12, n_cells=9, embedding_dimension=2)
        vectors = pd.DataFrame(screen.uns["simulation"]["embedding"])
        known = screen[~screen.obs["perturbation"].isin(["P4", "P5"])].copy()
        tp.KernelTransport.setup_anndata(known, layer="counts", **KEYS)
        self.described = tp.KernelTransport(known, embeddings=vectors)
        self.described.train()
        self.vocabulary = tp.conditions.Embedding(("A", "B"), np.eye(2))
        self.registered = self.folder / "registered"
        self.bounded = self.anchored.predict(interval=0.9, progress=False)
        tp.tl.register_prediction(self.bounded, self.registered)
        self.pred.write_h5ad(self.folder / "pred.h5ad")
        self.adata.write_h5ad(self.folder / "truth.h5ad")
        self.small().write_h5ad(self.folder / "small.h5ad")
        split = tp.groups.Design("perturbation", "control", ("context",), split_key="split")
        self.study = tp.tl.scaling_study(
            self.adata.copy(), split, models="MeanShift", axes={"cells": [0.5, 1.0]}, seeds=1, metrics="mae",
            out=self.folder / "study", progress=False,
        )  # fmt: skip

    @staticmethod
    def trained(adata: Any, kind: Any = tp.MeanShift, **options: Any) -> Any:
        kind.setup_anndata(adata, **options)
        model = kind(adata)
        model.train()
        return model

    @staticmethod
    def train_network(adata: Any, **options: Any) -> Any:
        tp.SCALE.setup_anndata(adata, layer="counts", split_key="split", **KEYS)
        training = tp.model.TrainingOptions(steps=2, steps_per_epoch=1)
        tp.SCALE(adata, preset="tiny", training=training).train(enable_progress_bar=False, **options)

    def shell(self, *command: str, **options: Any) -> Any:
        """Call the shell's command; its errors in one line count as errors of ours."""
        written = [str(part) for part in command]
        for name, value in options.items():
            named = name.startswith("__")
            written += [] if value is None else [f"--{name[2:].replace('_', '-')}"] * named + [str(value)]
        found = CliRunner().invoke(app, written)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        if found.exit_code:
            said = found.output.splitlines()[-1].partition(":")[0] if found.exit_code == 1 else "OptionError"
            if said not in tp.errors.__all__:
                raise RuntimeError(found.output)
            raise OptionError("refused by the shell", remedy=found.output)
        return found.output

    def fresh(self) -> Path:
        self.n += 1
        return self.folder / f"out{self.n}"

    def entries(self) -> list[Entry]:
        """Return every entry point with arguments that it takes."""
        listed = [
            *self.of_models(), *self.of_tools(), *self.of_cells(), *self.of_plots(), *self.of_shell(),
            *self.of_transport(), *of_faces(self), *of_arrays(), *of_options(),
        ]  # fmt: skip
        return [Entry(*entry) for entry in listed]

    def copy(self) -> ad.AnnData:
        return self.adata.copy()

    def prediction(self) -> ad.AnnData:
        return self.pred.copy()

    def of_models(self) -> list[Listed]:
        a, model, anchored = self.copy, self.model, self.anchored
        asked: dict[str, Any] = {
            "contexts": None, "perturbations": None, "doses": None, "times": None, "directions": None, "seed": 0,
        }  # fmt: skip
        drawn: dict[str, Any] = {
            "n_cells": 3, "readout": None, "include_controls": True, "progress": False, "unseen": "error",
        }  # fmt: skip
        setup: dict[str, Any] = {
            **KEYS, "control": "control", "layer": "counts", "split_key": "split", "batch_key": None,
            "library_size_key": None, "embedding_key": None, "dose_key": None, "time_key": None, "direction_key": None,
            "combination_separator": "+",
        }  # fmt: skip
        mdata = lambda: mudata.MuData({"rna": a()})  # noqa: E731
        return [
            ("setup and train", self.trained, lambda: {"adata": a(), **setup}),
            ("setup and train anchor", lambda adata, **o: self.trained(adata, tp.KernelTransport, **o), lambda: {
                "adata": a(), **setup}),
            ("setup", tp.MeanShift.setup_anndata, lambda: {"adata": a(), **setup}),
            ("setup_mudata", tp.MeanShift.setup_mudata, lambda: {"mdata": mdata(), "modality": "rna", **{
                **setup, "split_key": None, "perturbation_key": "perturbation"}}),
            ("setup_store", tp.MeanShift.setup_store, lambda: {
                "store": self.store, "split_key": None, "layer": None, "design": None}),
            ("make a model", lambda **given: self.made(tp.KernelTransport, **given), lambda: {
                "anchor": None, "readout": None, "embeddings": None}),
            ("make a network", lambda **given: self.made(tp.SCALE, **given), lambda: {
                "preset": "tiny", "encoder": None, "sets": None, "conditions": None, "flow": None, "losses": None,
                "decoder": None, "anchor": None, "readout": None, "joining": None, "training": None,
                "embeddings": None, "seed": 0}),
            ("train a network", self.train_network, lambda: {
                "adata": a(), "max_epochs": 1, "accelerator": "cpu", "devices": 1, "precision": None,
                "strategy": "auto", "early_stopping": True, "checkpoint_dir": None,
                "checkpoint_every_n_steps": None, "resume": False}),
            ("predict", model.predict, lambda: {
                **asked, **drawn, "adata": a(), "max_missing_genes": 0.0}),
            ("predict without cells", model.predict, lambda: {**asked, **drawn, "adata": None, "interval": None}),
            ("predict with intervals", anchored.predict, lambda: {**asked, **drawn, "adata": None, "interval": 0.9}),
            ("predict_populations", model.predict_populations, lambda: {
                "wanted": [("context_0", "P0")], "n_cells": 3, "unseen": "error", "seed": 0}),
            ("controls_of", model.controls_of, lambda: {
                "context": "context_0", "condition": "P0", "n_cells": 3, "seed": 0}),
            ("predict_to_store", model.predict_to_store, lambda: {
                "path": self.fresh(), **asked, **drawn, "cells_per_part": 100, "rank": 0, "world_size": 1}),
            ("counterfactual", model.counterfactual, lambda: {
                "adata": a(), "perturbation": "P0", "dose": None, "time": None, "direction": None,
                "unseen": "error", "seed": 0}),
            ("get_effects", model.get_effects, lambda: {**asked, "adata": a(), "key_added": None}),
            ("get_uncertainty", anchored.get_uncertainty, lambda: {
                **asked, "adata": a(), "level": 0.9, "n_cells": 10, "unseen": "error"}),
            ("save", model.save, lambda: {"dir_path": self.fresh(), "overwrite": False, "save_anndata": False}),
            ("load", type(model).load, lambda: {"dir_path": self.folder / "model", "adata": a(), "device": "cpu"}),
            ("profile_training", tp.model.profile_training, lambda: {
                "model": self.made(tp.SCALE, preset="tiny"), "n_steps": 2, "accelerator": "cpu"}),
        ]  # fmt: skip

    def made(self, kind: Any, **given: Any) -> Any:
        adata = self.copy()
        kind.setup_anndata(adata, layer="counts", split_key="split", **KEYS)
        return kind(adata, **given)

    def of_tools(self) -> list[Listed]:
        a, p, model = self.copy, self.prediction, self.model
        named: dict[str, Any] = {"design": None, "perturbation_key": None, "control": None, "context_keys": None}
        return [
            ("evaluate", tp.tl.evaluate, lambda: {
                "pred": p(), "truth": a(), "layer": None, "counts_layer": "counts", "baselines": "MeanShift",
                "metrics": ["pearson_delta", "mae"], "ceiling": True, "library_size_key": None, "n_bootstrap": 5,
                "design": None, "context_keys": None, "options": None, "seed": 0, "progress": False}),
            ("evaluate several", tp.tl.evaluate, lambda: {
                "pred": {"one": p()}, "truth": a(), "metrics": "default", "n_bootstrap": 5, "progress": False}),
            ("audit", tp.tl.audit, lambda: {
                "pred": p(), "truth": a(), "metrics": ["pearson_delta"], "layer": None, "design": None,
                "context_keys": None, "options": None, "limits": None, "n_bootstrap": 5, "seed": 0,
                "progress": False}),
            ("to_counts", tp.tl.to_counts, lambda: {
                "pred": p(), "controls": a(), **named, "counts_layer": "counts", "library_size_key": None,
                "layer": None, "include_controls": True, "seed": 0}),
            ("to_cell_eval", tp.tl.to_cell_eval, lambda: {
                "pred": p(), "truth": a(), "folder": self.fresh(), **named, "layer": None, "modality": None,
                "control_label": "x", "overwrite": False}),
            ("to_vcc", tp.tl.to_vcc, lambda: {
                "pred": self.small(), "path": self.fresh().with_suffix(".vcc"), "genes": list(self.adata.var_names),
                "perturbations": ["P0", "P1"], "contexts": ["context_0", "context_1", "context_2"], "n_cells": 3,
                "design": None, "layer": "counts",
                "unmeasured": "refuse", "controls": None,
                "seed": 0, "overwrite": False}),
            ("compare", tp.tl.compare, lambda: {
                "scores": self.scores.copy(), "model": "MeanShift", "against": "NoChange", "metrics": None,
                "n_bootstrap": 10, "level": 0.95, "seed": 0}),
            ("effects", tp.tl.effects, lambda: {
                "data": a(), **named, "pseudo_rate": 0.05, "layer": None, "modality": None, "key_added": "effects"}),
            ("effect_shares", tp.tl.effect_shares, lambda: {
                "adata": a(), "design": self.design, "context_keys": None, "metrics": None, "layer": None,
                "modality": None, "n_splits": 2, "n_bootstrap": 2, "level": 0.9, "key_added": "effect_shares",
                "seed": 0}),
            ("rank_genes_groups", tp.tl.rank_genes_groups, lambda: {
                "data": a(), "method": "t-test", "design": None, "perturbation_key": None, "control": None,
                "groups": None, "layer": None, "counts_layer": "counts", "replicate_key": None, "paired": False,
                "modality": None, "key_added": "rank_genes_groups"}),
            ("embed_together", tp.tl.embed_together, lambda: {
                "pred": p(), "truth": a(), **named, "n_components": 3, "n_neighbors": 5, "umap": False, "seed": 0}),
            ("tl.predict", tp.tl.predict, lambda: {
                "adata": a(), "model": model, "perturbation": "P0", "dose": None, "time": None, "direction": None,
                "key_added": None, "seed": 0}),
            ("score_table", tp.tl.score_table, lambda: {"scores": self.scores.copy(), "value": "value"}),
            ("rank_targets", tp.tl.rank_targets, lambda: {
                "model": self.anchored, "desired": self.wanted.copy(), "adata": a(), "candidates": None,
                "contexts": None, "direction": "toward", "n_cells": 10, "level": 0.9,
                "max_distance": 2.0, "key_added": "targets", "progress": False, "seed": 0}),
            ("score_ranking", tp.tl.score_ranking, lambda: {
                "ranking": self.ranking.copy(), "relevant": ["P0"], "at": (1,), "context": "context_0"}),
            ("suggest", tp.tl.suggest, lambda: {
                "model": self.described, "candidates": ["P4", "P5"], "n": 1, "contexts": None,
                "by_context": True, "seed": 0}),
            ("register_prediction", tp.tl.register_prediction, lambda: {
                "pred": self.bounded.copy(), "folder": self.fresh(), "ranking": None, "note": ""}),
            ("score_registered", tp.tl.score_registered, lambda: {
                "folder": self.registered, "adata": a(), "design": None, "checksum": None}),
            ("scaling_study", tp.tl.scaling_study, lambda: {
                "adata": a(), "design": tp.groups.Design("perturbation", "control", ("context",), split_key="split"),
                "models": "MeanShift", "axes": {"cells": [1.0]}, "schemes": "random", "seeds": 1, "spike": None,
                "metrics": "mae", "layer": "counts", "type_key": None, "n_cells": None, "out": self.fresh(),
                "budget": None, "n_jobs": 1, "progress": False}),
        ]  # fmt: skip

    def of_cells(self) -> list[Listed]:
        a = self.copy
        named: dict[str, Any] = {**KEYS, "control": "control"}
        return [
            ("split", tp.pp.split, lambda: {
                "adata": a(), "holdout": {"context": "context_0"}, "by": None, "fraction": 0.2, "validation": None,
                "together": (), **named, "key_added": "split", "seed": 0}),
            ("split by", tp.pp.split, lambda: {
                "adata": a(), "by": "perturbation", "fraction": 0.5, **named, "seed": 0}),
            ("align_genes", tp.pp.align_genes, lambda: {
                "adata": a(), "genes": list(self.adata.var_names)[::-1], "max_missing": 0.0, "fill": 0.0}),
            ("amounts", tp.pp.amounts, lambda: {"column": pd.Series(["10uM", "1 nM"]), "unit": "uM"}),
            ("targets_of_guides", tp.pp.targets_of_guides, lambda: {
                "labels": ["A_g1", "A_g2", "control"], "control": "control", "genes": (),
                "combination_separator": "+"}),
            ("normalize", tp.pp.normalize, lambda: {
                "adata": self.raw(), "layer": None, "library_size_key": None, "counts_layer": "counts"}),
            ("check_counts", tp.pp.check_counts, lambda: {"data": a(), "layer": "counts", "where": None}),
            ("check_log1p", tp.pp.check_log1p, lambda: {"data": a(), "layer": None, "where": None}),
            ("library_sizes", tp.pp.library_sizes, lambda: {"counts": a().layers["counts"]}),
            ("log1p_per_10k", tp.pp.log1p_per_10k, lambda: {
                "counts": a().layers["counts"], "library_size": np.asarray(self.adata.obs["library_size"])}),
            ("check_unique_names", tp.pp.check_unique_names, lambda: {"adata": a()}),
            ("check_not_backed", tp.pp.check_not_backed, lambda: {"adata": a()}),
            ("make_groups", tp.groups.make_groups, lambda: {
                "obs": self.adata.obs.copy(), "design": self.design, "mask": None, "min_cells": 1,
                "need_controls": True}),
            ("match_controls", tp.groups.match_controls, lambda: {
                "groups": self.groups(), "min_controls": 10, "warn": True}),
            ("SetSampler", tp.data.SetSampler, lambda: {
                "groups": self.groups(), "matching": tp.groups.match_controls(self.groups()), "set_size": 4,
                "sets_per_batch": 2, "batches_per_epoch": 1, "weighting": "uniform", "slice_size": 1, "mask": None,
                "group_subset": None, "seed": 0}),
            ("Design", tp.groups.Design, lambda: {
                "perturbation_key": "perturbation", "control": "control", "context_keys": ("context",),
                "batch_key": None, "dose_key": None, "time_key": None, "split_key": None, "direction_key": None,
                "combination_separator": "+"}),
            ("build_store", tp.data.build_store, lambda: {
                "files": a(), "out": self.fresh(), "design": self.design, "layer": "counts", "genes": None,
                "obs_columns": None, "library_size_key": None, "cells_per_part": 50, "seed": 0, "progress": False}),
            ("Store", tp.data.Store, lambda: {"path": self.folder / "store"}),
            ("append", lambda **given: tp.data.build_store(
                self.adata, self.fresh(), self.design, layer="counts").append(**given), lambda: {
                "files": a(), "layer": "counts", "library_size_key": None, "allow_repeated": True,
                "progress": False}),
            ("subset", self.store.subset, lambda: {
                "cells": np.arange(self.store.n_obs) % 2 == 0, "out": self.fresh(), "seed": 0, "progress": False}),
            ("to_anndata", self.store.to_anndata, lambda: {"positions": np.arange(3)}),
            ("to_scdl", tp.data.to_scdl, lambda: {"store": self.store, "folder": self.fresh()}),
            ("from_scdl", tp.data.from_scdl, lambda: {
                "folder": self.scdl(), "out": self.fresh(), "design": self.design, "gene_key": None}),
            ("from_annbatch", tp.data.from_annbatch, lambda: {
                "collection": self.annbatch(), "out": self.fresh(), "design": self.design}),
            ("from_cell_load", tp.data.from_cell_load, lambda: {
                "config": self.cell_load(), "out": self.fresh(), "design": self.design, "layer": "counts"}),
            ("coexpression", tp.conditions.coexpression, lambda: {
                "adata": a(), **named, "layer": "counts", "library_size_key": None, "n_dimensions": 3, "seed": 0}),
            ("coexpression_of", tp.conditions.coexpression_of, lambda: {
                "counts": self.adata.layers["counts"].tocsr(), "library_size": np.full(self.adata.n_obs, 1e3),
                "groups": None, "genes": list(self.adata.var_names), "n_dimensions": 3, "seed": 0}),
            ("combine", tp.conditions.combine, lambda: {
                "tables": [pd.DataFrame(np.eye(2), index=["A", "B"])], "weights": None}),
            ("as_embedding", tp.conditions.as_embedding, lambda: {
                "tables": pd.DataFrame(np.eye(2), index=["A", "B"])}),
            ("fingerprints", tp.conditions.fingerprints, lambda: {
                "smiles": {"water": "O", "ethanol": "CCO"}, "radius": 2, "n_bits": 64}),
            ("gene_ontology", tp.conditions.gene_ontology, lambda: {
                "path": self.annotations(), "n_dimensions": 1, "taxon": None, "symbols": None,
                "leave_out_evidence": ("ND",), "min_genes": 2, "max_share": 0.1, "seed": 0}),
            ("Embedding", tp.conditions.Embedding, lambda: {
                "names": ("A", "B"), "values": np.eye(2), "source": "a table", "blocks": ()}),
            ("Embedding.from_frame", tp.conditions.Embedding.from_frame, lambda: {
                "frame": pd.DataFrame(np.eye(2), index=["A", "B"]), "name_column": None, "source": "x"}),
            ("Embedding.from_npz", tp.conditions.Embedding.from_npz, lambda: {
                "path": self.vectors(), "names": None, "values": None}),
            ("Embedding.from_h5ad", tp.conditions.Embedding.from_h5ad, lambda: {
                "source": self.folder / "truth.h5ad", "key": None, "axis": "obs"}),
            ("Embedding.from_tokens", tp.conditions.Embedding.from_tokens, lambda: {
                "matrix": np.eye(3), "vocabulary": {"A": 0, "B": 2}, "source": "x"}),
            ("Embedding.require", self.vocabulary.require, lambda: {"names": ["A"], "where": "here"}),
            ("Embedding.lookup", self.vocabulary.lookup, lambda: {"names": ["A"]}),
            ("Embedding.restrict", self.vocabulary.restrict, lambda: {"names": ["A"]}),
            ("Embedding.rename", self.vocabulary.rename, lambda: {"names": {"A": "C"}}),
            ("Embedding.nearest", self.vocabulary.nearest, lambda: {"name": "A", "n": 1}),
            ("Condition", tp.conditions.Condition, lambda: {
                "parts": ("A",), "doses": (1.0,), "time": None, "directions": (None,)}),
            ("parse_condition", tp.conditions.parse_condition, lambda: {
                "label": "A+B", "control": "control", "dose": None, "time": None, "direction": None}),
            ("parse_perturbation", tp.conditions.parse_perturbation, lambda: {
                "label": "A+B", "control": "control"}),
            ("simulate", tp.datasets.simulate, lambda: {
                "n_contexts": 2, "n_perturbations": 2, "n_genes": 6, "n_cells": 5, "n_batches": 1, "doses": (),
                "times": (), "n_combinations": 0, "seed": 0, "effect_size": 1.0, "null": 0.0, "moved": 0.2}),
            ("true_effects", tp.datasets.true_effects, lambda: {"adata": a()}),
            ("read_public", tp.datasets.read_public, lambda: {
                "entry": NOWHERE, "path": self.folder / "truth.h5ad"}),
        ]  # fmt: skip

    def scdl(self) -> Path:
        if not (self.folder / "scdl").exists():
            tp.data.to_scdl(self.store, self.folder / "scdl")
        return self.folder / "scdl"

    def cell_load(self) -> Path:
        text = 'datasets = {screen = "truth.h5ad"}\ntraining = {screen = "train"}\n'
        return self.text("split.toml", text + 'zeroshot = {"screen.context_1" = "test"}\n')

    def annbatch(self) -> Path:
        if not (self.folder / "annbatch").exists():
            self.raw().write_h5ad(self.folder / "raw.h5ad")
            made = annbatch.DatasetCollection(self.folder / "annbatch")
            made.add_adatas(
                [self.folder / "raw.h5ad"], n_obs_per_chunk=8, shard_size=16, dataset_size=500, shuffle_chunk_size=10
            )
        return self.folder / "annbatch"

    def text(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def vectors(self) -> Path:
        np.savez(self.folder / "vectors.npz", names=np.array(["A", "B"]), values=np.eye(2))
        return self.folder / "vectors.npz"

    def annotations(self) -> Path:
        rows = [("A", "GO:1"), ("B", "GO:1"), ("B", "GO:2"), ("C", "GO:2"), ("D", "GO:3")]
        text = "".join(
            f"U\t{gene}\t{gene}\t\t{term}\tr\tIDA\t\tP\t\t\tprotein\ttaxon:9606\td\tU\n" for gene, term in rows
        )
        return self.text("x.gaf", "!gaf-version: 2.2\n" + text)

    def small(self) -> ad.AnnData:
        return self.anchored.predict(n_cells=3, progress=False)

    def raw(self) -> ad.AnnData:
        return ad.AnnData(self.adata.layers["counts"].copy(), obs=self.adata.obs.copy(), var=self.adata.var.copy())

    def groups(self) -> Any:
        return tp.groups.make_groups(self.adata.obs, self.design)

    def of_plots(self) -> list[Listed]:
        a, p = self.copy, self.prediction
        shown = {"show": False, "return_fig": False, "ax": None}
        named: dict[str, Any] = {"design": None, "context_keys": None}
        return [
            ("pl.scores", tp.pl.scores, lambda: {
                "table": self.scores.copy(), "metric": "pearson_delta", "populations": True, **shown}),
            ("pl.score_heatmap", tp.pl.score_heatmap, lambda: {
                "table": self.scores.copy(), "model": None, "metrics": None, "max_rows": 40, **shown}),
            ("pl.embedding", tp.pl.embedding, lambda: {
                "together": self.together.copy(), "basis": "umap", "title": None, "size": None, "seed": 0, **shown}),
            ("pl.effects_scatter", tp.pl.effects_scatter, lambda: {
                "pred": p(), "truth": a(), "population": None, "genes": None, "n_labels": 3, **named, **shown}),
            ("pl.overlap_curve", tp.pl.overlap_curve, lambda: {
                "pred": p(), "truth": a(), "population": None, "max_k": 5, "layer": None, **named, **shown}),
            ("pl.calibration", tp.pl.calibration, lambda: {
                "pred": p(), "truth": a(), "layer": None, **named, **shown}),
            ("pl.dose_response", tp.pl.dose_response, lambda: {
                "pred": self.dosed.copy(), "truth": self.dosed.copy(), "perturbation": "P0", "context": None,
                "genes": 2, "pseudo_rate": 0.05, "layer": None, **shown,
                "design": tp.groups.Design("perturbation", "control", ("context",), dose_key="dose"),
                "context_keys": None}),
            ("pl.effect_shares", tp.pl.effect_shares, lambda: {
                "found": self.shares, "n_perturbations": 2, **shown}),
            ("pl.scaling", tp.pl.scaling, lambda: {
                "study": self.study, "metric": None, "axis": None, "scheme": None, **shown}),
            ("pl.targets", tp.pl.targets, lambda: {
                "ranking": self.ranking.copy(), "context": "context_0", "n_targets": 2, **shown}),
            ("pl.report", tp.pl.report, lambda: {
                "pred": p(), "truth": a(), "path": self.fresh().with_suffix(".html"), "scores": self.scores.copy(),
                "audit": None, "baselines": None, "command": None, "seed": 0}),
        ]  # fmt: skip

    def of_shell(self) -> list[Listed]:
        def command(*words: str) -> Callable[..., Any]:
            return lambda **options: self.shell(*words, **options)

        pred, truth, store = self.folder / "pred.h5ad", self.folder / "truth.h5ad", self.folder / "store"
        return [
            ("transpert evaluate", command("evaluate"), lambda: {
                "pred": pred, "truth": truth, "__metrics": "mae", "__out": self.fresh(), "__n_bootstrap": 5,
                "__layer": None, "__baselines": None, "__perturbation_key": None, "__control": None,
                "__context_key": None, "__reference": "real", "__split_key": "split", "__seed": 0,
                "__max_controls": None, "__max_missing_genes": 0.0}),
            ("transpert init", command("init"), lambda: {"cells": truth, "__out": self.fresh()}),
            ("transpert split", command("split"), lambda: {"file": self.settings(), "__set": "split.seed=1"}),
            ("transpert report", command("report"), lambda: {
                "pred": pred, "truth": truth, "__out": self.fresh()}),
            ("transpert store build", command("store", "build"), lambda: {
                "file": truth, "out": self.fresh(), "__layer": "counts", "__perturbation_key": "perturbation",
                "__context_key": "context", "__genes": None, "__seed": 0, "__cells_per_part": 50}),
            ("transpert store info", command("store", "info"), lambda: {"path": store}),
            ("transpert store subset", command("store", "subset"), lambda: {
                "path": store, "out": self.fresh(), "__where": "perturbation=P0,control", "__seed": 0}),
            ("transpert export vcc", command("export", "vcc"), lambda: {
                "pred": self.folder / "small.h5ad", "out": self.fresh(), "__genes": self.lines(*self.adata.var_names),
                "__contexts": "context_0,context_1,context_2", "__n_cells": 3, "__control": None,
                "__unmeasured": "refuse"}),
        ]  # fmt: skip

    def lines(self, *words: str) -> Path:
        return self.text("lines.csv", "\n".join(words))

    def settings(self) -> Path:
        self.raw().write_h5ad(self.folder / "raw.h5ad")
        return self.text(
            "settings.toml",
            f'[data]\nfile = "{self.folder / "raw.h5ad"}"\ncontext_keys = ["context"]\n'
            f'[split]\nholdout = {{context = "context_0"}}\n[output]\nfolder = "{self.folder / "results"}"\n',
        )

    def of_transport(self) -> list[Listed]:
        effects = self.model.cells
        counts, sizes = self.adata.layers["counts"].tocsr(), np.asarray(self.adata.obs["library_size"], float)
        groups = self.groups()
        matching = tp.groups.match_controls(groups, warn=False)
        statistics = tp.transport.group_statistics(counts, sizes, groups.codes, len(groups.table))
        effects = tp.transport.group_effects(counts, sizes, groups, matching)
        condition = tp.conditions.Condition(("A",))
        rng = np.random.default_rng(0)
        first = rng.normal(size=(4, 6))
        halves = tp.scaling.HalvedEffects(first, first + 0.1, np.repeat(["a", "b"], 2), np.tile(["x", "y"], 2))
        similarity = tp.scaling.fit_similarity(first, np.arange(3), first[:3])
        population = tp.metrics.Population(np.abs(first))
        comparison = tp.metrics.Comparison(
            population, population, tp.metrics.Population(np.abs(first[::-1])), None, "x"
        )
        return [
            ("amount_distance", tp.transport.amount_distance, lambda: {"condition": condition, "known": [condition]}),
            ("group_effects", tp.transport.group_effects, lambda: {
                "counts": counts, "library_size": sizes, "groups": groups, "matching": matching}),
            ("estimate_dispersion", tp.transport.estimate_dispersion, lambda: {
                "statistics": statistics, "smallest": 1e-3, "largest": 10.0}),
            ("observed_log_folds", tp.transport.observed_log_folds, lambda: {"effects": effects}),
            ("rows_of_groups", tp.transport.rows_of_groups, lambda: {"groups": groups}),
            ("fit_anchor", tp.transport.fit_anchor, lambda: {
                "effects": effects, "options": tp.transport.AnchorOptions(), "dispersion": np.ones(12), "seed": 0}),
            ("effect_energies", tp.scaling.effect_energies, lambda: {
                "effects": halves, "context_weights": np.ones((1, 2)), "perturbation_weights": np.ones((1, 2))}),
            ("choose_next", tp.scaling.choose_next, lambda: {
                "similarity": similarity, "measured": np.arange(2), "candidates": np.array([2, 3]), "n": 1,
                "rng": np.random.default_rng(0)}),
            ("summarise", tp.metrics.summarise, lambda: {
                "comparison": comparison, "needs": tp.metrics.summary_needs(tp.metrics.resolve_metrics("mse"))}),
            ("score_prediction", tp.metrics.score_prediction, lambda: {
                "comparisons": [comparison], "metrics": "mae", "block": 4}),
        ]  # fmt: skip
