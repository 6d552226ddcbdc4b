"""A profile accounts for the whole step, and finds a slow loader."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

import transpert as tp
from transpert.cli import app
from transpert.data import build_store
from transpert.errors import OptionError
from transpert.groups import Design
from transpert.model import TrainingOptions, profile_training, profiling


@pytest.fixture
def cells():
    return tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=40)


def model_of(cells, **options) -> tp.SCALE:
    tp.SCALE.setup_anndata(cells, perturbation_key="perturbation", context_keys="context", layer="counts")
    training = TrainingOptions(set_size=16, sets_per_batch=2, **options)
    return tp.SCALE(cells, preset="tiny", joining="always", training=training)


def test_the_parts_of_a_step_add_up(cells) -> None:
    model = model_of(cells)
    profile = profile_training(model, n_steps=4, accelerator="cpu")
    assert profile.n_steps == 4 and profile.table["share"].sum() == pytest.approx(1)
    assert (profile.table["milliseconds"] >= 0).all() and profile.table.loc["forward", "milliseconds"] > 0
    step = profile.table["milliseconds"].sum() / 1e3
    assert profile.cells_per_second == pytest.approx(2 * 16 * 2 / step)
    assert not model.is_trained_ and model.options.training.steps == 300  # the model itself is as it was
    assert "loader wait" in str(profile)
    with pytest.raises(OptionError, match="n_steps is 0"):
        profile_training(model, n_steps=0)


@pytest.mark.parametrize(
    ("wait", "transfer", "network", "expected"),
    [
        (0.6, 0.0, 0.3, ["waits for its cells 60%"]),
        (0.0, 0.3, 0.6, ["takes 60% of the step: train on a GPU", "Moving cells to the device"]),
        (0.04, 0.05, 0.3, ["larger sets or more of them"]),
        (0.0, 0.05, 0.5, ["Nothing stands out"]),
    ],
    ids=["loader", "network and transfer", "overhead", "balanced"],
)
def test_the_longest_part_is_what_to_change(cells, wait, transfer, network, expected) -> None:
    names = ["loader wait", "transfer", "forward", "backward", "rest"]
    share = pd.Series([wait, transfer, network / 2, network / 2, 1 - wait - transfer - network], index=names)
    advice = profiling._advice(model_of(cells), share)
    assert len(advice) == len(expected)
    assert all(part in line for part, line in zip(expected, advice, strict=True))


def test_profile_from_the_shell(cells, tmp_path) -> None:
    store = build_store(
        [cells], tmp_path / "cells.zarr", Design("perturbation", "control", ("context",)), layer="counts"
    )
    result = CliRunner().invoke(
        app, ["profile", str(store.path), "--preset", "tiny", "--steps", "2", "--accelerator", "cpu"]
    )
    assert result.exit_code == 0, result.output
    assert "cells/s" in result.output and "loader wait" in result.output


def test_the_copy_that_is_profiled_has_the_vectors_of_the_perturbations(cells) -> None:
    table = pd.DataFrame([[1.0, 0.0], [0.0, 1.0]], index=["P0", "P1"])
    tp.SCALE.setup_anndata(cells, perturbation_key="perturbation", context_keys="context", layer="counts")
    model = tp.SCALE(cells, preset="tiny", joining="always", embeddings=table)
    copied = profiling._copy_for(model, 3)
    shapes = {name: value.shape for name, value in model.module.state_dict().items()}
    assert {name: value.shape for name, value in copied.module.state_dict().items()} == shapes
