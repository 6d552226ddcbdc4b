from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import transpert as tp
from transpert.conditions import Condition, PerturbationVocabulary, parse_condition, parse_perturbation
from transpert.errors import ConditionError, ControlError, UnknownNameError
from transpert.groups import Design, make_groups

names = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=6).filter(
    lambda name: name.lower() not in ("ctrl", "control")
)


@settings(max_examples=50, deadline=None)
@given(st.lists(names, min_size=1, max_size=4, unique=True), st.randoms())
def test_the_order_of_a_combination_does_not_matter(parts, random) -> None:
    shuffled = parts[:]
    random.shuffle(shuffled)
    doses = {part: float(i + 1) for i, part in enumerate(parts)}

    def written(order):
        return parse_condition("+".join(order), control="control", dose="+".join(str(doses[p]) for p in order))

    assert written(parts) == written(shuffled)
    assert hash(written(parts)) == hash(written(shuffled))


def test_spellings_of_other_tools() -> None:
    assert parse_perturbation("A+ctrl", control="ctrl") == ("A",)
    assert parse_perturbation("ctrl+A", control="DMSO") == ("A",)
    assert parse_perturbation("ctrl", control="ctrl") == ()


@pytest.mark.parametrize("label", ["A+", "+", "A++B", "A+A"])
def test_labels_that_cannot_be_read_are_refused(label) -> None:
    with pytest.raises(ConditionError):
        parse_perturbation(label, control="control")


@pytest.mark.parametrize("label", ["A+(B", "A]+[B", "A+-", "A+{[B}]", "(A+B"])
def test_what_a_plus_makes_nonsense_of_is_refused(label) -> None:
    with pytest.raises(ConditionError, match="which is no name.*'\\+' separates the parts.*rename"):
        parse_perturbation(label, control="control")


@pytest.mark.parametrize(
    "name", ["TNF-a", "IL1B", "H2O2", "non-targeting", "(R)-thing", "[3H]-N-{x(y)}", "NKX2.1", "β-estradiol", "5", "1)"]
)
def test_names_with_signs_and_brackets_stay_names(name) -> None:
    assert parse_perturbation(name, control="control") == (name,)
    if name != "1)":  # which alone needs no taking apart
        assert parse_perturbation(f"{name}+KLF1", control="control") == tuple(sorted((name, "KLF1")))


@pytest.mark.parametrize("name", ["(+)-JQ1", "DMSO-(+)-JQ1", "[Na+].[Cl-]", "{[A+]}"])
def test_a_plus_in_brackets_is_part_of_a_name(name) -> None:
    assert parse_perturbation(name, control="control") == (name,)
    both = parse_condition(f"{name} + KLF1", control="control", dose="3+5", direction="up+down")
    assert both == parse_condition(f"KLF1+{name}", control="control", dose="5+3", direction="down+up")
    assert set(both.parts) == {name, "KLF1"} and parse_perturbation(both.label, control="control") == both.parts
    # the whole way: training and a prediction under the name
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=20)
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace({"P0": name})
    tp.MeanShift.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    model = tp.MeanShift(adata)
    model.train()
    pred = model.predict(perturbations=[name, f"P1+{name}"], progress=False)
    assert {name, "+".join(sorted(["P1", name]))} <= set(pred.obs["perturbation"])


def test_the_control_may_be_a_sign() -> None:
    assert parse_perturbation("A+-", control="-") == ("A",)
    assert parse_perturbation("DMSO (+)", control="DMSO (+)") == ()


@pytest.mark.parametrize("dose", [-1.0, float("inf"), "high", "1+2+3"])
def test_doses_that_cannot_be_read_are_refused(dose) -> None:
    with pytest.raises(ConditionError):
        parse_condition("A+B", control="control", dose=dose)


def test_a_missing_dose_is_no_dose() -> None:
    assert parse_condition("A", control="c", dose=float("nan")) == Condition(("A",))
    assert parse_condition("c", control="c", dose=3.0).is_control


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"parts": ("A", "A")}, "'A\\+A' names the same perturbation twice"),
        ({"parts": ("A", "A"), "doses": (1.0, 2.0)}, "twice"),
        ({"parts": ("A+B",)}, "'A\\+B' is not the name of one perturbation.*parse_condition"),
        ({"parts": ("A", " ")}, "' ' is not the name of one"),
        ({"parts": "KLF1"}, "parts of a condition are the string 'KLF1'.*'KLF1',"),
        ({"parts": tuple("ABCD"), "directions": "down"}, "directions of a condition are the string 'down'"),
    ],
)
def test_a_contradictory_condition_is_refused(given, message) -> None:
    with pytest.raises(ConditionError, match=message):
        Condition(**given)


