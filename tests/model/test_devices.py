"""What happens on GPUs and among several of them, as far as a machine without one can show it."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import distributed

import transpert as tp
from transpert.data import CellSets, MemorySource, SetDataModule, SetSampler
from transpert.data.sets import module as data_module
from transpert.errors import AssumptionWarning, OptionError
from transpert.groups import Design, make_groups, match_controls
from transpert.model import TrainingOptions, processes
from transpert.model.processes import choose_strategy, count_devices, full_state, lost_process
from transpert.model.saving import read_device
from transpert.model.scale.folds import Folds
from transpert.model.scale.training import run as training
from transpert.model.scale.training.history import TrainingHistory
from transpert.model.scale.training.plan import TransportTrainingPlan
from transpert.model.scale.training.run import SetTrainRunner, default_precision

QUIET = {"enable_progress_bar": False, "accelerator": "cpu", "enable_model_summary": False}


@pytest.fixture(scope="module")
def small():
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=25)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    return adata


def make(adata, **options):
    chosen = {"steps": 4, "steps_per_epoch": 2, "set_size": 6, "sets_per_batch": 4, **options}
    return tp.SCALE(adata, preset="tiny", training=TrainingOptions(**chosen))


# --- cells on the device ----------------------------------------------------------------------------------------


@pytest.fixture
def device_cells(monkeypatch):
    """Weak references to all copies of the cells on a device that are made."""
    made = []

    class Watched(data_module.DeviceCells):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            made.append(weakref.ref(self))

    monkeypatch.setattr(data_module, "DeviceCells", Watched)
    return made


def test_cells_kept_on_the_device_make_the_same_training_and_are_let_go(small, device_cells) -> None:
    losses = []
    for on_device, copies in ((False, 0), ("auto", 0), (True, 1)):
        device_cells.clear()
        model = make(small, on_device=on_device)
        model.train(**QUIET)
        assert len(device_cells) == copies  # "auto" is for GPUs
        assert model.trainer.datamodule.state_dict()["epoch"] == 1
        losses.append(model.history["train_loss_step"].to_numpy().ravel().tolist())
        gc.collect()
        assert [copy() for copy in device_cells] == [None] * copies
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=1e-5)


def test_where_the_cells_are_does_not_make_another_training(small, tmp_path) -> None:
    make(small).train(**QUIET, checkpoint_dir=tmp_path)
    model = make(small, on_device=False)
    model.train(**QUIET, checkpoint_dir=tmp_path, resume="auto")
    assert model.is_trained_


@pytest.mark.parametrize("value", ["yes", None, 1])
def test_other_places_for_the_cells_are_refused(value) -> None:
    with pytest.raises(OptionError, match=f"on_device is {value!r}"):
        TrainingOptions(on_device=value)


def batch_of(small) -> CellSets:
    groups = make_groups(small.obs, Design("perturbation", "control", ("context",)))
    sampler = SetSampler(groups, match_controls(groups), set_size=4, sets_per_batch=3)
    source = MemorySource.from_matrix(small.layers["counts"])
    return next(iter(SetDataModule(source, sampler, ahead=0).train_dataloader()))


def test_batches_are_sent_to_a_gpu_without_a_wait(small, monkeypatch) -> None:
    sent = []
    to = CellSets.to

    def fake(self, device, non_blocking=False):
        sent.append((str(device), non_blocking))
        return to(self, "meta")

    monkeypatch.setattr(CellSets, "to", fake)
    plan = TransportTrainingPlan.__new__(TransportTrainingPlan)
    torch.nn.Module.__init__(plan)
    batch = batch_of(small)
    moved = plan.transfer_batch_to_device(batch, torch.device("cuda:1"), 0)
    assert sent == [("cuda:1", True)]
    assert moved.values.device.type == "meta"
    # asking a GPU for the numbers of the groups would wait for all it has to do
    assert moved.groups is batch.groups


def test_what_each_network_sees_is_decided_on_the_cpu(small, monkeypatch) -> None:
    """On the meta device nothing can be asked for: the groups may not have been moved there."""
    model = make(small)
    plan = TransportTrainingPlan(
        model.module,
        model.options.training,
        model._conditions_table.encode_groups(model._training_groups()[0]),
        Folds.of(np.zeros(len(model._training_groups()[0]), dtype=int)),
    )
    meta = batch_of(small).to("meta")
    like = torch.zeros(3, 4, 20, device="meta")
    monkeypatch.setattr(CellSets, "dense_log1p", lambda self: (like, like))
    sets, groups = plan._sets(
        SimpleNamespace(groups=batch_of(small).groups, dense_log1p=meta.dense_log1p, embedding=None)
    )
    assert sets.x0.device.type == sets.condition.perturbation.device.type == "meta"
    assert groups.device.type == "cpu"
    model.module.to("meta")
    seen = []
    for number, network in enumerate(model.module.networks):
        monkeypatch.setattr(
            network,
            "losses",
            lambda batch, generator, number=number: seen.append((number, len(batch.x0))) or {"total": like.sum()},
        )
    output = model.module.loss(sets, plan._seen[groups])
    # the first network leaves the sets out, and runs on one of them without effect
    assert seen == [(0, 1), *((number, 3) for number in range(1, len(model.module.networks)))]
    assert output.loss.device.type == "meta"


# --- several processes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "accelerator", "expected"),
    [
        ("auto", "gpu", 1),
        (1, "gpu", 1),
        (3, "gpu", 3),
        ("2", "gpu", 2),
        ("0,1", "auto", 2),
        ("1,", "gpu", 1),
        ([0, 2], "cuda", 2),
        (-1, "auto", 4),
        ("-1", "gpu", 4),
        ("2", "cpu", 2),
        (-1, "cpu", 1),
    ],
)
def test_devices_are_counted_as_lightning_reads_them(monkeypatch, devices, accelerator, expected) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert count_devices(devices, accelerator) == expected
    strategy = choose_strategy("auto", devices, Mock(), accelerator=accelerator)
    if expected == 1:
        assert strategy == "auto"
    else:
        assert strategy._ddp_kwargs["find_unused_parameters"] is True
        assert strategy._timeout == processes._TIMEOUT


def test_several_machines_are_several_processes(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert choose_strategy("auto", 1, Mock(), num_nodes=1) == "auto"
    assert choose_strategy("auto", 1, Mock(), num_nodes=2)._ddp_kwargs["find_unused_parameters"] is True


@pytest.mark.parametrize("devices", ["two", "0;1", ","])
def test_devices_that_cannot_be_read_are_named(small, devices) -> None:
    with pytest.raises(OptionError, match="Give a number, a list of devices"):
        make(small).train(**QUIET, devices=devices)


def test_each_process_goes_on_with_its_own_device() -> None:
    runner = SetTrainRunner.__new__(SetTrainRunner)
    runner.trainer, runner.training_plan, runner.data_splitter, runner.model = Mock(), Mock(), Mock(), Mock()
    runner.ckpt_path, runner.device = None, torch.device("cuda:0")
    runner.trainer.world_size, runner.trainer.strategy.root_device = 4, torch.device("cuda:3")
    runner.training_plan.history.frames.return_value = {}
    runner.model.completed_history = {}
    runner._run_training_core()
    runner.model.to_device.assert_called_once_with(torch.device("cuda:3"))


LOST = [
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:5126",
    "[pair.cc:534] Read error [127.0.0.1]:5126: Connection reset by peer",
    "[unbound_buffer.cc:81] Timed out waiting 10000ms for recv operation to complete",
    "Application timeout caused pair closure",
    "NCCL communicator was aborted on rank 0. Original reason for failure was: watchdog timeout",
    "NCCL error in: ProcessGroupNCCL.cpp:1970, remote process exited or there was a network error, NCCL version 2.21.5",
    "Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
]
NOT_LOST = [
    "NCCL error in: ProcessGroupNCCL.cpp:1970, invalid usage (run with NCCL_DEBUG=WARN), NCCL version 2.21\n"
    "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.\nDuplicate GPU detected : rank 1 and 0",
    "NCCL error: unhandled cuda error, NCCL version 2.21.5\nncclUnhandledCudaError: Call to CUDA function failed.",
    "The server socket has failed to listen on any local network address. port: 29500, name: EADDRINUSE",
    "Distributed package doesn't have NCCL built in",
    "makeDeviceForInterface(): unsupported gloo device",
    "CUDA error: the launch timed out and was terminated\nSearch for `cudaErrorLaunchTimeout' in the manual",
]


@pytest.mark.parametrize("error", [RuntimeError, distributed.DistBackendError])
def test_a_process_that_is_gone_is_told_from_a_mistake_in_setting_up(error) -> None:
    for message in LOST:
        found = lost_process(error(message), 2)
        assert "another of the 2 processes has stopped" in str(found), message
        assert lost_process(error(message), 1) is None
    for message in NOT_LOST:
        assert lost_process(error(message), 2) is None, message


def test_whole_weights_are_gathered_one_by_one_and_kept_on_the_cpu(monkeypatch) -> None:
    done = []

    class Shard:
        def __init__(self, name: str) -> None:
            self.name = name

        def full_tensor(self):
            done.append(f"gather {self.name}")
            return self

        def to(self, device, *, copy):
            done.append(f"{self.name} to {device}")
            return torch.zeros(2)

    monkeypatch.setattr(processes, "DTensor", Shard)
    full_state(SimpleNamespace(state_dict=lambda: {name: Shard(name) for name in "ab"}))
    assert done == ["gather a", "a to cpu", "gather b", "b to cpu"]


def test_whole_weights_are_copies() -> None:
    layer = torch.nn.Linear(2, 2)
    state = full_state(layer)
    before = state["weight"].clone()
    with torch.no_grad():
        layer.weight += 1
    assert torch.equal(state["weight"], before) and not state["weight"].requires_grad


# --- what a device can do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("computes_in_it", "expected"), [(True, "bf16-mixed"), (False, 32)])
def test_half_precision_is_not_imitated(monkeypatch, computes_in_it, expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # what torch says of a T4: True, but for the emulation
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: computes_in_it or including_emulation
    )
    assert default_precision("gpu") == expected
    assert default_precision("cpu") == 32


def test_losses_are_fetched_from_a_device_without_double_precision() -> None:
    class OnMPS:
        def __init__(self, values) -> None:
            self.values = values

        def double(self):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

        def cpu(self):
            return self.values

    history = TrainingHistory()
    history.add_step(0, {"loss": torch.tensor(2.0)})
    history.collect(OnMPS)
    assert history.mean(0) == {"loss": 2.0}


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (7, "device 7 is a GPU, of which torch sees 2"),
        ("cuda:2", "device 'cuda:2' is a GPU"),
        ("best", "device 'best' does not exist"),
        (True, "device True does not exist"),
    ],
)
def test_devices_that_are_not_there_are_named(monkeypatch, device, message) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(OptionError, match=message):
        read_device(device)
    assert read_device(1) == read_device("cuda:1") == torch.device("cuda", 1)
    assert read_device("cpu") == torch.device("cpu")


# --- random states of others ------------------------------------------------------------------------------------


def test_making_a_model_touches_no_random_state(small, monkeypatch) -> None:
    before = torch.get_rng_state()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPUs are seeded"))
        first, second = (make(small).module.state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(second[name], weight) for name, weight in first.items())


def test_a_training_gives_back_the_random_states_of_all_devices(small, monkeypatch) -> None:
    """Torch warns where there are several and none is named."""
    forked = []
    fork = torch.random.fork_rng

    def watched(devices=None, **kwargs):
        forked.append(None if devices is None else list(devices))
        return fork(devices=[], **kwargs)

    before = torch.get_rng_state()
    model = make(small)
    with monkeypatch.context() as patch:
        patch.setattr(torch.accelerator, "device_count", lambda: 3)
        patch.setattr(training.torch.random, "fork_rng", watched)
        model.train(**QUIET)
    assert [0, 1, 2] in forked and None not in forked
    assert torch.equal(torch.get_rng_state(), before)


# --- what is said once ------------------------------------------------------------------------------------------


def test_small_groups_are_reported_once_a_training(small) -> None:
    with pytest.warns(AssumptionWarning) as caught:
        make(small, set_size=32).train(**QUIET)
    said = [str(warning.message) for warning in caught]
    repeated = [message for message in said if "Cells repeat" in message]
    assert len(repeated) == len(set(repeated)) == 2  # perturbed cells, and controls
    # Lightning's remark on how the sets reach the device is of no use to anybody
    assert not any("transfer_batch_to_device" in message for message in said)


@pytest.mark.parametrize("device", ["auto", None])
def test_a_device_that_is_left_open_is_that_of_the_accelerator(monkeypatch, device) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert read_device(device).type == ("cuda" if there else "cpu")
        assert read_device(device, "cpu").type == "cpu"
        assert read_device(device, "gpu").type == "cuda"
    with pytest.raises(OptionError, match="accelerator is 'tpu'"):
        read_device(device, "tpu")
