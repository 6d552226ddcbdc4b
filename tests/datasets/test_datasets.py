from __future__ import annotations

import dataclasses
import inspect

import anndata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

import transpert as tp
from transpert.errors import ConditionError, CountsError, DownloadError, OptionError


def test_embedded_cells_are_counts_of_blood() -> None:
    adata = tp.datasets.kang18()
    tp.pp.check_counts(adata.layers["counts"], where="counts")
    tp.pp.check_log1p(adata.X, where="X")
    assert (adata.obs["library_size"] >= np.asarray(adata.layers["counts"].sum(axis=1)).ravel()).all()
    sizes = adata.obs.groupby(["cell_type", "perturbation"], observed=True).size()
    assert len(sizes) == 16 and sizes.min() >= 100
    # interferon switches ISG15 on in every type; B cells express MS4A1
    isg15 = pd.Series(adata[:, "ISG15"].X.toarray().ravel(), index=adata.obs_names)
    means = isg15.groupby([adata.obs["cell_type"], adata.obs["perturbation"]], observed=True).mean().unstack()
    assert (means["IFNB"] > means["control"] + 1).all()
    ms4a1 = pd.Series(adata[:, "MS4A1"].X.toarray().ravel(), index=adata.obs_names)
    assert ms4a1.groupby(adata.obs["cell_type"], observed=True).mean().idxmax() == "B"


def test_a_fresh_copy_every_time() -> None:
    first = tp.datasets.kang18()
    first.obs["perturbation"] = "spoiled"
    assert "IFNB" in set(tp.datasets.kang18().obs["perturbation"])


def empirical(adata, context, label) -> np.ndarray:
    cells = adata[adata.obs["context"] == context]
    rate = cells.layers["counts"].toarray() / cells.obs["library_size"].to_numpy()[:, None] * 1e4
    one, zero = (rate[(cells.obs["perturbation"] == p).to_numpy()].mean(axis=0) for p in (label, "control"))
    return np.log((one + 0.5) / (zero + 0.5))


def test_simulated_effects_are_the_true_ones() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=200, n_cells=1500, null=0.5)
    for name in adata.varm["true_effects"]:
        context, label = name.split(": ")
        truth = adata.varm["true_effects"][name]
        measured = empirical(adata, context, label)
        if (truth == 0).all():
            assert np.abs(measured).max() < 0.6
        else:
            assert np.corrcoef(truth, measured)[0, 1] > 0.95


def test_doses_are_monotone_and_pairs_interact() -> None:
    adata = tp.datasets.simulate(
        n_contexts=1,
        n_perturbations=2,
        n_genes=100,
        n_cells=20,
        doses=(0.1, 1.0, 10.0),
        n_combinations=1,
        interaction=-0.5,
    )
    truth = adata.varm["true_effects"]
    sizes = [np.abs(truth[f"context_0: P0, dose {d:g}"]).sum() for d in (0.1, 1.0, 10.0)]
    assert sizes == sorted(sizes)
    total = truth["context_0: P0, dose 10"] + truth["context_0: P1, dose 10"]
    np.testing.assert_allclose(truth["context_0: P0+P1, dose 10"], 0.5 * total, rtol=1e-6)


def test_embeddings_explain_simulated_effects() -> None:
    adata = tp.datasets.simulate(
        n_contexts=1, n_perturbations=40, n_genes=60, n_cells=2, embedding_dimension=3, embedding_noise=0.05,
        context_dependence="none", moved=1.0,
    )  # fmt: skip
    embedding = adata.uns["simulation"]["embedding"].to_numpy()
    effects = adata.varm["true_effects"].to_numpy().T
    fitted = embedding @ np.linalg.lstsq(embedding, effects, rcond=None)[0]
    assert 1 - ((effects - fitted) ** 2).sum() / (effects**2).sum() > 0.9


def test_a_simulated_screen_can_be_written(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=5, times=(1.0, 2.0))
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.write_zarr(tmp_path / "a.zarr")
    assert tp.datasets.true_effects(anndata.read_h5ad(tmp_path / "a.h5ad")).shape == (160, 4)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(OptionError):
        tp.datasets.simulate(n_contxts=3)
    with pytest.raises(OptionError):
        tp.datasets.simulate(n_perturbations=2, n_combinations=5)


