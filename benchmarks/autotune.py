"""A study of two trials with scvi-tools' own tuner over SCALE, on a small simulated screen.

    python benchmarks/autotune.py

No test, because starting Ray takes far longer than the trials: on a busy 2-core machine, 2026-11-21, 151 s in all,
of which the two trials took 7 s.
"""

from __future__ import annotations

import tempfile
import time

import ray
from ray import tune
from scvi import autotune

import transpert as tp


def main() -> None:
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=60, n_cells=40)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    choices = [
        tp.model.TrainingOptions(steps=20, steps_per_epoch=5, set_size=16, sets_per_batch=4, learning_rate=rate)
        for rate in (1e-3, 1e-2)
    ]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        study = autotune.run_autotune(
            tp.SCALE,
            adata,
            metrics="validation_loss",
            mode="min",
            search_space={
                "model_params": {"preset": "tiny", "training": tune.grid_search(choices)},
                "train_params": {"max_epochs": 4, "accelerator": "cpu"},
            },
            num_samples=1,
            scheduler="fifo",
            searcher="random",
            seed=0,
            logging_dir=folder,
        )
        table = study.result_grid.get_dataframe()
        if len(table) != 2 or study.result_grid.errors or table["validation_loss"].isna().any():
            raise SystemExit(f"the study failed: {study.result_grid.errors}")
        best = study.result_grid.get_best_result(metric="validation_loss", mode="min")
        print(table[["validation_loss", "time_total_s"]])
        print("best:", best.config["model_params"]["training"])
    ray.shutdown()
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
