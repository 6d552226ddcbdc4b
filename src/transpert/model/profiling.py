"""Where the time of a training goes, and what to change."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, override

import pandas as pd
import torch
from lightning.pytorch.profilers import SimpleProfiler

from transpert._arguments import refused
from transpert._signatures import as_annotated
from transpert.errors import OptionError

from .cells.open import StoredCells
from .processes import check_accelerator

if TYPE_CHECKING:
    from .scale.model import SCALE


# Lightning's names of what it times, and ours
_ACTIONS = {
    "train_dataloader_next": "loader wait",
    "batch_to_device": "transfer",
    "training_step": "forward",
    "backward": "backward",
}
_WARM_UP = 3  # steps in which memory is set aside and kernels are chosen
_LONG_WAIT, _LONG_TRANSFER = 0.05, 0.10  # shares of a step above which something is to be done


@dataclass(frozen=True, slots=True, eq=False)
class TrainingProfile:
    """Where the time of a training goes.

    Parameters
    ----------
    table
        One row a part of a step, ``milliseconds`` (mean over the steps) and ``share``: ``loader wait`` (until the next
        batch is ready), ``transfer`` (to the device), ``forward`` (with making the values dense), ``backward``,
        ``rest`` (optimiser, averaged weights, Lightning).
    preparation
        Seconds before the first step: one pass over the cells, and the anchor.
    cells_per_second
        Cells that a step uses, controls included, by its duration.
    n_steps
        Steps that were timed.
    advice
        What to change, the most worthwhile first.
    """

    table: pd.DataFrame
    preparation: float
    cells_per_second: float
    n_steps: int
    advice: tuple[str, ...]

    def __str__(self) -> str:
        total = self.table["milliseconds"].sum()
        lines = [
            f"{self.n_steps} steps of {total:.1f} ms, {self.cells_per_second:,.0f} cells/s; "
            f"{self.preparation:.1f} s before the first one"
        ]
        lines += [f"  {name:<12} {row.milliseconds:9.2f} ms  {row.share:6.1%}" for name, row in self.table.iterrows()]
        return "\n".join([*lines, *(f"- {line}" for line in self.advice)])


class _Clock(SimpleProfiler):
    """Lightning's profiler; on a GPU it waits for what was started, so that every part is charged for its own work."""

    @override
    def describe(self) -> None:
        """Print nothing: the profile is a table of its own."""

    @override
    def start(self, action_name: str) -> None:
        _synchronise()
        super().start(action_name)

    @override
    def stop(self, action_name: str) -> None:
        _synchronise()
        super().stop(action_name)


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@as_annotated()
def profile_training(model: SCALE, *, n_steps: int = 30, accelerator: str = "auto", **trainer: Any) -> TrainingProfile:
    """Train a copy of a model for some steps and say where the time goes.

    Parameters
    ----------
    model
        A model with data, trained or not; it is not changed.
    n_steps
        Steps to time, after a few that are not counted.
    accelerator, **trainer
        As for :meth:`SCALE.train`.

    Returns
    -------
    The profile; print it.

    Raises
    ------
    transpert.errors.OptionError
        If ``n_steps`` is below 1.
    transpert.errors.NotTrainedError
        If the model was loaded without data.

    Examples
    --------
    >>> import transpert as tp
    >>> from transpert.model import profile_training
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> profile = profile_training(tp.SCALE(adata, preset="tiny"), n_steps=2, accelerator="cpu")
    >>> list(profile.table.index)
    ['loader wait', 'transfer', 'forward', 'backward', 'rest']
    """
    check_accelerator(accelerator)
    if not hasattr(model, "options"):
        raise refused("model", model, "Give a transpert.SCALE.")
    if n_steps < 1:
        raise OptionError(f"n_steps is {n_steps}", where="profile_training", remedy="Time at least one step.")
    copied = _copy_for(model, n_steps + _WARM_UP)
    clock = _Clock()
    start = time.perf_counter()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "limit_val_batches": 0}
    copied.train(max_epochs=1, accelerator=accelerator, early_stopping=False, profiler=clock, **{**quiet, **trainer})
    whole = time.perf_counter() - start
    parts = {ours: _mean(clock, name) for name, ours in _ACTIONS.items()}
    step = _mean(clock, "run_training_batch") + parts["loader wait"] + parts["transfer"]
    parts["rest"] = max(0.0, step - sum(parts.values()))
    table = pd.DataFrame({"milliseconds": {name: 1e3 * seconds for name, seconds in parts.items()}})
    table["share"] = table["milliseconds"] / table["milliseconds"].sum()
    training = copied.options.training
    assert training.set_size is not None and training.sets_per_batch is not None  # fitted to the groups
    n_cells = 2 * training.set_size * training.sets_per_batch * training.accumulate
    preparation = max(0.0, whole - sum(clock.recorded_durations["run_training_epoch"]))
    return TrainingProfile(table, preparation, n_cells / step, n_steps, _advice(copied, table["share"]))


