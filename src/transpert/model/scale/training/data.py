"""The sets of cells that networks are trained and validated on."""

from __future__ import annotations

import warnings
from typing import Any

from transpert.data import CellSource, SetDataModule, SetSampler
from transpert.errors import AssumptionWarning
from transpert.groups import ControlMatching, Groups

from ..options import TrainingOptions

_VALIDATION_BATCHES = 6


def training_data(
    source: CellSource,
    groups: Groups,
    matching: ControlMatching,
    options: TrainingOptions,
    *,
    slice_size: int,
    seed: int,
    validates: bool,
) -> SetDataModule:
    """Return sets to train on, whose sizes are fitted to the groups, and sets to validate on if that is wanted."""
    assert options.steps_per_epoch is not None and options.set_size is not None
    shared: dict[str, Any] = {
        "set_size": options.set_size,
        "sets_per_batch": options.sets_per_batch,
        "seed": seed,
        "slice_size": options.slice_size or min(slice_size, options.set_size),
    }
    batches = options.steps_per_epoch * options.accumulate
    train = SetSampler(groups, matching, batches_per_epoch=batches, weighting=options.weighting, **shared)
    validation = None
    if validates:
        with warnings.catch_warnings():  # small groups have been reported by the other sampler
            warnings.simplefilter("ignore", AssumptionWarning)
            validation = SetSampler(groups, matching, batches_per_epoch=_VALIDATION_BATCHES, **shared)
    return SetDataModule(source, train, validation, on_device=options.on_device)
