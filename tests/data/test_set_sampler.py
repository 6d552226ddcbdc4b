"""The sampler is a pure function that pairs sets with controls of their context and batch."""

from __future__ import annotations

import warnings

import annbatch
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.conftest import halved

from transpert.data import MemorySource, SetSampler
from transpert.errors import AssumptionWarning, GroupSizeError, OptionError
from transpert.groups import Design, make_groups, match_controls


def same(left, right) -> bool:
    return all(np.array_equal(getattr(left, f), getattr(right, f)) for f in ("groups", "control", "perturbed"))


def plans(sampler: SetSampler, epoch: int = 0, start_step: int = 0) -> list:
    return list(sampler.plan(epoch, start_step))


@pytest.mark.parametrize("slice_size", [1, 4])
def test_the_same_arguments_give_the_same_sets_and_others_give_others(experiment, slice_size):
    groups, matching, _, _ = experiment
    make = lambda **k: SetSampler(groups, matching, set_size=12, sets_per_batch=4, slice_size=slice_size, **k)  # noqa: E731
    first, again = plans(make(seed=3), epoch=5), plans(make(seed=3), epoch=5)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], plans(make(seed=4), epoch=5)[0])
    assert not same(first[0], plans(make(seed=3), epoch=6)[0])


def test_ranks_share_the_global_batch_without_overlap(experiment):
    groups, matching, _, _ = experiment
    whole = SetSampler(groups, matching, set_size=8, sets_per_batch=6, batches_per_epoch=5)
    parts = [
        SetSampler(groups, matching, set_size=8, sets_per_batch=2, batches_per_epoch=5, rank=r, world_size=3)
        for r in range(3)
    ]
    for step, plan in enumerate(whole.plan(2)):
        ranks = [plans(part, 2)[step] for part in parts]
        for field in ("groups", "control", "perturbed"):
            joined = np.concatenate([getattr(rank, field) for rank in ranks])
            assert np.array_equal(joined, getattr(plan, field))


def test_shard_gives_what_the_ranks_would_have(experiment):
    groups, matching, _, _ = experiment
    whole = SetSampler(groups, matching, set_size=8, sets_per_batch=4, batches_per_epoch=3, seed=1, weighting="cells")
    mine = SetSampler(
        groups,
        matching,
        set_size=8,
        sets_per_batch=2,
        batches_per_epoch=3,
        seed=1,
        weighting="cells",
        rank=1,
        world_size=2,
    )
    assert all(same(a, b) for a, b in zip(whole.shard(1, 2).plan(0), mine.plan(0), strict=True))
    with pytest.raises(OptionError, match="evenly among 3"):
        whole.shard(0, 3)


def test_a_plan_goes_on_at_a_step(experiment):
    groups, matching, _, _ = experiment
    sampler = SetSampler(groups, matching, set_size=8, sets_per_batch=2)
    whole, tail = plans(sampler, 1), plans(sampler, 1, start_step=7)
    assert [plan.step for plan in tail] == list(range(7, sampler.batches_per_epoch))
    assert all(same(a, b) for a, b in zip(whole[7:], tail, strict=True))


