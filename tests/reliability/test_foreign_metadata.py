"""What somebody else keeps under our name in ``uns`` is neither overwritten nor taken for ours."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reliability.odd import KEYS, cells

import transpert as tp
from transpert.errors import OptionError

FOREIGN = ["a note", ["a", "list"], np.arange(3), 3, {"mine": 1}, {"scores": "x", "targets": "x", "effect_shares": "x"}]


@pytest.fixture(scope="module")
def model():
    adata = cells()
    tp.KernelTransport.setup_anndata(adata, layer="counts", split_key="split", **KEYS)
    model = tp.KernelTransport(adata)
    model.train()
    return model


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
def test_what_is_not_ours_is_left_alone(model, foreign) -> None:
    pred = model.predict(progress=False)
    design = tp.groups.Design("perturbation", "control", ("context",))
    wanted = model.get_effects().iloc[:, 0]
    for write in (
        lambda adata: tp.tl.evaluate(pred, adata, n_bootstrap=0, progress=False),
        lambda adata: tp.tl.effect_shares(adata, design=design, n_splits=2, n_bootstrap=2),
        lambda adata: tp.tl.rank_targets(model, wanted, adata=adata, n_cells=10, progress=False),
    ):
        adata = cells()
        adata.uns["transpert"] = foreign
        with pytest.raises(OptionError, match=r"did not write is kept there.*Move it: adata.uns\['mine'\]"):
            write(adata)
        assert adata.uns["transpert"] is foreign


def test_what_is_ours_is_added_to(model) -> None:
    adata, pred = cells(), model.predict(progress=False)
    design = tp.groups.Design("perturbation", "control", ("context",))
    tp.tl.effect_shares(adata, design=design, n_splits=2, n_bootstrap=2, key_added="mine")
    tp.tl.evaluate(pred, adata, n_bootstrap=0, progress=False)
    tp.tl.evaluate(pred, adata, n_bootstrap=0, progress=False)
    assert set(adata.uns["transpert"]) == {"mine", "scores"}
