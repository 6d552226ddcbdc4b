"""The data module feeds a Lightning trainer and goes on at the step of a checkpoint."""

from __future__ import annotations

import threading

import lightning as L
import numpy as np
import pytest
import torch
from tests.data.conftest import halved

from transpert.data import MemorySource, SetDataModule, SetLoader, SetSampler
from transpert.data.sets.prefetch import prefetch
from transpert.errors import OptionError, StoreError


class Regression(L.LightningModule):
    """Predict perturbed from control means, and write down every loss."""

    def __init__(self, n_genes: int, die_at: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(n_genes, n_genes)
        self.losses: list[float] = []
        self.seen: list[tuple[int, int]] = []
        self.validation: list[torch.Tensor] = []
        self.die_at = die_at

    def training_step(self, batch, _):
        if self.die_at is not None and self.trainer.global_step == self.die_at:
            raise KeyboardInterrupt
        x0, x1 = batch.dense_log1p()
        loss = (self.layer(x0.mean(1)) - x1.mean(1)).square().mean()
        self.losses.append(loss.item())
        self.seen.append((batch.epoch, batch.step))
        return loss

    def validation_step(self, batch, _):
        self.validation.append(batch.positions)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_module(experiment, **options) -> SetDataModule:
    groups, matching, source, _ = experiment
    train, held_out = halved(groups)
    sets = {"set_size": 6, "sets_per_batch": 4, "batches_per_epoch": 5}
    return SetDataModule(
        source,
        SetSampler(groups, matching, mask=train, **sets),
        SetSampler(groups, matching, mask=held_out, **{**sets, "set_size": 4, "batches_per_epoch": 2}),
        **options,
    )


def make_trainer(tmp_path, **options) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    options = {"enable_checkpointing": False, **quiet, **options}
    return L.Trainer(max_epochs=3, accelerator="cpu", default_root_dir=tmp_path, log_every_n_steps=1, **options)


@pytest.fixture
def whole_run(experiment, tmp_path) -> Regression:
    torch.manual_seed(0)
    model = Regression(experiment[2].n_vars)
    make_trainer(tmp_path).fit(model, datamodule=make_module(experiment))
    return model


def test_every_epoch_has_its_own_sets_and_validation_always_the_same(whole_run):
    assert whole_run.seen == [(epoch, step) for epoch in range(3) for step in range(5)]
    assert len(set(whole_run.losses)) == 15
    first, second = whole_run.validation[:2]
    assert all(torch.equal(first, again) for again in whole_run.validation[::2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("every", [1, 3, 5])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(whole_run, experiment, tmp_path, every):
    torch.manual_seed(0)
    saving = L.pytorch.callbacks.ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=every, save_last=True)
    killed = Regression(experiment[2].n_vars, die_at=9)
    with pytest.raises(BaseException):  # noqa: B017 - Lightning turns the interrupt into an exit
        make_trainer(tmp_path, enable_checkpointing=True, callbacks=[saving]).fit(
            killed, datamodule=make_module(experiment)
        )
    resumed = Regression(experiment[2].n_vars)
    make_trainer(tmp_path).fit(
        resumed, datamodule=make_module(experiment), ckpt_path=tmp_path / "ckpt" / "last.ckpt", weights_only=False
    )
    start = 9 // every * every
    assert resumed.losses == whole_run.losses[start:]
    assert resumed.seen == whole_run.seen[start:]


def test_on_device_gives_the_same_losses(whole_run, experiment, tmp_path):
    torch.manual_seed(0)
    model = Regression(experiment[2].n_vars)
    make_trainer(tmp_path).fit(model, datamodule=make_module(experiment, on_device=True, ahead=0))
    assert model.losses == whole_run.losses


def test_a_checkpoint_of_other_cells_is_refused(experiment):
    state = make_module(experiment).state_dict()
    groups, matching, source, obs = experiment
    counts = source.counts.copy()
    counts.data[0] += 1
    changed = MemorySource(counts, source.library_size)
    with pytest.raises(StoreError, match="have changed since the checkpoint"):
        make_module((groups, matching, changed, obs)).load_state_dict(state)


def test_a_loader_goes_on_where_it_stopped(experiment):
    module = make_module(experiment, ahead=3)
    loader = module.train_dataloader()
    batches = iter(loader)
    next(batches), next(batches)
    state = module.state_dict()
    assert (state["epoch"], state["step"]) == (0, 2)  # what was read ahead does not count
    rest = [batch.positions for batch in batches]
    other = make_module(experiment)
    other.load_state_dict(state)
    again = [batch.positions for batch in other.train_dataloader()]
    assert len(rest) == 3 and all(torch.equal(a, b) for a, b in zip(rest, again, strict=True))


def test_unknown_options_and_other_data_are_refused(experiment):
    groups, matching, source, _ = experiment
    sampler = SetSampler(groups, matching, set_size=6)
    with pytest.raises(OptionError, match="on_device"):
        SetDataModule(source, sampler, on_device="gpu")
    with pytest.raises(OptionError, match="describe 900 cells but 3"):
        SetDataModule(MemorySource.from_matrix(np.eye(3)), sampler)


def test_errors_of_the_thread_reach_the_reader_and_the_thread_ends():
    def broken():
        yield 1
        raise StoreError("a shard is damaged")

    items = prefetch(broken, ahead=2)
    assert next(items) == 1
    with pytest.raises(StoreError, match="damaged"):
        next(items)
    endless = prefetch(lambda: iter(int, 1), ahead=2)
    next(endless)
    endless.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "transpert-prefetch"]


def test_a_loader_knows_its_length(experiment):
    groups, matching, source, _ = experiment
    loader = SetLoader(source, SetSampler(groups, matching, set_size=6, batches_per_epoch=7))
    assert len(loader) == 7 == len(list(loader)) == len(list(loader))
