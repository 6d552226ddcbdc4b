from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.errors import NotTrainedError, OptionError, UnknownNameError
from transpert.scaling import Similarity, choose_next, fit_similarity
from transpert.scaling.suggestion import Kernel, in_contexts

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


def pathways(seed: int):
    """Two pathways of ten alike perturbations, and ten that stand alone."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, 6))
    of = np.repeat(np.arange(12), [10, 10, *[1] * 10])
    vectors = centres[of] + 0.1 * rng.normal(size=(30, 6))
    return of, vectors, np.tanh(vectors @ rng.normal(size=(6, 40)))


def test_those_of_a_pathway_are_not_all_suggested() -> None:
    of, vectors, effects = pathways(0)
    known = np.array([20, 21, 22, 23, 24, 25])
    similarity = fit_similarity(vectors, known, effects[known])
    gaussian = fit_similarity(vectors, np.arange(30), effects)
    chosen, left = choose_next(gaussian, known, np.arange(30), 4, np.random.default_rng(0))
    assert similarity.error <= 1
    # one of each large pathway first, which tell of nine others each
    assert {of[chosen[0]], of[chosen[1]]} == {0, 1}
    assert (np.diff(left) < 0).all()


def test_shuffled_vectors_are_called_unrelated_and_the_choice_is_random() -> None:
    kinds = []
    for seed in range(10):
        _, vectors, effects = pathways(seed)
        shuffled = vectors[np.random.default_rng(seed).permutation(30)]
        kinds.append(fit_similarity(shuffled, np.arange(20), np.random.default_rng(seed).normal(size=(20, 40))).kind)
    assert kinds.count("unrelated") >= 8
    similarity = fit_similarity(vectors, np.arange(2), effects[:2])
    picks = {
        int(choose_next(similarity, np.arange(2), np.arange(30), 1, np.random.default_rng(s))[0][0]) for s in range(9)
    }
    assert len(picks) > 4


@pytest.fixture(scope="module")
def model():
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=14, n_genes=50, n_cells=40, embedding_dimension=3)
    vectors = pd.DataFrame(adata.uns["simulation"]["embedding"])
    vectors.loc["twin"] = vectors.loc["P13"] * 1.01
    known = adata[~adata.obs["perturbation"].isin(["P12", "P13"])].copy()
    tp.KernelTransport.setup_anndata(known, **KEYS)
    model = tp.KernelTransport(known, embeddings=vectors)
    model.train()
    return model


def test_a_model_suggests_what_was_not_measured(model) -> None:
    names = [f"P{number}" for number in range(14)]
    found = tp.tl.suggest(model, [*names, "twin"], n=2)
    assert found.attrs["similarity"] in ("linear", "gaussian")
    assert len(found) == 2 and set(found["perturbation"]) < {"P12", "P13", "twin"}
    assert found["unknown_left"].is_monotonic_decreasing


def test_a_candidate_without_a_vector_and_a_model_without_any_are_refused(model) -> None:
    with pytest.raises(UnknownNameError):
        tp.tl.suggest(model, ["P12", "nothing"])
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=3, n_genes=20, n_cells=20)
    tp.MeanShift.setup_anndata(adata, **KEYS)
    plain = tp.MeanShift(adata)
    plain.train()
    with pytest.raises(NotTrainedError, match="embeddings"):
        tp.tl.suggest(plain, ["P1"])


def test_a_few_effects_leave_several_kernels_open_and_many_settle_for_one() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 4))
    effects = np.tanh(vectors @ rng.normal(size=(4, 60))) + 0.3 * rng.normal(size=(120, 60))
    few, many = (fit_similarity(vectors, np.arange(n), effects[:n]) for n in (8, 100))
    assert len(few.kernels) > 3 * len(many.kernels)
    assert max(many.kernels, key=lambda kernel: kernel.weight).covariance is many.covariance
    # a choice with several kernels is that of the mean of what they expect
    kernels = (Kernel(0.9, _pair(0, 1), 0.1), Kernel(0.1, _pair(1, 2), 0.1))
    sure = Similarity("gaussian", np.eye(3), 0.1, 0.5, kernels)
    chosen, left = choose_next(sure, np.array([0]), np.arange(3), 1, rng)
    assert chosen.tolist() == [2] and 0 < left[0] < 1


def test_where_contexts_share_much_one_of_each_perturbation_is_measured_and_else_one_in_each_context() -> None:
    alike = Similarity("gaussian", np.array([[1, 0.5], [0.5, 1.0]]), 0.1, 0.5)
    perturbation, context = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    for shared, of in ((0.95, perturbation), (0.05, context)):
        pairs = in_contexts(alike, perturbation, context, shared)
        assert pairs.covariance[0, 3] == pytest.approx(0.5 * shared)
        chosen, _ = choose_next(pairs, np.array([], dtype=int), np.arange(4), 2, np.random.default_rng(0))
        assert of[chosen[0]] != of[chosen[1]]


def test_contexts_are_suggested_too_and_what_was_measured_there_is_not() -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=12, n_genes=50, n_cells=30, embedding_dimension=3)
    vectors = pd.DataFrame(adata.uns["simulation"]["embedding"])
    new = adata.obs["perturbation"].isin(["P10", "P11"])
    elsewhere = adata.obs["perturbation"].isin(["P8", "P9"]) & (adata.obs["context"] != "context_0")
    known = adata[~(new | elsewhere)].copy()
    tp.KernelTransport.setup_anndata(known, **KEYS)
    model = tp.KernelTransport(known, embeddings=vectors)
    model.train()
    found = tp.tl.suggest(model, list(vectors.index), n=20, by_context=True)
    pairs = set(zip(found["perturbation"], found["context"], strict=True))
    assert pairs == {(p, f"context_{c}") for p in ("P8", "P9", "P10", "P11") for c in range(3)} - {
        ("P8", "context_0"), ("P9", "context_0"),
    }  # fmt: skip
    assert found["unknown_left"].is_monotonic_decreasing and 0 < found.attrs["shared_by_contexts"] <= 1
    one = tp.tl.suggest(model, ["P8", "P10"], n=2, contexts={"context": ["context_1"]}, by_context=True)
    assert set(zip(one["perturbation"], one["context"], strict=True)) == {("P8", "context_1"), ("P10", "context_1")}
    with pytest.raises(OptionError, match="0 candidates"):
        tp.tl.suggest(model, ["P8"], contexts={"context": ["context_0"]}, by_context=True)


def test_pairs_that_are_chosen_leave_less_unknown_than_random_ones() -> None:
    gains = []
    for seed in range(6):
        of, vectors, effects = pathways(seed)
        rng = np.random.default_rng(seed)
        kernel = fit_similarity(vectors, np.arange(30), effects)
        perturbation, context = np.tile(np.arange(30), 3), np.repeat(np.arange(3), 30)
        own = rng.normal(size=(3, 30, effects.shape[1])) * effects.std() * 0.5
        truth = (effects + own).reshape(90, -1) - effects.mean(axis=0)
        pairs = in_contexts(kernel, perturbation, context, 0.8)
        start = rng.permutation(90)[:6]
        chosen, _ = choose_next(pairs, start, np.arange(90), 8, rng)
        left = [
            _left(pairs, truth, np.concatenate([start, more]))
            for more in (chosen, *(rng.permutation(np.setdiff1d(np.arange(90), start))[:8] for _ in range(5)))
        ]
        gains.append(np.mean(left[1:]) - left[0])
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains)) > 0


def _left(similarity: Similarity, effects: np.ndarray, known: np.ndarray) -> float:
    """Squared error of what was not measured, predicted from what was."""
    rest = np.setdiff1d(np.arange(len(effects)), known)
    own = similarity.covariance[np.ix_(known, known)] + (similarity.noise + 1e-6) * np.eye(len(known))
    predicted = similarity.covariance[np.ix_(rest, known)] @ np.linalg.solve(own, effects[known])
    return float(((effects[rest] - predicted) ** 2).mean() / (effects**2).mean())


def _pair(a: int, b: int) -> np.ndarray:
    """Covariance of three effects of which two are alike."""
    covariance = np.eye(3)
    covariance[a, b] = covariance[b, a] = 0.9
    return covariance
