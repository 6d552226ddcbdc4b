from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transpert._amounts import rounded, split_amounts, written_amount


@given(st.floats(min_value=0, allow_infinity=False))
def test_what_is_written_is_read_back(value) -> None:
    assert split_amounts(written_amount(value)) == [written_amount(value)]
    assert float(written_amount(value)) == rounded(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1, "0.1"), (10 / 9, "1.11111"), (1e-7, "1e-07"), (999_999.0, "999999"), (1e6, "1000000")],
)
def test_ordinary_amounts_are_written_as_before(value, text) -> None:
    assert written_amount(value) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1e+06", ["1e+06"]),
        ("1E+06+10", ["1E+06", "10"]),
        ("10+1.e+06+1e-07", ["10", "1.e+06", "1e-07"]),
        ("none+10", ["none", "10"]),
        ("+1", ["", "1"]),
    ],
)
def test_the_sign_of_an_exponent_separates_nothing(text, parts) -> None:
    assert split_amounts(text) == parts
