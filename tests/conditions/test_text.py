"""One text for a condition, a context and a population: written and read back without loss."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transpert._anndata import writable_name
from transpert.conditions import Condition
from transpert.conditions.labels import LabelFormat
from transpert.conditions.text import context_text, population_text, split_population
from transpert.errors import ConditionError

_SIGNS = [*"AB1+ ,:|\"\\/\u2215()[]{}_.-'\né\ue000"]
_WORDS = [", dose 1", ", time ", ": ", " | ", "direction", "control", "ctrl", "nan", "\ue0000\ue000"]
texts = st.lists(st.sampled_from(_SIGNS + _WORDS), min_size=1, max_size=6).map("".join)
amounts = st.none() | st.floats(0, 1e12)


def is_name(text: str) -> bool:
    """Whether a text may be the name of one perturbation."""
    try:
        return bool(Condition((text,)).parts)
    except ConditionError:
        return False


@st.composite
def conditions(draw) -> Condition:
    parts = tuple(draw(st.lists(texts.filter(is_name), unique=True, max_size=3)))
    doses, directions = (tuple(draw(kind) for _ in parts) for kind in (amounts, st.none() | texts))
    return Condition(parts, doses, draw(amounts), directions)


@settings(max_examples=500, deadline=None)
@given(condition=conditions(), context=texts)
def test_text_is_read_back_as_it_was(condition, context) -> None:
    assert Condition.read(str(condition)) == condition
    written = population_text(context, condition)
    for name in (written, writable_name(written)):  # files hold no slashes
        there, what = split_population(name)
        assert (there, Condition.read(what)) == (context, condition)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Condition(), "control"),
        (Condition(time=24.0), "control, time 24"),
        (Condition(("MAP2K6", "KLF1")), "KLF1+MAP2K6"),
        (Condition(("A", "B"), (0.1, 10.0), 24.0), "A+B, dose 0.1+10, time 24"),
        (Condition(("A", "B"), (1.0, 1.0), None, ("CRISPRa", None)), "A+B, dose 1, direction CRISPRa+nan"),
        (Condition(("(+)-JQ1",)), "(+)-JQ1"),
        (Condition(("A, dose 1",)), '"A, dose 1"'),
        (Condition(("control",)), '"control"'),
    ],
)
def test_conditions_are_written_in_one_way(condition, text) -> None:
    assert str(condition) == text and Condition.read(text) == condition


def test_contexts_that_were_written_alike_are_told_apart() -> None:
    assert context_text(["a | b", "c"]) == '"a | b" | c'
    assert context_text(["a", "b | c"]) == 'a | "b | c"'
    assert population_text("a: b", Condition(("P",))) == '"a: b": P'


def test_labels_of_a_data_set_are_read_too() -> None:
    labels = LabelFormat.of(["DMSO", "NT-*"], separator="_")
    assert Condition.read("MAP2K6_KLF1, dose 2+1", labels) == Condition(("KLF1", "MAP2K6"), (1.0, 2.0))
    assert Condition.read("KLF1+MAP2K6", labels) == Condition(("KLF1", "MAP2K6"))
    assert Condition.read("KLF1_ctrl", labels) == Condition(("KLF1",))
    assert Condition.read("NT-3", labels).is_control


@pytest.mark.parametrize("text", ["A, dose 1, dose 2", "A, dose much", "A+B, dose 1+2+3", "A++B", ""])
def test_text_that_says_no_condition_is_refused(text) -> None:
    with pytest.raises(ConditionError):
        Condition.read(text)


def test_what_names_no_context_is_no_population() -> None:
    with pytest.raises(ConditionError, match="no population"):
        split_population("P0, dose 1")
