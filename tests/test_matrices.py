"""Matrices come in any form, and are one thing afterwards; damaged ones are refused before anything compiled runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from transpert import _matrices, pp
from transpert._counts import read_counts
from transpert.errors import BackedDataError, CountsError, OptionError

DENSE = np.array([[3, 0, 1], [0, 0, 0], [0, 2, 5]], dtype=np.float32)


def duplicated(kind: type = sparse.csr_matrix) -> sparse.csr_matrix:
    """The same counts, with that of the first gene of the first cell in two entries, out of order, and a zero."""
    parts = np.array([1, 1, 2, 5, 2, 0], dtype=np.float32), np.array([0, 2, 0, 2, 1, 0]), np.array([0, 3, 3, 6])
    return kind(sparse.csr_matrix(parts, shape=(3, 3)))


FORMS = {
    "csr": sparse.csr_matrix(DENSE),
    "csc": sparse.csc_matrix(DENSE),
    "coo": sparse.coo_matrix(DENSE),
    "lil": sparse.lil_matrix(DENSE),
    "csr_array": sparse.csr_array(DENSE),
    "csc_array": sparse.csc_array(DENSE),
    "int8": sparse.csr_matrix(DENSE.astype(np.int8)),
    "float16": DENSE.astype(np.float16),
    "duplicates": duplicated(),
    "duplicates by gene": sparse.csc_matrix(
        (np.array([1, 2, 2, 1, 5.0]), np.array([0, 0, 2, 0, 2]), np.array([0, 2, 3, 5])), shape=(3, 3)
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_counts_becomes_the_same_matrix(form: str) -> None:
    given = FORMS[form]
    before = given.copy()
    found = _matrices.canonical(given, where="X")
    dense = found.toarray() if sparse.issparse(found) else found
    np.testing.assert_array_equal(dense, DENSE)
    if sparse.issparse(found):
        assert found.has_canonical_format
        assert found.nnz == 4
    assert abs(given - before).sum() == 0
    np.testing.assert_array_equal(pp.library_sizes(given), [4, 0, 7])
    logs = pp.log1p_per_10k(given, np.array([4.0, 1.0, 7.0]))
    expected = np.log1p(DENSE / np.array([[4.0], [1.0], [7.0]]) * 1e4)
    np.testing.assert_allclose(logs.toarray() if sparse.issparse(logs) else logs, expected, rtol=1e-6)


def test_a_matrix_with_duplicates_is_left_as_it_was() -> None:
    given = duplicated()
    parts = [part.copy() for part in (given.data, given.indices, given.indptr)]
    _matrices.canonical(given, where="X")
    for before, after in zip(parts, (given.data, given.indices, given.indptr), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_a_matrix_noted_of_itself_is_not_trusted() -> None:
    given = sparse.csr_matrix(np.array([[1.0, 2.0]]))
    assert given.has_canonical_format
    given.indices[1] = 0
    assert _matrices.canonical(given, where="X").toarray().tolist() == [[3.0, 0.0]]


def test_sums_of_small_integers_do_not_overflow() -> None:
    parts = np.array([200, 100], dtype=np.uint8), np.array([0, 0]), np.array([0, 2])
    assert _matrices.canonical(sparse.csr_matrix(parts, shape=(1, 1)), where="X").data.tolist() == [300]


def test_a_matrix_in_canonical_form_is_not_copied() -> None:
    given = sparse.csr_matrix(DENSE)
    assert np.shares_memory(_matrices.canonical(given, where="X").data, given.data)


def _damaged(part: str, position: int, value: int, kind: type) -> sparse.csr_matrix:
    matrix = kind(DENSE)
    getattr(matrix, part)[position] = value
    return matrix


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize(
    ("part", "position", "value", "what"),
    [
        ("indices", 0, -1, "outside its 3"),
        ("indices", 1, 3, "outside its 3"),
        ("indices", 1, 2**31 - 1, "outside its 3"),
        ("indptr", 0, 1, "does not go up from 0"),
        ("indptr", 1, 4, "does not go up from 0"),
        ("indptr", 3, 9, "ends at 9"),
    ],
)
def test_damaged_matrices_are_refused_with_slot_and_fault(
    part: str, position: int, value: int, what: str, kind: type
) -> None:
    with pytest.raises(CountsError, match=what) as error:
        pp.check_counts(_damaged(part, position, value, kind), where="layers['counts']")
    assert error.value.where == "layers['counts']"
    assert error.value.remedy


def test_indices_and_values_of_different_length_are_refused() -> None:
    matrix = sparse.csr_matrix(DENSE)
    matrix.data = matrix.data[:-1]
    with pytest.raises(CountsError, match="4 indices for 3 values"):
        pp.library_sizes(matrix)


def test_entries_outside_a_matrix_given_by_entries_are_refused() -> None:
    matrix = sparse.coo_matrix(DENSE)
    matrix.col[0] = 7
    with pytest.raises(CountsError, match="outside its 3 genes"):
        pp.log1p_per_10k(matrix, np.ones(3))


@pytest.mark.parametrize("count", [2**24 + 1, 2**32, 2**40])
def test_counts_that_single_precision_cannot_hold_are_refused_and_not_rounded(count: int) -> None:
    with pytest.raises(CountsError, match="above 16,777,216"):
        read_counts(np.array([[count, 1]], dtype=np.int64), where="X")


def test_numbers_are_narrowed_only_where_they_stay_the_same() -> None:
    assert _matrices.narrowed(np.array([65_535.0]), np.uint16, where="X").dtype == np.uint16
    for values in (np.array([65_536]), np.array([-1]), np.array([0.5])):
        with pytest.raises(CountsError, match="cannot be held as uint16"):
            _matrices.narrowed(values, np.uint16, where="X")


def test_what_is_no_matrix_in_memory_is_refused_by_name() -> None:
    import dask.array

    with pytest.raises(BackedDataError, match="to_memory"):
        pp.library_sizes(dask.array.from_array(DENSE))
    for wrong in ([[1, 2]], "X", 3, {}):
        with pytest.raises(OptionError, match="Give an array or a sparse matrix"):
            pp.library_sizes(wrong)
    with pytest.raises(CountsError, match="shape"):
        pp.library_sizes(np.ones(3))
    with pytest.raises(CountsError, match="not numbers"):
        pp.library_sizes(np.array([["a"]]))


def test_library_sizes_are_exact_in_every_form() -> None:
    counts = np.full((1, 3), 2**24 - 1, dtype=np.float32)
    for form in (counts, sparse.csr_matrix(counts), sparse.csc_array(counts)):
        assert pp.library_sizes(form).tolist() == [3 * (2**24 - 1)]
