"""How long to train, and on sets of which size, where nobody said."""

import dataclasses

import pandas as pd
import pytest

import transpert as tp
from transpert.groups import Design, make_groups
from transpert.model import TrainingOptions
from transpert.model.scale.options import PRESETS, fit_to_device
from transpert.model.scale.training.size import fit_to_groups


def groups_of(n_groups: int, n_cells: int) -> tp.groups.Groups:
    labels = ["control"] * 50 + [f"P{number}" for number in range(n_groups) for _ in range(n_cells)]
    obs = pd.DataFrame({"perturbation": labels, "context": "A"}, index=[f"cell_{i}" for i in range(len(labels))])
    return make_groups(obs, Design("perturbation", "control", ("context",)))


@pytest.mark.parametrize(
    ("n_groups", "n_cells", "set_size", "sets", "steps", "per_epoch"),
    [
        (10, 500, 32, 8, 300, 20),  # few large groups: the least
        (600, 30, 16, 16, 1_200, 40),  # 32 sets of 600 groups, 16 in a step
        (1_600, 12, 8, 32, 1_600, 54),
        (2_000, 3, 4, 64, 1_000, 34),  # sets of three are too small to say anything of a population
        (5_000, 40, 32, 8, 3_000, 100),  # the most: 10,000 would be asked for
    ],
)
def test_training_fits_the_groups(n_groups, n_cells, set_size, sets, steps, per_epoch) -> None:
    options = fit_to_groups(TrainingOptions(), groups_of(n_groups, n_cells))
    found = (options.set_size, options.sets_per_batch, options.steps, options.steps_per_epoch)
    assert found == (set_size, sets, steps, per_epoch)


def test_what_is_said_stays() -> None:
    said = TrainingOptions(steps=7, steps_per_epoch=3, set_size=5, sets_per_batch=2)
    assert fit_to_groups(said, groups_of(10, 50)) == said
    # accumulated batches count as one step
    one = fit_to_groups(TrainingOptions(accumulate=4), groups_of(600, 30))
    assert (one.steps, one.accumulate) == (300, 4)
    # an epoch is not longer than the training
    assert fit_to_groups(TrainingOptions(steps=5), groups_of(10, 50)).steps_per_epoch == 5


def test_a_model_says_and_saves_what_was_chosen(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=20)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    model = tp.SCALE(adata, training=TrainingOptions(steps=4, sets_per_batch=3))
    chosen = model.options.training
    assert (chosen.steps, chosen.steps_per_epoch, chosen.set_size, chosen.sets_per_batch) == (4, 4, 16, 3)
    model.train(enable_progress_bar=False)
    assert len(model.history["train_loss_step"]) == 4
    model.save(tmp_path / "model")
    assert dataclasses.asdict(tp.SCALE.load(tmp_path / "model").options.training) == dataclasses.asdict(chosen)


@pytest.mark.parametrize(
    ("device", "n_cells", "width"), [("cpu", 10**6, 128), ("cuda", 99_999, 128), ("cuda", 100_000, 256)]
)
def test_many_cells_on_a_gpu_have_a_wider_network(device, n_cells, width) -> None:
    assert fit_to_device(PRESETS["auto"].network, n_cells, device=device).encoder.width == width


def test_a_model_on_a_gpu_says_that_its_network_is_wider_and_keeps_it_where_there_is_none(
    monkeypatch, tmp_path
) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=20)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    training = TrainingOptions(steps=2, sets_per_batch=2)
    with monkeypatch.context() as changed:
        changed.setattr("torch.cuda.is_available", lambda: True)
        changed.setattr("transpert.model.scale.options._MANY_CELLS", 100)
        wide = tp.SCALE(adata, training=training)
        chosen = tp.SCALE(adata, training=training, flow=wide.options.network.flow)
    assert "in 6 perturbed groups on a GPU: 2 steps" in wide.summary()
    assert (wide.options.network.encoder.width, chosen.options.network.encoder.width) == (256, 128)
    wide.train(enable_progress_bar=False)
    wide.save(tmp_path / "wide")
    assert tp.SCALE.load(tmp_path / "wide", adata).options.network == wide.options.network
