from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transpert.conditions import Condition, PerturbationVocabulary, parse_condition, parse_perturbation
from transpert.errors import ConditionError, ControlError, UnknownNameError

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


@pytest.mark.parametrize("dose", [-1.0, float("inf"), "high", "1+2+3"])
def test_doses_that_cannot_be_read_are_refused(dose) -> None:
    with pytest.raises(ConditionError):
        parse_condition("A+B", control="control", dose=dose)


def test_a_missing_dose_is_no_dose() -> None:
    assert parse_condition("A", control="c", dose=float("nan")) == Condition(("A",))
    assert parse_condition("c", control="c", dose=3.0).is_control


def test_vocabulary_keeps_the_spelling_of_the_data() -> None:
    vocabulary = PerturbationVocabulary(("ctrl", "B+A", "A"), "ctrl")
    assert vocabulary.spelling("A+B") == "B+A"
    assert vocabulary.spelling("B") == "B"
    with pytest.raises(UnknownNameError, match="'Aa' may be 'A'|Known"):
        vocabulary.require(["Aa+B"])
    with pytest.raises(ControlError, match="no cell is labelled 'DMSO'"):
        PerturbationVocabulary(("ctrl",), "DMSO")
