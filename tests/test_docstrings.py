"""Shared texts of docstrings stand where they are named."""

from __future__ import annotations

import inspect

import pytest

from transpert._docstrings import fill_docstring


def test_a_shared_text_takes_the_indentation_of_its_place() -> None:
    @fill_docstring
    def measure(a: int) -> None:
        """Measure %(shifts)s of 5 % of the genes.

        Parameters
        ----------
        %(shifts)s
        """

    expected = """Measure %(shifts)s of 5 % of the genes.

Parameters
----------
predicted, real : (P, G)
    Mean shifts in log1p."""
    assert inspect.getdoc(measure) == expected


def test_a_shared_text_that_does_not_exist_is_an_error_where_it_is_named() -> None:
    def measure() -> None:
        """Measure.

        %(nothing_of_this_name)s
        """

    with pytest.raises(KeyError, match="nothing_of_this_name"):
        fill_docstring(measure)


def test_a_function_without_a_docstring_stays_without() -> None:
    def measure() -> None: ...

    assert fill_docstring(measure).__doc__ is None
