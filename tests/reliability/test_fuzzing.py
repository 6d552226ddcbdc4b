"""Odd arguments and odd cells end in errors with a remedy, or in sound results; what was given stays as it was."""

from __future__ import annotations

import anndata as ad
import mudata
import pytest
from tests.reliability.fuzzing import run, state_of
from tests.reliability.odd import KEYS, cells
from tests.reliability.workshop import Workshop


def test_odd_calls_end_in_sound_results_or_in_errors_with_a_remedy() -> None:
    report = run(300, seed=11, slow=False)
    assert not report.faults, "\n".join(report.faults)
    assert sum(report.outcomes.values()) == 300
    assert report.outcomes["results"] > 60
    assert report.outcomes["refused"] > 60


# what is written into the cells is what these functions are for
WRITES = {"split": "obs", "load_split": "obs", "split by": "obs", "setup and train": "obs",
          "setup and train anchor": "obs", "setup_mudata": "obs", "normalize": "layers",
          "effect_shares": "uns", "rank_targets": "uns",
          "setup": "obs", "rank_genes_groups": "uns", "effects": "varm",
          "tl.predict": "layers", "evaluate": "uns", "load": "obs", "get_effects": "varm"}  # fmt: skip


def test_every_function_leaves_the_cells_that_it_is_given_as_they_were(tmp_path) -> None:
    shop = Workshop(tmp_path)
    for entry in shop.entries():
        given = entry.given()
        takes_cells = any(isinstance(value, ad.AnnData | mudata.MuData) for value in given.values())
        if not takes_cells or entry.name == "pl.report":  # which takes long, and whose parts are called by themselves
            continue
        before = {name: state_of(value) for name, value in given.items()}
        entry.call(**given)
        for name, state in before.items():
            after = state_of(given[name])
            for part, there in state.items() if isinstance(state, dict) else [("", state)]:
                now = after[part] if isinstance(state, dict) else after
                if there is None or entry.name == "normalize":  # which writes X itself
                    continue
                assert now[0][: len(there[0])] == there[0], f"{entry.name} changed the matrices of {name}"
                assert now[2:4] == there[2:4], f"{entry.name} changed the names of {name}"
                if entry.name not in WRITES and not entry.name.startswith("train "):
                    assert now == there, f"{entry.name} changed {name}"


@pytest.mark.parametrize("fails", ["no such column", "another state"])
def test_a_load_that_fails_leaves_the_cells_as_they_were(tmp_path, monkeypatch, fails: str) -> None:
    import transpert as tp
    from transpert.errors import TranspertError

    model = Workshop.trained(cells(), layer="counts", **KEYS)
    model.save(tmp_path / "model")
    adata = cells()
    if fails == "no such column":
        del adata.obs["context"]
    else:
        monkeypatch.setattr(tp.MeanShift, "_restore", lambda self, plain, arrays: plain["no such entry"])
    before = state_of(adata)
    with pytest.raises(TranspertError):
        tp.MeanShift.load(tmp_path / "model", adata)
    assert state_of(adata) == before
    assert not [column for column in adata.obs if str(column).startswith("_scvi")]


def test_duplicated_columns_are_named() -> None:
    import pandas as pd

    import transpert as tp
    from transpert.errors import TranspertError

    adata = cells()
    adata.obs = pd.concat([adata.obs, adata.obs[["context"]]], axis=1)
    for use in (tp.tl.effects, lambda data: tp.tl.evaluate(data, data), lambda data: tp.pp.split(data, by="context")):
        with pytest.raises(TranspertError, match=r"'context'.*more than once.*duplicated"):
            use(adata)
