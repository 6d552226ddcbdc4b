"""Labels as data sets write them: several controls, other separators, numbers, guides, text that means missing."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.conditions import parse_condition, parse_perturbation
from transpert.conditions.labels import LabelFormat
from transpert.conditions.lookalikes import looks_like_control, report_labels
from transpert.conditions.written import label_texts, means_missing
from transpert.errors import AssumptionWarning, ConditionError, ControlError, OptionError
from transpert.groups import Design, make_groups


@pytest.mark.parametrize("control", [["AAVS1", "NT-1", "NT-2"], ["AAVS1", "NT-*"], ["AAVS1", re.compile(r"NT-\d")]])
def test_several_controls_are_pooled_under_the_first(control) -> None:
    obs = pd.DataFrame({"perturbation": ["AAVS1", "NT-1", "NT-2", "STAT1", "STAT1+NT-2"]})
    design = Design("perturbation", control)
    assert design.control == "AAVS1"
    assert design.control_cells(obs).tolist() == [True, True, True, False, False]
    groups = make_groups(obs, design)
    assert dict(zip(groups.table["perturbation"], groups.table["n_cells"], strict=True)) == {"AAVS1": 3, "STAT1": 2}
    assert Design.from_dict(design.to_dict()) == design


def test_controls_that_only_a_pattern_names_are_called_control() -> None:
    assert Design("perturbation", "non-targeting*").control == "control"
    assert parse_perturbation("non-targeting_00124", control="non-targeting*") == ()


def test_a_pattern_that_fits_no_cell_is_named() -> None:
    with pytest.raises(ControlError, match=r"no cell is labelled 'NT\*'.*'A', 'B'"):
        Design("perturbation", "NT*").check(pd.DataFrame({"perturbation": ["A", "B"]}))
    with pytest.raises(OptionError, match="regular expression"):
        Design("perturbation", "re:(")


@pytest.mark.parametrize(
    "label",
    "CTRL Control non-targeting_00124 NT-3 DMSO_2 dmso vehicle AAVS1 ROSA26 PBS mock untreated scramble sgNT sgNTC_2 "
    "NegCtrl0 safe-harbor-12 Scrambled_sgRNA ONE_INTERGENIC_SITE control_guide_7 siControl".split(),
)
def test_labels_that_look_like_controls(label) -> None:
    assert looks_like_control(label)
    with pytest.warns(AssumptionWarning, match=re.escape(label)):
        report_labels(["something", "STAT1", label], LabelFormat("something"), where="obs['perturbation']")


@pytest.mark.parametrize("gene", "STAT1 NT5E NTRK1 NTF3 GFPT1 CTLA4 CTRB1 WTAP SCRIB LUC7L MOCOS P0".split())
def test_genes_do_not_look_like_controls(gene) -> None:
    assert not looks_like_control(gene)


@pytest.mark.parametrize("separator", ["_", ";", "|", ",", "&", "/", "-"])
def test_combinations_joined_otherwise_are_reported_and_read(separator) -> None:
    joined = f"STAT1{separator}JAK2"
    with pytest.warns(AssumptionWarning, match=re.escape(f"combination_separator={separator!r}")):
        report_labels(["control", "STAT1", "JAK2", joined], LabelFormat(), where="obs")
    labels = LabelFormat(separator=separator)
    assert labels.parts(joined) == ("JAK2", "STAT1")
    assert parse_condition(joined, control=labels, dose="0.1+10").doses == (10.0, 0.1)


def test_lists_as_text_are_combinations_of_a_comma() -> None:
    labels = LabelFormat(separator=",")
    assert [labels.parts(text) for text in ("['A', 'B']", "['A']", "['control']")] == [("A", "B"), ("A",), ()]


def test_names_with_a_plus_can_be_renamed_or_joined_otherwise() -> None:
    with pytest.raises(ConditionError, match="rename"):
        parse_perturbation("Na+", control="control")


@pytest.mark.parametrize("text", ["nan", "None", "<NA>", "", " ", "NA", "null", "NaT", None, np.nan])
def test_text_that_means_missing_is_refused_with_its_column(text) -> None:
    for column in ("perturbation", "line"):
        obs = pd.DataFrame({"perturbation": ["control", "A", "A"], "line": ["x", "x", "x"]}, dtype=object)
        obs.loc[2, column] = text
        with pytest.raises(ConditionError, match=rf"1 cells have no value.*obs\['{column}'\].*drop the cells"):
            Design("perturbation", "control", ("line",)).check(obs)


def test_controls_may_be_called_none_and_names_are_kept() -> None:
    Design("perturbation", "None").check(pd.DataFrame({"perturbation": ["None", "A"]}))
    assert not any(map(means_missing, ("NANOG", "Na", "none", "NA1")))


@pytest.mark.parametrize("dtype", [float, "float32", int, "category"])
def test_whole_numbers_are_labels_without_a_point(dtype) -> None:
    column = pd.Series([0.0, 1.0, 2.0] if dtype == "category" else [0, 1, 2]).astype(dtype)
    assert label_texts(column).tolist() == ["0", "1", "2"]
    assert LabelFormat.of(0).control_cells(column).tolist() == [True, False, False]


def test_guides_become_their_targets() -> None:
    labels = ["STAT1_g1", "sgSTAT1-2", "STAT1_1", "STAT1", "AAVS1_2", "NKX2-1", "JAK2_g1+STAT1_g2", "ROSA26", None]
    found = tp.pp.targets_of_guides(labels, control="NT")
    assert found.tolist()[:-1] == ["STAT1"] * 4 + ["NT", "NKX2-1", "JAK2+STAT1", "NT"]
    assert tp.pp.targets_of_guides(["KRT_1"], genes=["KRT_1"]).tolist() == ["KRT_1"]


def test_guides_of_a_target_are_never_torn_apart_by_a_split() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=4, n_genes=20, n_cells=10)
    names = {"P0": "STAT1_g1", "P1": "STAT1_g2", "P2": "JAK2_g1", "P3": "JAK2_g2"}
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace(names)
    for seed in range(4):
        with pytest.warns(AssumptionWarning, match="targets_of_guides"):
            tp.pp.split(adata, by="perturbation", fraction=0.5, context_keys="context", seed=seed)
        held = adata.obs.loc[adata.obs["split"] == "test", "perturbation"].str.split("_").str[0]
        assert held.nunique() == 1 and len(set(adata.obs.loc[held.index, "perturbation"])) == 2
    with pytest.warns(AssumptionWarning):
        tp.pp.split(adata, holdout={"perturbation": "JAK2_g1"}, context_keys="context")
    assert set(adata.obs.loc[adata.obs["split"] == "test", "perturbation"]) == {"JAK2_g1", "JAK2_g2"}
