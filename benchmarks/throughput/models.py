"""One model in one process: it trains, or predicts, for some steps whenever it is told to.

Run by ``run.py`` as ``python models.py NAME H5AD ACCELERATOR`` (``cpu`` or ``gpu``), in the environment of the model.
It reads lines from its standard input (a number of seconds) and answers each with one line of JSON. Loader and model
are both in the measured time, and cells of both populations of a set count, as in ``loaders.py``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from generate import N_GENES
from loaders import PAIRED_CELLS, SET_SIZE, SETS, _counts, cell_load_module

# both networks have about so many parameters; the widths were searched for
STATE_WIDTH, STATE_LAYERS, STATE_HEADS = 192, 2, 4
TRANSPERT_WIDTH = 144
CELLS_OF_A_PREDICTION = 512  # a population, moved as a whole

type Work = Iterator[int]  # yields the number of cells of every piece of work
type Measure = Callable[[float], dict[str, float]]  # "cells_per_s", and what else is known, over so many seconds


def clock(work: Work) -> Measure:
    """Count the cells of the work that is done within some seconds."""
    next(work)

    def measure(seconds: float) -> dict[str, float]:
        n_cells, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            n_cells += next(work)
        return {"cells_per_s": n_cells / (time.perf_counter() - start)}

    return measure


def transpert_model(path: Path):
    """SCALE with one network, as deep as in the preset ``small``."""
    import dataclasses

    from transpert.model import SCALE, JoiningOptions, ScaleOptions, TrainingOptions

    adata = _counts(path)
    SCALE.setup_anndata(
        adata, perturbation_key="gene", control="non-targeting", context_keys="cell_type", batch_key="gem_group"
    )
    small = ScaleOptions.preset("small").network
    model = SCALE(
        adata,
        encoder=dataclasses.replace(small.encoder, width=TRANSPERT_WIDTH),
        joining=JoiningOptions(folds=1, gate=0.5),
        training=TrainingOptions(steps=20, steps_per_epoch=20, set_size=SET_SIZE, sets_per_batch=SETS),
    )
    return model


def transpert_train(path: Path, accelerator: str) -> tuple[Measure, int]:
    """Training steps of SCALE as a user runs them: loader, losses, backward, AdamW, averaged weights, Lightning.

    On a GPU the profiler waits for it after every part of a step, so that our steps look longer than they are.
    """
    from transpert.model import profile_training

    model = transpert_model(path)
    found = {"cells_per_s": 2000.0}

    def measure(seconds: float) -> dict[str, float]:
        n_steps = max(5, round(found["cells_per_s"] * seconds / PAIRED_CELLS))
        profile = profile_training(model, n_steps=n_steps, accelerator=accelerator)
        found["cells_per_s"] = profile.cells_per_second
        return {**found, "loader_wait": float(profile.table.loc["loader wait", "share"])}

    return measure, model.n_parameters


def transpert_predict(path: Path, accelerator: str, readout: str = "counts") -> tuple[Measure, int]:
    """Predictions of SCALE: controls, network, anchor, read-out, and an AnnData with all of it."""
    model = transpert_model(path)
    model.train(max_epochs=1, accelerator=accelerator, enable_progress_bar=False, early_stopping=False)

    def work() -> Work:
        labels = [label for label in model.vocabulary.labels if label != "non-targeting"][:8]
        seed = 0
        while True:
            pred = model.predict(
                {"cell_type": "a"},
                labels,
                n_cells=CELLS_OF_A_PREDICTION,
                include_controls=False,
                readout=readout,
                progress=False,
                seed=seed,
            )
            yield 2 * pred.n_obs
            seed += 1

    return clock(work()), model.n_parameters


def transpert_predict_log(path: Path, accelerator: str) -> tuple[Measure, int]:
    """The same, with log values as a prediction of STATE has them: mean shifts are added, nothing is drawn."""
    return transpert_predict(path, accelerator, "added")


def state_model(path: Path, accelerator: str):
    """STATE's transition model, the loader that comes with it with its batches on the device, and parameters."""
    import torch
    from state.tx.models.state_transition import StateTransitionPerturbationModel

    module = cell_load_module(path)
    loader = module.train_dataloader()
    torch.manual_seed(0)
    model = StateTransitionPerturbationModel(
        input_dim=N_GENES, hidden_dim=STATE_WIDTH, output_dim=N_GENES, gene_dim=N_GENES,
        pert_dim=_width(module.pert_onehot_map), batch_dim=_width(module.batch_onehot_map),
        output_space="gene", embed_key="X_hvg", cell_set_len=SET_SIZE, blur=0.05, loss="energy",
        n_encoder_layers=2, n_decoder_layers=2, predict_residual=True, softplus=True, lr=1e-4,
        transformer_backbone_key="llama",
        transformer_backbone_kwargs={
            "bidirectional_attention": True, "max_position_embeddings": SET_SIZE, "hidden_size": STATE_WIDTH,
            "intermediate_size": 4 * STATE_WIDTH, "num_hidden_layers": STATE_LAYERS,
            "num_attention_heads": STATE_HEADS, "num_key_value_heads": STATE_HEADS,
            "head_dim": STATE_WIDTH // STATE_HEADS, "use_cache": False, "attention_dropout": 0.0,
            "hidden_dropout": 0.0, "layer_norm_eps": 1e-6, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2, "tie_word_embeddings": False, "rotary_dim": 0, "use_rotary_embeddings": False,
        },
    )  # fmt: skip
    # its transformer carries a table of 32,000 words, of which none is ever looked up
    used = (parameter for name, parameter in model.named_parameters() if "embed_tokens" not in name)
    n_parameters = sum(parameter.numel() for parameter in used)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")

    def batches() -> Iterator[tuple[int, dict]]:
        while True:
            for number, batch in enumerate(loader):
                yield number, model.transfer_batch_to_device(batch, device, 0)

    return model.to(device), batches(), n_parameters


