"""A model can be asked again and again, and by several threads; make soak asks longer."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reliability.lasting import growth, in_threads, model_of, network, train, values

import transpert as tp

pytestmark = pytest.mark.filterwarnings("ignore::transpert.errors.AssumptionWarning")


def test_many_predictions_leave_no_memory_and_no_open_file_behind() -> None:
    megabytes, files = growth([model_of(tp.KernelTransport)], 40)
    assert megabytes < 5 and files == 0


def test_four_threads_predict_what_one_does() -> None:
    model = model_of(tp.KernelTransport)
    alone = [values(model, seed) for seed in range(4)]
    together = in_threads(*(lambda seed=seed: [values(model, seed) for _ in range(3)] for seed in range(4)))
    for one, several in zip(alone, together, strict=True):
        for found in several:
            np.testing.assert_array_equal(found, one)


def test_two_trainings_in_two_threads_are_those_of_one_after_the_other() -> None:
    alone = [values(train(network(seed)), 0) for seed in range(2)]
    models = [network(seed) for seed in range(2)]
    assert in_threads(*(lambda model=model: train(model) for model in models)) == models
    for one, model in zip(alone, models, strict=True):
        np.testing.assert_array_equal(values(model, 0), one)
