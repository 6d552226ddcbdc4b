"""Functions hold what they are given against what their annotations say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import transpert as tp
from transpert._signatures import as_annotated
from transpert.errors import CountsError, MetricInputError, OptionError


@as_annotated(effects="... G", weights="finite G", rows="positions M", labels="labels N")
def asked(
    effects: np.ndarray,
    weights: np.ndarray,
    *,
    rows: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    share: float = 0.5,
    n: int = 1,
    kind: Literal["one", "other"] = "one",
    names: Sequence[str] = (),
    seed: int = 0,
) -> tuple[int, ...]:
    return np.shape(effects)


def test_what_fits_is_passed_on() -> None:
    table = pd.DataFrame(np.ones((2, 3)))
    assert asked(table, [1, 2, 3], share=np.float32(0.1), n=np.int64(4), names=["a"], labels=["x", "y"]) == (2, 3)
    assert asked(np.ones((2, 2, 3)), np.ones(3), rows=np.array([0, 1])) == (2, 2, 3)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"effects": "x"}, "effects is 'x'. Give an array of numbers"),
        ({"effects": tp.datasets.simulate(n_genes=3, n_cells=3)}, "effects is AnnData"),
        ({"effects": 1.0}, r"effects has shape \(\), not \(..., G\)"),
        ({"weights": np.ones(2)}, "weights has 2 entries along G, effects has 3"),
        ({"weights": [1, np.nan, 1]}, "NaN or infinite"),
        ({"weights": [[1, 2], [3]]}, "Give an array of numbers"),
        ({"rows": [-1]}, "no positions"),
        ({"rows": [0.5]}, "no positions"),
        ({"labels": [["x"]]}, r"labels has shape \(1, 1\)"),
        ({"labels": np.array(["x", None], dtype=object)}, "labels is"),
        ({"share": True}, "share is True. Give a number"),
        ({"share": np.nan}, "share is nan"),
        ({"n": 1.5}, "n is 1.5. Give a whole number"),
        ({"n": 10**30}, "n is 10+"),
        ({"kind": "none"}, "one of 'one', 'other'"),
        ({"names": "abc"}, "names is 'abc'. Give a list of text"),
        ({"names": ["a", 3]}, "Give a list of text"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_does_not_fit_is_named_with_what_to_give(wrong, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        asked(**{"effects": np.ones((2, 3)), "weights": np.ones(3), **wrong})


def test_errors_of_metrics_are_errors_of_their_input() -> None:
    with pytest.raises(MetricInputError, match="predicted is 'x'"):
        tp.metrics.mse("x", np.ones((2, 3)))


def test_codes_and_matrices_that_point_outside_are_refused_before_anything_compiled_reads_them() -> None:
    counts, sizes = sparse.csr_matrix(np.ones((3, 2))), np.full(3, 10.0)
    for codes, n_groups in ((np.array([0, 1, 7]), 2), (np.array([0, -2, 1]), 2), (np.array([0.0, 1.0, 1.0]), 2)):
        with pytest.raises(OptionError, match="codes is .* number of a group, from 0 to 1"):
            tp.transport.group_statistics(counts, sizes, codes, n_groups)
    counts.indices[0] = 10_000
    with pytest.raises(CountsError, match="outside its 2 genes"):
        tp.transport.group_statistics(counts, sizes, np.array([0, 0, 1]), 2)
