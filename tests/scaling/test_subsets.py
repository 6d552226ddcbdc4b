from __future__ import annotations

import numpy as np
import pytest

from transpert.errors import OptionError
from transpert.scaling import balanced_order, gini_simpson, shannon, sketch_order, spiked_order, vendi


def test_a_rare_label_is_whole_and_the_others_fill_its_place() -> None:
    labels = np.repeat(["a", "b", "c"], [500, 400, 20])
    order = balanced_order(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(920))
    first = labels[order[:200]]
    assert (first == "c").sum() == 20
    assert (first == "a").sum() == (first == "b").sum() == 90


def test_a_sketch_of_five_percent_has_five_times_the_random_share_of_a_rare_type() -> None:
    rng = np.random.default_rng(1)
    rare = np.arange(4_000) < 40
    points = rng.normal(size=(4_000, 10)) + np.where(rare[:, None], 6.0, 0.0)
    shares = [rare[sketch_order(points, np.random.default_rng(seed))[:200]].mean() for seed in range(5)]
    assert np.mean(shares) >= 5 * rare.mean()


def test_an_order_of_sketching_holds_every_cell_once() -> None:
    points = np.random.default_rng(2).normal(size=(300, 3))
    assert sorted(sketch_order(points, np.random.default_rng(0))) == list(range(300))
    assert sorted(sketch_order(np.zeros((50, 2)), np.random.default_rng(0))) == list(range(50))


def test_every_beginning_has_the_share_of_the_spike() -> None:
    order = spiked_order(np.arange(1_000), np.arange(1_000, 2_000), 0.1)
    assert len(order) == 1_000
    assert [(order[:n] >= 1_000).sum() for n in (10, 100, 1_000)] == [1, 10, 100]
    assert len(spiked_order(np.arange(1_000), np.arange(1_000, 1_020), 0.5)) == 40
    with pytest.raises(OptionError):
        spiked_order(np.arange(3), np.arange(3), 1.5)


def test_diversities_of_known_sets() -> None:
    labels = ["a"] * 3 + ["b"]
    assert shannon(labels) == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert gini_simpson(labels) == pytest.approx(1 - 0.75**2 - 0.25**2)
    assert vendi(np.ones((10, 4))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(2), 5, axis=0)) == pytest.approx(2)
