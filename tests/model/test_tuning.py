"""scvi-tools' own tuner runs over SCALE."""

from __future__ import annotations

from pathlib import Path

import pytest

import transpert as tp

SETUP = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


@pytest.mark.slow
def test_a_study_of_two_trials_finds_the_better_learning_rate(tmp_path: Path) -> None:
    # Ray brings its own processes along, and takes seconds to import
    ray = pytest.importorskip("ray", reason="the extra 'tune' is not installed")
    from ray import tune
    from scvi import autotune

    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=3, n_genes=40, n_cells=30)
    tp.SCALE.setup_anndata(adata, **SETUP)
    rates = [1e-3, 1e-9]  # the second does not learn
    choices = [
        tp.model.TrainingOptions(steps=60, steps_per_epoch=20, set_size=16, sets_per_batch=4, learning_rate=rate)
        for rate in rates
    ]
    try:
        study = autotune.run_autotune(
            tp.SCALE,
            adata,
            metrics="validation_loss",
            mode="min",
            search_space={
                "model_params": {"preset": "tiny", "training": tune.grid_search(choices)},
                "train_params": {"max_epochs": 3, "accelerator": "cpu"},
            },
            num_samples=1,
            scheduler="fifo",
            searcher="random",
            seed=0,
            resources={"cpu": 1},
            logging_dir=str(tmp_path),
        )
    finally:
        ray.shutdown()
    assert len(study.result_grid) == 2 and not study.result_grid.errors
    losses = {
        result.config["model_params"]["training"].learning_rate: result.metrics["validation_loss"]
        for result in study.result_grid
    }
    assert losses[rates[0]] < losses[rates[1]]
    best = study.result_grid.get_best_result(metric="validation_loss", mode="min")
    assert best.config["model_params"]["training"] == choices[0]
