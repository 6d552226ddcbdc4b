from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transpert.errors import (
    AssumptionWarning,
    ConditionError,
    ControlError,
    GroupSizeError,
    OptionError,
    UnknownNameError,
)
from transpert.groups import Design, make_groups, match_controls

DESIGN = Design("p", "control", ("line",), batch_key="batch")


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


def test_a_context_column_may_be_called_anything() -> None:
    obs = pd.DataFrame({"p": ["control", "A"], "context": ["x", "x"], "n_cells": ["7", "7"]})
    groups = make_groups(obs, Design("p", "control", ("context", "n_cells")))
    assert groups.table["n_cells"].tolist() == [1, 1]
    assert groups.context_values(0) == {"context": "x", "n_cells": "7"}


def test_bad_designs_are_refused() -> None:
    obs = frame([("control", "x", "1"), ("A", "x", "1")])
    with pytest.raises(UnknownNameError, match="'lin' may be 'line'"):
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
