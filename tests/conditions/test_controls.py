"""Labels that join nothing but controls are controls wherever that is decided."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.conditions import PerturbationVocabulary, parse_perturbation
from transpert.conditions.labels import LabelFormat
from transpert.errors import ControlError
from transpert.groups import Design

LABELS = ["NT", "NT+NT", "NT + ctrl", "ctrl+control", "ctrl", "NT+A", "A", "A+B"]


@pytest.mark.parametrize("label", LABELS)
def test_a_control_label_has_no_parts(label) -> None:
    assert LabelFormat("NT").is_control(label) == (parse_perturbation(label, control="NT") == ())


@pytest.mark.parametrize("label", ["A+", "+", "NT+", "(+)-JQ1", "A+A"])
def test_labels_that_cannot_be_read_are_no_controls(label) -> None:
    assert not LabelFormat("NT").is_control(label)


@pytest.mark.parametrize("dtype", ["category", object, "string"])
def test_control_cells_are_found_in_any_column(dtype) -> None:
    column = pd.Series([*LABELS, *LABELS[::-1]]).astype(dtype)
    expected = [True, True, True, True, False, False, False, False]
    assert LabelFormat.of("NT").control_cells(column).tolist() == expected + expected[::-1]
    if dtype == "category":  # categories that no cell has
        assert LabelFormat.of("NT").control_cells(column.iloc[6:8]).tolist() == [False, False]


def test_control_cells_may_be_numbered() -> None:
    for dtype in (int, float, "category"):
        column = pd.Series([0, 1, 0, 2]).astype(dtype)
        assert LabelFormat.of(0).control_cells(column).tolist() == [True, False, True, False]
    assert LabelFormat.of("NT").control_cells(pd.Series(["NT", None, "A"])).tolist() == [True, False, False]


def test_data_may_spell_all_its_controls_as_a_combination() -> None:
    Design("perturbation", "NT").check(pd.DataFrame({"perturbation": ["NT+NT", "A"]}))
    assert PerturbationVocabulary(("NT+NT", "A"), "NT").parts == ("A",)
    with pytest.raises(ControlError, match="no cell is labelled 'NT'"):
        Design("perturbation", "NT").check(pd.DataFrame({"perturbation": ["NT+B", "A"]}))


def test_coexpression_is_of_all_controls() -> None:
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=20, n_cells=20)
    keys = {"perturbation_key": "perturbation", "layer": "counts", "n_dimensions": 3}
    before = tp.conditions.coexpression(adata, **keys)
    half = (adata.obs["perturbation"] == "control") & (np.arange(adata.n_obs) % 2 == 0)
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).where(~half, "ctrl+ctrl")
    np.testing.assert_array_equal(tp.conditions.coexpression(adata, **keys).values, before.values)