def _precision(accelerator: str):
    """What both compute in by default: bfloat16 on a GPU, and for the sake of the comparison float32 on a CPU."""
    import torch

    return torch.autocast("cuda", torch.bfloat16, enabled=accelerator == "gpu")


def _width(codes: dict) -> int:
    return len(next(iter(codes.values())))


def state_train(path: Path, accelerator: str) -> tuple[Measure, int]:
    """Training steps of STATE: its loader, its losses, backward and its optimiser."""
    import torch

    model, batches, n_parameters = state_model(path, accelerator)
    optimizer = model.configure_optimizers()

    def work() -> Work:
        for number, batch in batches:
            optimizer.zero_grad()
            with _precision(accelerator):
                loss = model.training_step(batch, number)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if accelerator == "gpu":
                torch.cuda.synchronize()
            yield len(batch["pert_cell_emb"]) + len(batch["ctrl_cell_emb"])

    return clock(work()), n_parameters


def state_predict(path: Path, accelerator: str) -> tuple[Measure, int]:
    """Predictions of STATE: its loader and its forward pass; nothing is written."""
    import torch

    model, batches, n_parameters = state_model(path, accelerator)
    model.eval()

    def work() -> Work:
        for number, batch in batches:
            with torch.no_grad(), _precision(accelerator):
                model.predict_step(batch, number)["preds"].float().cpu().numpy()
            yield len(batch["pert_cell_emb"]) + len(batch["ctrl_cell_emb"])

    return clock(work()), n_parameters


MODELS = {
    "transpert-train": (transpert_train, "transpert"),
    "transpert-predict": (transpert_predict, "transpert"),
    "transpert-predict-log": (transpert_predict_log, "transpert"),
    "state-train": (state_train, "state"),
    "state-predict": (state_predict, "state"),
}


def main() -> None:
    """Answer the lines of the standard input."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    name, path, accelerator = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    make, package = MODELS[name]
    measure, n_parameters = make(path, accelerator)
    released = version("arc-state") if package == "state" else "this version"
    ready = {"ready": name, "version": released, "parameters": n_parameters, "device": _device(accelerator)}
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        measured = measure(float(line.split()[0]))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({**measured, "peak_memory_gb": memory}), file=answers, flush=True)


def _device(accelerator: str) -> str:
    import torch

    return torch.cuda.get_device_name() if accelerator == "gpu" else "cpu"


if __name__ == "__main__":
    main()
