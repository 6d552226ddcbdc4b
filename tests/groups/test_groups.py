from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transpert.conditions.text import context_text
from transpert.conditions.written import label_texts
from transpert.errors import (
    AssumptionWarning,
    ConditionError,
    ControlError,
    GroupSizeError,
    OptionError,
    UnknownNameError,
)
from transpert.groups import Design, labels, make_groups, match_controls
from transpert.groups.table import context_labels

DESIGN = Design("p", "control", ("line",), batch_key="batch")


VALUES = st.sampled_from(["x", "y", "x | y", "1", 1, 1.0, True, None, float("nan")])


def frame(rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["p", "line", "batch"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["control", "A", "B", "A+B", "B+A"]), st.sampled_from("xy"), st.sampled_from("12")),
        min_size=1,
        max_size=60,
    )
)
def test_groups_partition_the_cells(rows) -> None:
    obs = frame([("control", "x", "1"), *rows])
    groups = make_groups(obs, DESIGN)
    together = np.concatenate([groups.cells(g) for g in range(len(groups))])
    assert sorted(together) == list(range(len(obs)))
    for group in range(len(groups)):
        cells = obs.iloc[groups.cells(group)]
        assert cells["line"].nunique() == cells["batch"].nunique() == 1
        assert {tuple(sorted(p.split("+"))) for p in cells["p"]} == {groups.conditions[group].parts or ("control",)}
        assert groups.table["n_cells"][group] == len(cells)


def test_controls_come_from_the_batch_or_else_from_the_context() -> None:
    obs = frame([("control", "x", "1")] * 12 + [("control", "x", "2")] * 3 + [("A", "x", "1"), ("A", "x", "2")] * 2)
    groups = make_groups(obs, DESIGN)
    with pytest.warns(AssumptionWarning, match="1 of 2 groups"):
        matching = match_controls(groups, min_controls=5)
    levels = dict(zip(groups.table.loc[matching.table.index, "batch"], matching.table["level"], strict=True))
    assert levels == {"1": "context and batch", "2": "context"}
    by_batch = {groups.table.at[g, "batch"]: g for g in groups.perturbed_groups}
    assert len(matching.cells(by_batch["1"])) == 12
    assert len(matching.cells(by_batch["2"])) == 15


