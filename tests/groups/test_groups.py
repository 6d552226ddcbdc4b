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
