"""Seeds are checked alike wherever something is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert._seeds import check_seed
from transpert.conditions import Embedding
from transpert.errors import OptionError
from transpert.groups import Design

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=12, seed=0)


def _scale(cells, seed: Any) -> None:
    tp.SCALE.setup_anndata(cells, **KEYS)
    tp.SCALE(cells, preset="tiny", joining="always", seed=seed)


def _predict(cells, seed: Any) -> None:
    tp.MeanShift.setup_anndata(cells, **KEYS)
    model = tp.MeanShift(cells)
    model.train()
    model.predict(progress=False, seed=seed)


def _compare(cells, seed: Any) -> None:
    tp.tl.compare(pd.DataFrame({"model": []}), "mine", "yours", seed=seed)


DRAWS: dict[str, Callable[..., Any]] = {
    "SCALE": _scale,
    "predict": _predict,
    "evaluate": lambda cells, seed: tp.tl.evaluate(cells, cells, seed=seed),
    "audit": lambda cells, seed: tp.tl.audit(None, cells, seed=seed),
    "compare": _compare,
    "embed_together": lambda cells, seed: tp.tl.embed_together(cells, cells, umap=False, seed=seed),
    "split": lambda cells, seed: tp.pp.split(cells, by="pair", context_keys="context", seed=seed),
    "simulate": lambda cells, seed: tp.datasets.simulate(seed=seed),
    "shuffle": lambda cells, seed: Embedding(("A", "B"), np.eye(2)).shuffle(seed),
    "build_store": lambda cells, seed: tp.data.build_store(
        [cells], "never.zarr", Design("perturbation", "control"), layer="counts", seed=seed
    ),
}


@pytest.mark.parametrize("seed", [-1, None, 0.5, "1"])
@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_is_a_whole_number_from_0_upwards(cells, name, seed) -> None:
    adata = cells.copy()
    with pytest.raises(OptionError, match=f"seed is {seed!r}.*whole number from 0 upwards"):
        DRAWS[name](adata, seed)
    assert "split" not in adata.obs


def test_whole_numbers_of_any_type_are_seeds() -> None:
    assert type(check_seed(np.int64(3))) is int
    assert check_seed(0) == 0


def test_a_seed_that_torch_cannot_hold_is_refused() -> None:
    assert check_seed(2**63 - 1) == 2**63 - 1
    with pytest.raises(OptionError, match="Give a whole number below"):
        check_seed(10**30)