def test_controls_have_the_context_and_batch_of_their_set(experiment):
    groups, matching, _, obs = experiment
    for plan in SetSampler(groups, matching, set_size=10, sets_per_batch=4).plan(0):
        for group, control, perturbed in zip(plan.groups, plan.control, plan.perturbed, strict=True):
            row = groups.table.loc[group]
            assert set(obs["perturbation"].iloc[control]) == {"control"}
            assert set(obs["perturbation"].iloc[perturbed]) == {row["perturbation"]}
            for cells in (control, perturbed):
                assert set(obs["cell_type"].iloc[cells]) == {row["context"]}
                assert set(obs["donor"].iloc[cells]) == {row["batch"]}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_sets_of_random_experiments_pair_and_do_not_repeat(data):
    n_obs = data.draw(st.integers(20, 120))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    obs = pd.DataFrame(
        {
            "p": rng.choice(["ctrl", "A", "B", "B+A"], n_obs),
            "c": rng.choice(["x", "y"], n_obs),
            "b": rng.choice(["1", "2", "3"], n_obs),
        }
    )
    obs.loc[:1, "c"] = ["x", "y"]
    obs.loc[:2, "p"] = ["ctrl", "ctrl", "A"]
    groups = make_groups(obs, Design("p", "ctrl", ("c",), batch_key="b"))
    matching = match_controls(groups, min_controls=3, warn=False)
    set_size, slice_size = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        sampler = SetSampler(groups, matching, set_size=set_size, sets_per_batch=3, slice_size=slice_size)
    for plan in sampler.plan(data.draw(st.integers(0, 3))):
        for group, control, perturbed in zip(plan.groups, plan.control, plan.perturbed, strict=True):
            for drawn, pool in ((perturbed, groups.cells(group)), (control, matching.cells(group))):
                assert np.isin(drawn, pool).all()
                _, times = np.unique(drawn, return_counts=True)
                # as even as the pool allows: no repeats where it is large enough
                assert times.max() <= -(-set_size // len(pool))


def test_slices_are_neighbours_and_every_cell_is_drawn_equally_often():
    obs = pd.DataFrame({"p": ["ctrl"] * 30 + ["A"] * 37})
    groups = make_groups(obs, Design("p", "ctrl"))
    sampler = SetSampler(
        groups, match_controls(groups), set_size=10, sets_per_batch=50, slice_size=5, batches_per_epoch=80
    )
    drawn = np.concatenate([plan.perturbed for plan in sampler.plan(0)])
    # neighbours on the ring of the 37 cells: at most three slices, hence three breaks, in a set of ten
    steps = (np.diff(drawn, axis=1) - 1) % 37
    assert (np.count_nonzero(steps, axis=1) <= 2).all()
    times = np.bincount(drawn.ravel() - 30, minlength=37)
    assert abs(times / times.mean() - 1).max() < 0.15


@pytest.mark.parametrize(
    ("weighting", "expected"), [("uniform", [0.5, 0.5]), ("cells", [0.9, 0.1]), ("tempered", [0.75, 0.25])]
)
def test_weighting(weighting, expected):
    obs = pd.DataFrame({"p": ["ctrl"] * 20 + ["A"] * 90 + ["B"] * 10, "b": (["1", "2"] * 60)})
    groups = make_groups(obs, Design("p", "ctrl", batch_key="b"))
    sampler = SetSampler(
        groups, match_controls(groups), set_size=2, sets_per_batch=10, batches_per_epoch=40, weighting=weighting
    )
    drawn = groups.table["perturbation"].to_numpy()[np.concatenate([plan.groups for plan in sampler.plan(0)])]
    assert [np.mean(drawn == name) for name in "AB"] == pytest.approx(expected, abs=0.006)


def test_small_groups_repeat_their_cells_and_say_so_once():
    obs = pd.DataFrame({"p": ["ctrl"] * 20 + ["A"] * 3})
    groups = make_groups(obs, Design("p", "ctrl"))
    with pytest.warns(
        AssumptionWarning, match="the sets of 1 of . groups, which have fewer perturbed cells than set_size=8"
    ) as caught:
        sampler = SetSampler(groups, match_controls(groups), set_size=8, sets_per_batch=2, batches_per_epoch=20)
        drawn = plans(sampler)
        sampler.shard(0, 2)
    assert len(caught) == 1
    assert all(set(row) == {20, 21, 22} for plan in drawn for row in plan.perturbed)


def test_masks_and_subsets_limit_what_is_drawn(experiment):
    groups, matching, _, _ = experiment
    _, held_out = halved(groups)
    subset = groups.perturbed_groups[:2]
    sampler = SetSampler(groups, matching, set_size=3, sets_per_batch=4, mask=held_out, group_subset=subset)
    for plan in sampler.plan(0):
        assert held_out[plan.perturbed].all() and np.isin(plan.groups, subset).all()
    with pytest.raises(GroupSizeError, match="no perturbed cell"):
        SetSampler(groups, matching, mask=np.zeros(900, dtype=bool))
    with pytest.raises(OptionError, match="not perturbed groups"):
        SetSampler(groups, matching, group_subset=groups.control_groups[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"set_size": 0}, "set_size must be at least 1"),
        ({"batches_per_epoch": 0}, "batches_per_epoch"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
        ({"weighting": "equal"}, "weighting='equal'"),
    ],
)
def test_impossible_options_are_refused(experiment, options, message):
    groups, matching, _, _ = experiment
    with pytest.raises(OptionError, match=message):
        SetSampler(groups, matching, **options)


def test_one_sampler_serves_annbatch_too(experiment):
    groups, matching, source, _ = experiment
    sampler = SetSampler(groups, matching, set_size=8, sets_per_batch=3, slice_size=4)
    sampler.set_epoch(2, start_step=1)
    loader = annbatch.Loader(batch_sampler=sampler, preload_to_gpu=False, return_index=True, to=None)
    loader.add_dataset(source.counts)
    assert len(loader) == sampler.batches_per_epoch - 1
    for batch, plan in zip(loader, sampler.plan(2, 1), strict=True):
        assert np.array_equal(batch["index"], plan.positions)
        assert (batch["X"] != source.read(plan.positions)).nnz == 0
    with pytest.raises(OptionError, match="900 cells but 10"):
        list(sampler.sample(10))
    assert isinstance(source, MemorySource)