SEVERAL = [tuple, list, np.array, pd.Series, pd.Index, pd.array]


@pytest.mark.parametrize("make", SEVERAL)
def test_doses_may_stand_in_any_sequence(make) -> None:
    made = parse_condition("B+A", control="control", dose=make([1.0, 2.0]))
    assert made == Condition(("A", "B"), (2.0, 1.0))
    assert parse_condition("B+A", control="control", dose=make([3.0])).doses == (3.0, 3.0)
    with pytest.raises(ConditionError, match="3 doses for 2 perturbations"):
        parse_condition("B+A", control="control", dose=make([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("make", [*SEVERAL, pd.Categorical])
def test_directions_may_stand_in_any_sequence(make) -> None:
    made = parse_condition("B+A", control="control", direction=make(["CRISPRa", "CRISPRi"]))
    assert made == Condition(("A", "B"), directions=("CRISPRi", "CRISPRa"))


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, "", "nan"])
def test_a_missing_direction_is_no_direction(missing) -> None:
    assert parse_condition("A", control="control", direction=missing) == Condition(("A",))
    made = parse_condition("B+A", control="control", direction=["CRISPRa", missing])
    assert made.directions == (None, "CRISPRa")


@pytest.mark.parametrize("direction", [1, np.int64(0), True, b"CRISPRi", ["CRISPRi", 2], np.array([1, 2]), {"CRISPRi"}])
def test_a_direction_that_is_no_text_is_refused_and_not_dropped(direction) -> None:
    with pytest.raises(ConditionError, match="is not text .in A\\+B."):
        parse_condition("A+B", control="control", direction=direction)


def test_a_single_value_in_an_array_is_one_dose() -> None:
    assert parse_condition("A", control="control", dose=np.array(2.0)).doses == (2.0,)
    assert parse_condition("A", control="control", dose=pd.NA).doses == (None,)
    with pytest.raises(ConditionError, match="is not a number"):
        parse_condition("A+B", control="control", dose=np.ones((2, 2)))


def test_vocabulary_keeps_the_spelling_of_the_data() -> None:
    vocabulary = PerturbationVocabulary(("ctrl", "B+A", "A"), "ctrl")
    assert vocabulary.spelling("A+B") == "B+A"
    assert vocabulary.spelling("B") == "B"
    with pytest.raises(UnknownNameError, match="Known"):
        vocabulary.require(["Aa+B"])
    with pytest.raises(ControlError, match="no cell is labelled 'DMSO'"):
        PerturbationVocabulary(("ctrl",), "DMSO")


# ------------------------------------------------------------------------------------ doses and times in six digits
def test_a_dose_is_what_its_label_says() -> None:
    made = Condition(("A",), (10 / 9,), time=100 / 3)
    assert made == parse_condition("A", control="control", dose=f"{10 / 9:g}", time=f"{100 / 3:g}")
    assert str(Condition(("A",), (-0.0,), -0.0)) == "A, dose 0, time 0"
    assert Condition(time=1 / 3) == Condition(time=np.float32(1 / 3))


def test_a_dose_in_32_bits_is_the_same_dose() -> None:
    assert Condition(("A",), (np.float32(0.1),)) == Condition(("A",), (0.1,))
    obs = pd.DataFrame({"perturbation": ["control", "A", "A", "A"], "dose": [np.nan, 0.1, np.float32(0.1), 0.2]})
    groups = make_groups(obs, Design("perturbation", "control", dose_key="dose"))
    assert groups.table["n_cells"].tolist() == [1, 2, 1]
    assert groups.table["dose"].tolist()[1:] == [0.1, 0.2]


def test_doses_of_a_million_and_more_can_be_read_back() -> None:
    for dose in (1e6, 2.5e6, 1e22):
        label = str(Condition(("A",), (dose,), dose))
        assert "+" not in label
    assert str(Condition(("A", "B"), (1e6, 10.0), 1e6)) == "A+B, dose 1000000+10, time 1000000"
    assert parse_condition("A", control="control", dose="1e+06") == Condition(("A",), (1e6,))
    assert parse_condition("B+A", control="control", dose="1e+06+10").doses == (10.0, 1e6)
    # a word may end as a number with an exponent does
    assert parse_condition("A+B", control="control", direction="0e+1e").directions == ("0e", "1e")
