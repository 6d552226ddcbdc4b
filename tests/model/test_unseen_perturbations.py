"""What embeddings are worth for perturbations that were never seen, and that it is the embedding that does it."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.conditions import Embedding
from transpert.errors import AssumptionWarning, OptionError, UnknownNameError
from transpert.metrics import bootstrap_interval
from transpert.model import TrainingOptions

SETUP = {"perturbation_key": "perturbation", "layer": "counts", "split_key": "split"}
METRICS = ["pearson_delta", "overlap_at_n", "discrimination_score_cosine"]
HELD = [f"P{i}" for i in range(20)]


@pytest.fixture(scope="module")
def _large_screen():
    adata = tp.datasets.simulate(
        n_contexts=1, n_perturbations=70, n_genes=100, n_cells=40, n_control_cells=200, embedding_dimension=5,
        embedding_noise=0.2, systematic_effect=0.3, context_dependence="none", moved=0.4, seed=11,
    )  # fmt: skip
    adata.obs["split"] = np.where(adata.obs["perturbation"].isin(HELD), "test", "train")
    return adata, Embedding.from_frame(adata.uns["simulation"]["embedding"])


@pytest.fixture
def large_screen(_large_screen):
    adata, embedding = _large_screen
    return adata.copy(), embedding


def fit(adata, embeddings, cls=tp.RidgeTransport, **options):
    cls.setup_anndata(adata, **SETUP)
    model = cls(adata, embeddings=embeddings, **options)
    model.train()
    return model


def test_embeddings_beat_the_mean_and_shuffled_ones_do_not(large_screen) -> None:
    adata, embedding = large_screen
    tables = {"mean": None, "true": embedding, "shuffled": embedding.shuffle(1)}
    predictions = {
        name: fit(adata, table).predict(perturbations=HELD, n_cells=100, unseen="mean", progress=False)
        for name, table in tables.items()
    }
    scores = tp.tl.evaluate(predictions, adata, metrics=METRICS, ceiling=False, progress=False)
    scores = scores[scores["perturbation"].isin(HELD)]
    wide = scores.pivot(index="perturbation", columns=["metric", "model"], values="value")
    for metric in METRICS:
        low, _ = bootstrap_interval((wide[metric, "true"] - wide[metric, "mean"]).to_numpy())
        assert low > 0, metric
        low, _ = bootstrap_interval((wide[metric, "shuffled"] - wide[metric, "mean"]).to_numpy())
        assert low <= 0, metric


def test_the_nearest_perturbation_is_that_of_the_embedding(large_screen) -> None:
    adata, embedding = large_screen
    model = fit(adata, embedding, tp.NearestPerturbation)
    train = [name for name in embedding.names if name not in HELD]
    vectors = embedding.lookup(train) - embedding.lookup(train).mean(axis=0)
    target = embedding.lookup(["P0"])[0] - embedding.lookup(train).mean(axis=0)
    cosine = vectors @ target / np.linalg.norm(vectors, axis=1)
    nearest = train[int(np.argmax(cosine))]
    found = model.get_effects(perturbations=["P0", nearest])
    # a measured perturbation is itself its nearest only if it may be: the copy is of another one
    logs = adata.X.toarray()
    mean = {n: logs[(adata.obs["perturbation"] == n).to_numpy()].mean(axis=0) for n in ("control", nearest)}
    expected = tp.transport.log_fold_of_means(mean[nearest], mean["control"])
    np.testing.assert_allclose(found["all: P0"], expected, atol=1e-2)


def test_names_that_are_not_in_the_data_and_files(large_screen, tmp_path) -> None:
    adata, embedding = large_screen
    seen = adata[~adata.obs["perturbation"].isin(HELD)].copy()
    model = fit(seen, embedding)
    found = model.get_effects(perturbations=["P0", "P0+P30"])
    model.save(tmp_path / "m")
    again = tp.RidgeTransport.load(tmp_path / "m", seen).get_effects(perturbations=["P0", "P0+P30"])
    pd.testing.assert_frame_equal(found, again)
    with pytest.raises(UnknownNameError, match="'P700'.*never replaced by zeros"):
        model.predict(perturbations=["P0", "P700"])
    with pytest.raises(UnknownNameError, match="'P30', 'P31'"):
        fit(seen, embedding.restrict([n for n in embedding.names if n not in ("P30", "P31")]))
    with pytest.raises(OptionError, match="coexpression"):
        fit(seen, "co-expression")


def test_vectors_from_the_control_cells_need_no_table(large_screen) -> None:
    adata, _ = large_screen
    # targets that are measured genes
    renamed = adata.obs["perturbation"].astype(str).str.replace("P", "gene_", regex=False)
    adata.obs["perturbation"] = renamed.where(renamed != "control", "control").to_numpy()
    model = fit(adata, "coexpression")
    assert model.embedding.names == tuple(adata.var_names)
    assert model.predict(perturbations=["gene_99"], n_cells=20, progress=False).n_vars == 100


def test_scale_gates_several_tables_and_predicts_names_it_never_saw(large_screen, tmp_path) -> None:
    adata, embedding = large_screen
    noise = Embedding(embedding.names, np.random.default_rng(0).normal(size=(70, 3)), "noise")
    tp.SCALE.setup_anndata(adata, **SETUP)
    model = tp.SCALE(
        adata,
        preset="tiny",
        embeddings=[embedding, noise],
        conditions=tp.nn.ConditionOptions(tables="gated"),
        training=TrainingOptions(steps=12, steps_per_epoch=6, set_size=16, sets_per_batch=4),
    )
    model.train(enable_progress_bar=False, accelerator="cpu")
    assert model.anchor.ridge.choices["log1p"].block in (None, 0)
    found = model.get_effects(perturbations=["P0"])
    truth = adata.varm["true_effects"]["context_0: P0"]
    assert np.corrcoef(found["all: P0"], truth)[0, 1] > 0.5
    model.save(tmp_path / "m")
    again = tp.SCALE.load(tmp_path / "m", adata).get_effects(perturbations=["P0"])
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.parametrize("cls", [tp.KernelTransport, tp.SCALE])
def test_too_few_perturbations_to_learn_from_embeddings_are_reported_once(cls) -> None:
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=4, n_genes=30, n_cells=20)
    embedding = Embedding(tuple(f"P{i}" for i in range(6)), np.random.default_rng(0).normal(size=(6, 3)), "a table")
    cls.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    options = {"preset": "tiny", "training": TrainingOptions(steps=4, steps_per_epoch=2)} if cls is tp.SCALE else {}
    model = cls(adata, embeddings=embedding, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.train(**({"enable_progress_bar": False} if cls is tp.SCALE else {}))
    told = [str(warning.message) for warning in said if issubclass(warning.category, AssumptionWarning)]
    found = [text for text in told if "does not use the embeddings" in text]
    assert len(found) == 1
    assert "has 4 single perturbations, and at least 5 are needed" in found[0]
    assert model.anchor.ridge is None


def test_enough_perturbations_or_no_need_of_them_is_no_news(large_screen) -> None:
    adata, embedding = large_screen
    few = adata[adata.obs["perturbation"].isin(["P20", "P21", "control"])].copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*does not use the embeddings")
        fit(adata, embedding)
        fit(few, None)
        shift = fit(few, embedding, tp.MeanShift)
    # a mean shift needs no vectors; they say which perturbations may be asked for
    found = shift.get_effects(perturbations=["P0", "P1"])
    np.testing.assert_array_equal(found["all: P0"], found["all: P1"])
