from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import transpert as tp
from transpert.errors import ConditionError, NotTrainedError, OptionError
from transpert.model.evidence import resolve_evidence
from transpert.transport import Evidence

KEYS = {
    "perturbation_key": "perturbation",
    "context_keys": "context",
    "layer": "counts",
    "library_size_key": "library_size",
}
HELD_OUT = ["P1", "P7"]


@pytest.fixture(scope="module")
def screens():
    """Cells of one's own, without two perturbations, and a model of another screen in other contexts."""
    cells = tp.datasets.simulate(n_contexts=8, n_perturbations=10, n_genes=120, n_cells=40, seed=1)
    is_other = cells.obs["context"].isin([f"context_{number}" for number in range(4)]).to_numpy()
    own, other = cells[~is_other].copy(), cells[is_other].copy()
    tp.pp.split(own, holdout={"perturbation": HELD_OUT})
    tp.KernelTransport.setup_anndata(other, **KEYS)
    model = tp.KernelTransport(other)
    model.train()
    return own, model


def trained(own, evidence, cls=tp.KernelTransport, **options):
    cls.setup_anndata(own, **KEYS, split_key="split")
    model = cls(own, evidence=evidence, **options)
    model.train()
    return model


def shuffled(model) -> Evidence:
    order = np.random.default_rng(0).permutation(len(model.genes))
    (measured,) = resolve_evidence(model)
    changed = {"log_fold": measured.log_fold[:, order], "variance": measured.variance[:, order]}
    return dataclasses.replace(measured, **changed, name="shuffled")


def correlation(model, own) -> float:
    shift = model.get_effects(perturbations=HELD_OUT, unseen="mean")
    found = []
    for name in HELD_OUT:
        for context in own.obs["context"].unique():
            cells = own[(own.obs["context"] == context)]
            treated, control = (cells[cells.obs["perturbation"] == label].X.mean(axis=0) for label in (name, "control"))
            observed = np.asarray(treated - control).ravel()
            predicted = shift[[column for column in shift if column == f"{context}: {name}"]].to_numpy().ravel()
            found.append(np.corrcoef(observed, predicted)[0, 1])
    return float(np.mean(found))


def test_another_screen_tells_what_unseen_perturbations_do_and_a_shuffled_one_changes_nothing(screens) -> None:
    own, other = screens
    alone, helped, misled = (trained(own, given) for given in (None, other, shuffled(other)))
    assert correlation(helped, own) > correlation(alone, own) + 0.3
    assert [set(source.weights.values()) for source in misled.anchor.evidence] == [{0.0}]
    asked = {"perturbations": HELD_OUT, "unseen": "mean", "progress": False, "n_cells": 5}
    np.testing.assert_array_equal(alone.predict(**asked).X.toarray(), misled.predict(**asked).X.toarray())


def test_a_perturbation_known_from_evidence_that_counts_is_not_unseen(screens) -> None:
    own, other = screens
    pred = trained(own, other).predict(perturbations="P1", n_cells=5, progress=False)
    assert "unseen" not in pred.uns["transpert"]
    with pytest.raises(ConditionError, match="evidence that counts"):
        trained(own, shuffled(other)).predict(perturbations="P1", n_cells=5, progress=False)


def test_a_model_with_evidence_predicts_the_same_after_saving_and_says_what_counts(screens, tmp_path) -> None:
    own, other = screens
    model = trained(own, [other, shuffled(other)])
    model.save(tmp_path / "model")
    loaded = tp.KernelTransport.load(tmp_path / "model", own)
    asked = {"perturbations": "P1", "n_cells": 5, "progress": False}
    np.testing.assert_array_equal(loaded.predict(**asked).X.toarray(), model.predict(**asked).X.toarray())
    assert "shuffled: weight 0.00 for an unseen pair" in loaded.summary()


def test_scale_takes_evidence_into_its_anchor(screens) -> None:
    own, other = screens
    training = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=8, sets_per_batch=2)
    tp.SCALE.setup_anndata(own, **KEYS, split_key="split")
    model = tp.SCALE(own, evidence=other, preset="tiny", training=training)
    model.train(enable_progress_bar=False)
    assert model.anchor.evidence[0].weights["perturbation"] > 0.5
    assert "screen 1: weight" in model.summary()


def test_what_is_no_evidence_is_refused(screens) -> None:
    own, other = screens
    tp.KernelTransport.setup_anndata(own, **KEYS, split_key="split")
    with pytest.raises(OptionError, match="evidence holds a str"):
        tp.KernelTransport(own, evidence="other screen")
    with pytest.raises(NotTrainedError, match="has measured no effects"):
        tp.KernelTransport(own, evidence=tp.KernelTransport(own))
