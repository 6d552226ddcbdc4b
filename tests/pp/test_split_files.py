from __future__ import annotations

import anndata
import numpy as np
import pytest

import transpert as tp
from transpert import pp
from transpert.errors import OptionError, SplitError, UnknownNameError
from transpert.groups import Design

DESIGN = Design("perturbation", "control", ("context",))


@pytest.fixture
def screen() -> anndata.AnnData:
    return tp.datasets.simulate(n_contexts=4, n_perturbations=4, n_genes=150, n_cells=10)


def test_a_split_comes_back_from_json_from_uns_and_from_cell_load(screen, tmp_path) -> None:
    pp.split(screen, by="pair", fraction=0.3, validation=0.2, context_keys="context")
    screen.write_h5ad(tmp_path / "cells.h5ad")
    written = anndata.read_h5ad(tmp_path / "cells.h5ad").uns["split"]
    pp.save_split(screen, tmp_path / "split.json")
    pp.save_split(screen, tmp_path / "split.toml")
    sources = {
        "uns": (written, None),
        "json": (tmp_path / "split.json", None),
        "toml": (tmp_path / "split.toml", DESIGN),
    }
    for name, (source, design) in sources.items():
        other = screen[::-1].copy()
        pp.load_split(other, source, design=design, key_added=name)
        assert (other.obs[name].astype(str) == screen.obs["split"].astype(str).reindex(other.obs_names)).all()
        assert set(other.uns[name]) == set(screen.uns["split"])


def test_a_split_by_dose_is_kept_and_cell_load_cannot_say_it(tmp_path) -> None:
    cells = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=30, n_cells=12)
    cells.obs["dose"] = np.where(cells.obs["perturbation"] == "control", np.nan, np.arange(cells.n_obs) % 3 + 1.0)
    pp.split(cells, by="dose", choice="inside", dose_key="dose")
    pp.save_split(cells, tmp_path / "split.json")
    again = cells.copy()
    pp.load_split(again, tmp_path / "split.json")
    assert again.obs["split"].tolist() == cells.obs["split"].tolist()
    assert set(again.obs.loc[again.obs["split"] == "test", "dose"]) == {2.0}
    with pytest.raises(SplitError, match="cell-load knows one context column"):
        pp.save_split(cells, tmp_path / "split.toml")
    assert not (tmp_path / "split.toml").exists()


def test_what_is_no_split_of_these_cells_is_refused(screen, tmp_path) -> None:
    with pytest.raises(SplitError, match="there is no split"):
        pp.save_split(screen, tmp_path / "split.json")
    pp.split(screen, holdout={"context": "context_1"})
    pp.save_split(screen, tmp_path / "split.json")
    pp.save_split(screen, tmp_path / "split.toml")
    with pytest.raises(OptionError, match="does not say which columns"):
        pp.load_split(screen, tmp_path / "split.toml")
    with pytest.raises(UnknownNameError, match="data set"):
        pp.load_split(screen, tmp_path / "split.toml", design=DESIGN, dataset="other")
    more = screen.copy()
    more.obs["context"] = more.obs["context"].astype(str).replace("context_2", "context_9")
    with pytest.raises(SplitError, match="context_9"):
        pp.load_split(more, tmp_path / "split.json", key_added="other")
    assert "other" not in more.obs
    text = (tmp_path / "split.json").read_text().replace("test", "train", 1)
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(SplitError, match="checksum"):
        pp.load_split(screen, tmp_path / "split.json")


def planted(screen, leak: str) -> anndata.AnnData:
    """The cells, with one thing of the test set in training too."""
    adata = screen.copy()
    test = np.flatnonzero((adata.obs["context"] == "context_1") & (adata.obs["perturbation"] == "P1"))
    if leak == "cells":
        twin = adata[test[:3]].copy()
        twin.obs["context"], twin.obs_names = "context_0", [f"twin_{i}" for i in range(3)]
        return anndata.concat([adata, twin])
    adata.obs["split"] = np.where(np.isin(np.arange(adata.n_obs), test), "test", "train")
    if leak == "divided":
        adata.obs.loc[adata.obs_names[test[0]], "split"] = "train"
    if leak == "twin":
        adata.obs["perturbation"] = adata.obs["perturbation"].astype(str)
        alike = np.flatnonzero(adata.obs["perturbation"] == "P1")
        adata.obs.loc[adata.obs_names[alike[::2]], "perturbation"] = "P1_twin"
        adata.obs["split"] = np.where(adata.obs["perturbation"] == "P1_twin", "test", "train")
    return adata


def test_a_cell_that_is_in_two_splits_is_refused_by_default(screen) -> None:
    adata = planted(screen, "cells")
    with pytest.raises(SplitError, match=r"3 cells with the values of a cell in another split"):
        pp.split(adata, holdout={"context": "context_1"})
    assert "split" not in adata.obs
    pp.split(screen, holdout={"context": "context_1"}, on_leak="refuse")  # without the planted cells nothing leaks


@pytest.mark.parametrize(
    ("leak", "said"),
    [("divided", "groups divided"), ("twin", "held-out perturbations with the effect of one in training")],
)
def test_a_planted_leak_of_a_split_made_elsewhere_is_refused(leak, said) -> None:
    screen = tp.datasets.simulate(n_contexts=2, n_perturbations=5, n_genes=200, n_cells=80, effect_size=1.0)
    design = Design("perturbation", "control", ("context",), split_key="split")
    adata = planted(screen, leak)
    with pytest.raises(SplitError, match=said):
        pp.check_split(adata, design)
    report = pp.check_split(adata, design, on_leak="report").set_index("check")["found"]
    assert report.filter(like=said).item() == 1 and report.sum() == 1


def test_the_order_of_genes_in_memory_does_not_hide_a_cell(screen) -> None:
    from transpert.pp._splits.leakage import _fingerprints

    matrix = screen.X.tocsr()[:5].copy()
    other = matrix.copy()
    for row in range(5):  # the same values, stored the other way round
        place = slice(other.indptr[row], other.indptr[row + 1])
        other.indices[place], other.data[place] = other.indices[place][::-1].copy(), other.data[place][::-1].copy()
    other.has_sorted_indices = False
    assert (_fingerprints(matrix)[0] == _fingerprints(other)[0]).all()
    assert len(set(_fingerprints(matrix)[0])) == 5


def test_the_split_of_lazy_cells_is_written_as_that_of_cells_in_memory(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=10, n_cells=10)
    tp.pp.split(adata, holdout={"context": "context_0"})
    adata.write_h5ad(tmp_path / "cells.h5ad")
    tp.pp.save_split(adata, tmp_path / "memory.json")
    tp.pp.save_split(anndata.experimental.read_lazy(tmp_path / "cells.h5ad"), tmp_path / "lazy.json")
    assert (tmp_path / "lazy.json").read_text() == (tmp_path / "memory.json").read_text()


@pytest.mark.parametrize(("entry", "value"), [("groups", "x"), ("arguments", "[]"), ("kind", 3), ("leakage", None)])
def test_a_split_that_was_changed_by_hand_is_no_split(tmp_path, entry, value) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=10, n_cells=10)
    tp.pp.split(adata, holdout={"context": "context_0"})
    adata.uns["split"][entry] = value
    with pytest.raises(SplitError, match=r"there is no split .*Call tp\.pp\.split"):
        tp.pp.save_split(adata, tmp_path / "split.json")