def _copy_for(model: SCALE, n_steps: int) -> SCALE:
    """An untrained model on the same data, with one epoch of so many steps."""
    cells = model.cells
    data = cells.store if isinstance(cells, StoredCells) else model.adata
    copied = type(model)._from_options(data, None, model._options())
    if model.embedding is not None:  # the table of vectors is not among the options, and makes another network
        copied.embedding = model.embedding
        copied._build()
    training = dataclasses.replace(model.options.training, steps=n_steps, steps_per_epoch=n_steps)
    # a given gate spares the fit of one, which is no part of a step
    joining = dataclasses.replace(model.options.joining, gate=1.0)
    copied.options = dataclasses.replace(model.options, training=training, joining=joining)
    return copied


def _mean(clock: SimpleProfiler, name: str) -> float:
    """Mean seconds a step that Lightning spent in an action."""
    found = [times for action, times in clock.recorded_durations.items() if action.split(".")[-1] == name]
    times: list[float] = max(found, key=sum, default=[])
    counted = times[_WARM_UP:] or times
    return sum(counted) / max(len(counted), 1)


def _advice(model: SCALE, share: pd.Series) -> tuple[str, ...]:
    """Return what to change, the most worthwhile first."""
    training, stored = model.options.training, isinstance(model.cells, StoredCells)
    assert training.set_size is not None  # fitted to the groups
    found: list[tuple[float, str]] = []
    if share["loader wait"] > _LONG_WAIT:
        if stored and (training.slice_size or 64) < min(64, training.set_size):
            remedy = "draw runs of cells: TrainingOptions(slice_size=64)"
        elif stored:
            remedy = "put the store on a local disk, or hold the cells in memory if they fit"
        else:
            remedy = "a larger network or larger sets cost little now"
        found.append(
            (share["loader wait"], f"The step waits for its cells {share['loader wait']:.0%} of the time: {remedy}.")
        )
    if share["transfer"] > _LONG_TRANSFER:
        found.append(
            (
                share["transfer"],
                "Moving cells to the device takes long: TrainingOptions(on_device=True) keeps all of them there.",
            )
        )
    compute = share["forward"] + share["backward"]
    if compute > 1 / 2:
        device = next(model.module.parameters()).device.type
        remedy = (
            "train on a GPU (accelerator='gpu')"
            if device == "cpu"
            else "TrainingOptions(compile=True), precision='bf16-mixed'"
        )
        found.append(
            (compute, f"The network takes {compute:.0%} of the step: {remedy}, fewer folds or a smaller preset.")
        )
    if share["rest"] > 1 / 2:
        found.append(
            (share["rest"], "Most of the step is neither cells nor network: larger sets or more of them a step.")
        )
    order = sorted(found, reverse=True)
    return tuple(text for _, text in order) or ("Nothing stands out.",)