LABELLED_CELLS = st.lists(
    st.tuples(
        st.sampled_from(["control", "control", "A", "B"]),
        st.sampled_from("xy"),
        st.sampled_from("123"),
        st.sampled_from([np.nan, 6.0, 24.0]),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(LABELLED_CELLS, st.integers(0, 4))
def test_controls_are_those_of_the_definition(rows, min_controls) -> None:
    some = [("control", line, "0", np.nan) for line in "xy"]
    obs = pd.DataFrame([*some, ("A", "x", "1", 6.0), *rows], columns=["p", "line", "batch", "time"])
    groups = make_groups(obs, Design("p", "control", ("line",), batch_key="batch", time_key="time"))
    matching = match_controls(groups, min_controls=min_controls, warn=False)
    controls = groups.table[groups.table["is_control"]]
    assert list(matching.control_groups) == matching.table.index.tolist() == groups.perturbed_groups.tolist()
    for group, found in matching.control_groups.items():
        own = groups.table.loc[group]
        candidates = controls[controls["context"] == own["context"]]
        if (candidates["time"] == own["time"]).any():
            candidates = candidates[candidates["time"] == own["time"]]
        same_batch = candidates[candidates["batch"] == own["batch"]]
        enough = same_batch["n_cells"].sum() >= min_controls
        expected = same_batch if enough else candidates
        assert found.tolist() == expected.index.tolist()
        level = "context and batch" if enough else "context"
        assert matching.table.loc[group].tolist() == [level, expected["n_cells"].sum()]


def test_control_groups_are_not_searched_for_every_group(monkeypatch) -> None:
    rows = [(p, line, "1") for line in "xyz" for p in ["control", *map(str, range(40))]]
    groups = make_groups(frame(rows), DESIGN)
    searched, original = [], pd.DataFrame.__getitem__
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "__getitem__", lambda *given: (searched.append(1), original(*given))[1])
        match_controls(groups, warn=False)
    assert len(searched) < 40


def test_a_perturbation_without_controls_in_its_context_is_named() -> None:
    obs = frame([("control", "x", "1"), ("A", "x", "1"), ("A", "y", "1")])
    with pytest.raises(ControlError, match="'y'"):
        match_controls(make_groups(obs, DESIGN))


def test_doses_of_a_combination_follow_its_parts() -> None:
    obs = pd.DataFrame({"p": ["c", "A+B", "B+A", "A", "A+c"], "d": [0, "1+2", "2+1", 3, "3"]})
    groups = make_groups(obs, Design("p", "c", dose_key="d"))
    assert groups.codes[1] == groups.codes[2]
    assert groups.codes[3] == groups.codes[4]


def test_large_doses_of_a_combination_are_written_as_they_can_be_read() -> None:
    obs = pd.DataFrame({"perturbation": ["control", "B+A"], "dose": [None, "1000000+10"]})
    groups = make_groups(obs, Design("perturbation", "control", dose_key="dose"))
    assert groups.table["dose"].tolist()[1:] == ["1000000+10"]


def test_a_context_column_may_be_called_anything() -> None:
    obs = pd.DataFrame({"p": ["control", "A"], "context": ["x", "x"], "n_cells": ["7", "7"]})
    groups = make_groups(obs, Design("p", "control", ("context", "n_cells")))
    assert groups.table["n_cells"].tolist() == [1, 1]
    assert groups.context_values(0) == {"context": "x", "n_cells": "7"}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(VALUES, VALUES), max_size=30),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from([2, 100_000]),
)
def test_contexts_are_those_of_the_definition(rows, n_keys, categories, block) -> None:
    obs = pd.DataFrame(rows, columns=["a", "b"], dtype=object)
    if categories:
        obs = obs.astype({"a": "category", "b": "category"})
    design = Design("p", "control", ("a", "b")[:n_keys])
    columns = [label_texts(obs[key]).tolist() for key in design.context_keys]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "_CELLS_PER_BLOCK", block)
        patch.setattr(labels, "_SMALL_TABLE", block)
        if n_keys == 2 and pd.isna(pd.Series([*columns[0], *columns[1]], dtype=object)).any():
            with pytest.raises(ConditionError, match="cells have no value"):
                context_labels(obs, design)
            return
        found = context_labels(obs, design)
    assert found.dtype == object and found.shape == (len(rows),)
    expected = columns[0] if n_keys == 1 else [context_text(values) for values in zip(*columns, strict=True)]
    assert pd.isna(found).tolist() == pd.isna(pd.Series(expected, dtype=object)).tolist()
    assert [name for name in found if not pd.isna(name)] == [name for name in expected if not pd.isna(name)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=40), st.integers(1, 3), st.sampled_from([2, 1 << 22]))
def test_combinations_are_numbered_in_order(rows, n_columns, small) -> None:
    codes = np.array(rows, dtype=np.int8).reshape(-1, 3)[:, :n_columns]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "_SMALL_TABLE", small)
        patch.setattr(labels, "_CELLS_PER_BLOCK", 3)
        number, first = labels.combined_codes(list(codes.T))
    cells = [tuple(row) for row in codes.tolist()]
    distinct = sorted(set(cells))
    assert number.tolist() == [distinct.index(cell) for cell in cells]
    assert first.tolist() == [cells.index(combination) for combination in distinct]