LAYOUTS = {
    "norman19": ("perturbation_name", ["control", "KLF1", "KLF1+MAP2K6"], "counts"),
    "papalexi21": ("gene_target", ["NT", "STAT1", "JAK2"], None),
    "sciplex3": ("product_name", ["Vehicle", "Drug A", "Drug B"], None),
    "replogle22": ("gene", ["non-targeting", "GATA1", "MYC"], None),
    "kang18_full": ("label", ["ctrl", "stim", "stim"], None),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_files_come_in_one_form(name, tmp_path) -> None:
    column, labels, layer = LAYOUTS[name]
    counts = sparse.csr_matrix(np.arange(1, 13).reshape(3, 4).astype(np.float32))
    adata = anndata.AnnData(counts, obs=pd.DataFrame({column: labels}, index=list("abc")))
    if layer:
        adata.layers[layer] = counts
        adata.X = counts * 0.5
    path = tmp_path / "file.h5ad"
    adata.write_h5ad(path)
    loaded = getattr(tp.datasets, name)(path=path)
    assert loaded.obs["perturbation"].tolist()[0] == "control"
    # Kang's file says how cells were treated, not with what
    assert loaded.obs["perturbation"].tolist()[1] == ("IFNB" if name == "kang18_full" else labels[1])
    np.testing.assert_array_equal(loaded.layers["counts"].toarray(), counts.toarray())
    assert loaded.obs["library_size"].tolist() == [10, 26, 42]
    # as pertpy.data has read it; of several modalities that of RNA
    for theirs in (adata, MuData({"rna": adata})):
        same = getattr(tp.datasets, name)(adata=theirs)
        assert same.obs.equals(loaded.obs) and (same.layers["counts"] != loaded.layers["counts"]).nnz == 0
    with pytest.raises(OptionError, match="both"):
        getattr(tp.datasets, name)(path=path, adata=adata)


def test_every_public_set_is_one_that_pertpy_loads_from_the_same_place() -> None:
    from pertpy.data import _datasets

    source = inspect.getsource(_datasets)
    assert all(entry.url in source for entry in tp.datasets.PUBLIC_SETS.values())


@pytest.mark.parametrize(
    ("name", "column", "label", "expected"),
    [
        ("norman19", "guide_ids", "KLF1,MAP2K6", "KLF1+MAP2K6"),
        ("norman19", "perturbation_name", "ctrl+KLF1", "KLF1"),
        ("sciplex3", "product_name", "(+)-JQ1", "(plus)-JQ1"),
    ],
)
@pytest.mark.filterwarnings("ignore::transpert.errors.AssumptionWarning")
def test_combinations_are_told_from_names(name, column, label, expected, tmp_path) -> None:
    control = {"norman19": "ctrl", "sciplex3": "Vehicle"}[name]
    obs = pd.DataFrame({column: [control, label, None]}, index=list("abc"))
    anndata.AnnData(sparse.csr_matrix(np.ones((3, 2), np.float32)), obs=obs).write_h5ad(tmp_path / "file.h5ad")
    loaded = getattr(tp.datasets, name)(path=tmp_path / "file.h5ad")
    assert loaded.obs["perturbation"].tolist() == ["control", expected]  # the unlabelled cell is left out


def test_what_a_public_file_does_not_say_stays_missing(tmp_path) -> None:
    obs = pd.DataFrame({"gene": ["non-targeting", "GATA1"], "cell_type": ["B", None]}, index=["a", "b"])
    anndata.AnnData(sparse.csr_matrix(np.ones((2, 2), np.float32)), obs=obs).write_h5ad(tmp_path / "file.h5ad")
    entry = dataclasses.replace(tp.datasets.PUBLIC_SETS["replogle22"], columns={"cell_type": "cell_type"})
    loaded = tp.datasets.read_public(entry, path=tmp_path / "file.h5ad")
    assert loaded.obs["cell_type"].isna().tolist() == [False, True]


def test_files_that_are_not_what_they_should_be(tmp_path) -> None:
    path = tmp_path / "file.h5ad"
    anndata.AnnData(np.ones((2, 2)), obs=pd.DataFrame({"gene": ["X", "Y"]}, index=["a", "b"])).write_h5ad(path)
    with pytest.raises(ConditionError, match="non-targeting"):
        tp.datasets.replogle22(path=path)
    with pytest.raises(ConditionError, match="none of the columns"):
        tp.datasets.sciplex3(path=path)
    labels = pd.DataFrame({"gene": ["non-targeting", "GATA1"]}, index=["a", "b"])
    anndata.AnnData(np.full((2, 2), 0.5), obs=labels).write_h5ad(path)
    with pytest.raises(CountsError):
        tp.datasets.replogle22(path=path)
    with pytest.raises(DownloadError, match="replogle"):
        tp.datasets.replogle22(path=tmp_path / "absent.h5ad")


def test_offline_says_where_to_put_the_file(monkeypatch, tmp_path) -> None:
    from dataclasses import replace

    monkeypatch.setenv("TRANSPERT_DATA", str(tmp_path))
    entry = replace(tp.datasets.PUBLIC_SETS["norman19"], url="http://127.0.0.1:9/norman.h5ad")
    with pytest.raises(DownloadError, match="norman19.h5ad"):
        tp.datasets.read_public(entry)


def test_what_all_perturbations_do_alike() -> None:
    # enough moved genes that their average is near what is expected
    options = {"n_contexts": 1, "n_perturbations": 40, "n_genes": 1_000, "n_cells": 5, "context_dependence": "none"}
    options |= {"moved": 1.0}
    shares = []
    for size in (0.0, 1.0):
        adata = tp.datasets.simulate(**options, embedding_dimension=4, systematic_effect=size)
        truth = adata.varm["true_effects"].to_numpy()
        shares.append((truth.mean(axis=1) ** 2).sum() / (truth**2).mean(axis=1).sum())
    # of independent effects a fortieth is common by chance; with as much in common as not it is one half
    assert shares[0] < 0.08 and 0.45 < shares[1] < 0.55
