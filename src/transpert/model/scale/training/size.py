"""How long to train, and on sets of which size, where nobody said: what the groups of the data allow and need."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from transpert.groups import Groups

from ..options import TrainingOptions

_LARGEST_SET, _SMALLEST_SET = 32, 4  # cells; larger sets say little more of a mean, and take sets from a step
_CELLS_IN_A_STEP = 256
# sets that are drawn from a group over the whole training, on average; with half of that, networks had learned little
# of simulated screens with 300 groups, and with a quarter nothing of those with 600
_SETS_PER_GROUP = 32
_LEAST_STEPS, _MOST_STEPS = 300, 3_000
_EPOCHS, _LEAST_STEPS_PER_EPOCH = 30, 20


def fit_to_groups(options: TrainingOptions, groups: Groups) -> TrainingOptions:
    """Choose what is not said: size and number of the sets of a step, and the number of steps."""
    n_cells = groups.table["n_cells"].to_numpy()[groups.perturbed_groups]
    set_size = options.set_size
    if set_size is None:
        set_size = int(np.clip(2 ** math.floor(math.log2(np.median(n_cells))), _SMALLEST_SET, _LARGEST_SET))
    sets_per_batch = options.sets_per_batch or max(_CELLS_IN_A_STEP // set_size, 1)
    steps = options.steps
    if steps is None:
        wanted = math.ceil(_SETS_PER_GROUP * len(n_cells) / (sets_per_batch * options.accumulate))
        steps = min(max(wanted, _LEAST_STEPS), _MOST_STEPS)
    per_epoch = options.steps_per_epoch or max(_LEAST_STEPS_PER_EPOCH, math.ceil(steps / _EPOCHS))
    return dataclasses.replace(
        options, set_size=set_size, sets_per_batch=sets_per_batch, steps=steps, steps_per_epoch=min(per_epoch, steps)
    )
