"""A study of two trials with scvi-tools' own tuner."""

from __future__ import annotations

import ray
import scvi
from ray import tune

import transpert as tp
from transpert.model import TrainingOptions


def test_a_study_of_two_trials(screen, tmp_path) -> None:
    tp.SCALE.setup_anndata(screen, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    choices = [
        TrainingOptions(steps=4, steps_per_epoch=2, set_size=16, sets_per_batch=4, learning_rate=rate)
        for rate in (1e-3, 1e-2)
    ]
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        study = scvi.autotune.run_autotune(
            tp.SCALE,
            screen,
            metrics="validation_loss",
            mode="min",
            search_space={
                "model_params": {"preset": "tiny", "training": tune.grid_search(choices)},
                "train_params": {"max_epochs": 2, "accelerator": "cpu"},
            },
            num_samples=1,
            scheduler="fifo",
            searcher="random",
            seed=0,
            logging_dir=str(tmp_path),
        )
    finally:
        ray.shutdown()
    table = study.result_grid.get_dataframe()
    assert len(table) == 2 and not study.result_grid.errors
    assert table["validation_loss"].notna().all() and table["validation_loss"].nunique() == 2
    best = study.result_grid.get_best_result(metric="validation_loss", mode="min")
    assert best.config["model_params"]["training"] in choices