@pytest.mark.parametrize("kind", ["category", "object"])
def test_labels_are_not_written_for_every_cell(kind) -> None:
    n_cells = 400_000
    rng = np.random.default_rng(0)
    values = {name: np.array([f"{name}_{i}" for i in range(8)])[rng.integers(0, 8, n_cells)] for name in "abc"}
    obs = pd.DataFrame({name: pd.Series(value, dtype=kind) for name, value in values.items()})
    one, two = Design("c", "c_0", ("a",), batch_key="b"), Design("c", "c_0", ("a", "b"))
    for call, bytes_per_cell in (
        (lambda: context_labels(obs, one), 50),
        (lambda: context_labels(obs, two), 60),
        (lambda: make_groups(obs, one), 100),
    ):
        call()  # what is made once, such as modules, does not count
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < bytes_per_cell * n_cells


def test_columns_that_are_written_and_columns_with_other_names() -> None:
    design = Design("p", "control", ("line", "source"), dose_key="model", split_key="split")
    design.check_not_written(("control_id", "library_size"))
    with pytest.raises(OptionError, match=r"overwritten: 'source', 'model' \(in obs\).*'source': 'my_source'"):
        design.check_not_written(("model", "source"))
    renamed = design.renamed({"source": "organ", "model": "dose", "batch": "donor"})
    assert renamed == Design("p", "control", ("line", "organ"), dose_key="dose", split_key="split")


def test_bad_designs_are_refused() -> None:
    obs = frame([("control", "x", "1"), ("A", "x", "1")])
    with pytest.raises(UnknownNameError, match="Known: .*'line'"):
        make_groups(obs, Design("p", "control", ("lin",)))
    with pytest.raises(ControlError, match="'ctrl'"):
        make_groups(obs, Design("p", "ctrl", ("line",)))
    with pytest.raises(OptionError, match="two roles"):
        Design("p", "control", ("p",))
    with pytest.raises(GroupSizeError, match="x / A"):
        make_groups(obs, DESIGN, min_cells=2)
    with pytest.raises(ConditionError, match="1 cells have no value"):
        make_groups(obs.assign(line=["x", None]), DESIGN)


def test_a_design_survives_json() -> None:
    assert Design.from_dict(DESIGN.to_dict()) == DESIGN


def test_small_groups_are_named_with_what_was_done_to_them() -> None:
    obs = pd.DataFrame(
        {
            "p": ["control", "control", "A", "A", "A", "A+B"],
            "line": "x",
            "dose": [np.nan, np.nan, "1", "1", np.nan, "0.1+10"],
            "time": [np.nan, np.nan, 6.0, 6.0, 6.0, np.nan],
            "direction": [np.nan, np.nan, "up", "up", "down", "up+down"],
        }
    )
    design = Design("p", "control", ("line",), dose_key="dose", time_key="time", direction_key="direction")
    told = r"x / A, no dose, time 6, direction down \(1\), x / A\+B, dose 0.1\+10, no time, direction up\+down \(1\)"
    with pytest.raises(GroupSizeError, match=rf"groups of fewer than 2 cells \(2\): {told}.*or lower min_cells"):
        make_groups(obs, design, min_cells=2)
    plain = Design("p", "control", ("line",))
    with pytest.raises(GroupSizeError, match=r"groups of fewer than 2 cells \(1\): x / A\+B \(1\)\."):
        make_groups(obs, plain, min_cells=2)
    # none of the cells is a control, which is not asked for
    assert len(make_groups(obs.iloc[2:], plain, need_controls=False)) == 2
    with pytest.raises(ControlError):
        make_groups(obs.iloc[2:], plain)


def test_a_design_is_what_setup_anndata_takes_and_others_win() -> None:
    design = Design("guide", ["NT", "AAVS1"], "tissue", time_key="hours", batch_key="plate")
    assert design.condition_keys == {"time": "hours"}
    assert design.setup_arguments(layer="counts", batch_key=None) == {
        "perturbation_key": "guide",
        "control": design.controls,
        "context_keys": ["tissue"],
        "time_key": "hours",
        "combination_separator": "+",
        "layer": "counts",
    }
