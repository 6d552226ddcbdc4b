"""Doses and times with units are read by one helper, and refused where a number is needed."""

from __future__ import annotations

import pandas as pd
import pytest

import transpert as tp
from transpert._amounts import AmountScale, amount_gap
from transpert.errors import ConditionError, OptionError
from transpert.groups import Design


@pytest.mark.parametrize(
    ("given", "unit", "expected"),
    [
        (["100nM", "1 \u00b5M", "10 uM", "0"], "uM", [0.1, 1.0, 10.0, 0.0]),
        (["6h", "24 hours", "D7", "day 1"], "h", [6.0, 24.0, 168.0, 24.0]),
        (pd.to_timedelta([6, 24], unit="h"), "d", [0.25, 1.0]),
        (["0.1uM+10uM", "1uM+1uM"], "uM", ["0.1+10", 1.0]),
        (["5 ng/mL", "1 ug/ml"], "ng/ml", [5.0, 1000.0]),
    ],
)
def test_amounts_are_read_in_one_unit(given, unit, expected) -> None:
    assert tp.pp.amounts(pd.Series(given, name="dose"), unit=unit).tolist() == expected


@pytest.mark.parametrize(
    ("given", "what"), [("10", "has no unit"), ("24h", "not a concentration"), ("high", "no number")]
)
def test_amounts_of_another_kind_are_refused_with_their_column(given, what) -> None:
    with pytest.raises(ConditionError, match=f"{what}.*'dose'"):
        tp.pp.amounts(pd.Series(["1uM", given], name="dose"), unit="uM")
    with pytest.raises(OptionError, match="unit is 'parsec'"):
        tp.pp.amounts(pd.Series(["1uM"]), unit="parsec")


@pytest.mark.parametrize(
    ("column", "values", "unit"),
    [
        ("dose", ["0.1uM", "10uM"], "uM"),
        ("dose", ["1 \u00b5M", "2 \u00b5M"], "uM"),
        ("time", ["6h", "24h"], "h"),
        ("time", ["D0", "D7"], "h"),
        ("time", pd.to_timedelta([6, 24], unit="h"), "h"),
    ],
)
def test_columns_with_units_are_refused_with_column_and_remedy(column, values, unit) -> None:
    obs = pd.DataFrame({"perturbation": ["control", "A"], column: values})
    with pytest.raises(ConditionError, match=rf"obs\['{column}'\].*tp\.pp\.amounts\(.*unit='{unit}'\)"):
        Design("perturbation", "control", **{f"{column}_key": column}).check(obs)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1.0, 60.0, 1e6])
def test_a_scale_of_amounts_does_not_depend_on_the_unit(factor) -> None:
    scale = AmountScale.of(factor * amount for amount in (0.1, 1.0, 10.0))
    places = [scale.place(factor * amount) for amount in (0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)]
    assert places == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 1, 4 / 3])
    assert amount_gap(factor * 10, factor * 1) == pytest.approx(0.9)
