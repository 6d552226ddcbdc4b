"""Tables of vectors by name: what is read, what is refused, what is combined."""

from __future__ import annotations

import gzip

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import transpert as tp
from transpert.conditions import Embedding, as_embedding, combine
from transpert.errors import ConditionError, ControlError, OptionError, UnknownNameError


def table(n: int = 6, width: int = 3, prefix: str = "G", seed: int = 0) -> Embedding:
    values = np.random.default_rng(seed).normal(size=(n, width))
    return Embedding(tuple(f"{prefix}{i}" for i in range(n)), values, f"table {prefix}")


@given(st.permutations(range(6)))
@settings(deadline=None, max_examples=20)
def test_vectors_follow_their_names(order) -> None:
    start = table()
    names = [start.names[i] for i in order]
    np.testing.assert_array_equal(start.lookup(names), start.values[list(order)])
    np.testing.assert_array_equal(start.restrict(names).lookup(start.names), start.values)


def test_a_name_without_a_vector_is_listed_with_the_nearest_known() -> None:
    with pytest.raises(UnknownNameError, match="'G7x', 'GO1'.*'GO1' may be 'G1'.*never replaced by zeros"):
        table().lookup(["G1", "GO1", "G7x"])


def test_an_embedding_cannot_be_written_to_and_survives_a_change_of_its_source() -> None:
    values = np.eye(2)
    embedding = Embedding(("A", "B"), values)
    values[0] = 9
    assert embedding.lookup(["A"]).tolist() == [[1.0, 0.0]]
    with pytest.raises(ValueError, match="read-only"):
        embedding.values[0, 0] = 1


@pytest.mark.parametrize(
    ("names", "values", "blocks", "message"),
    [
        (("A", "A"), np.eye(2), (), "two vectors"),
        (("A",), np.eye(2), (), "1 names but values of the shape"),
        (("A", "B"), np.array([[1.0], [np.nan]]), (), "vectors of 1 names are NaN"),
        (("A", "B"), np.eye(2), (1, 2), "do not add up"),
    ],
)
def test_wrong_tables_are_refused(names, values, blocks, message) -> None:
    with pytest.raises(ConditionError, match=message):
        Embedding(names, values, blocks=blocks)


def test_frames_npz_and_h5ad_give_the_same_table(tmp_path) -> None:
    start = table()
    frame = start.to_frame()
    adata = anndata.AnnData(np.zeros((6, 1), dtype=np.float32), obs=pd.DataFrame(index=list(start.names)))
    adata.obsm["X_emb"] = np.asarray(start.values)
    adata.write_h5ad(tmp_path / "x.h5ad")
    np.savez(tmp_path / "x.npz", genes=np.array(start.names), embedding=start.values.astype(np.float16), n=np.array(3))
    genes = anndata.AnnData(np.zeros((1, 6), dtype=np.float32), var=pd.DataFrame(index=list(start.names)))
    genes.varm["PCs"] = np.asarray(start.values)
    for made in (
        Embedding.from_frame(frame),
        Embedding.from_frame(frame.rename_axis("gene").reset_index(), name_column="gene"),
        Embedding.from_npz(tmp_path / "x.npz"),
        Embedding.from_h5ad(tmp_path / "x.h5ad", key="X_emb"),
        Embedding.from_h5ad(genes, key="PCs", axis="var"),
    ):
        assert made.names == start.names
        np.testing.assert_allclose(made.values, start.values, atol=2e-3)


def test_wrong_files_and_frames_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "x.npz", a=np.array(["A"]), b=np.array(["B"]), c=np.eye(1))
    with pytest.raises(ConditionError, match="2 arrays could be the names: a, b"):
        Embedding.from_npz(tmp_path / "x.npz")
    with pytest.raises(UnknownNameError, match="'cc'"):
        Embedding.from_npz(tmp_path / "x.npz", names="a", values="cc")
    with pytest.raises(ConditionError, match="'species' are not numbers"):
        Embedding.from_frame(pd.DataFrame({"species": ["x"], "e0": [1.0]}, index=["A"]))
    with pytest.raises(OptionError, match="axis"):
        Embedding.from_h5ad(anndata.AnnData(np.eye(2)), axis="rows")


def test_tokens_of_a_trained_model() -> None:
    weight = torch.nn.Embedding(4, 2).weight
    made = Embedding.from_tokens(weight, ["<cls>", "A", "B", "C"])
    np.testing.assert_allclose(made.lookup(["B"]), weight[[2]].detach())
    with pytest.raises(ConditionError, match="rows beyond 4"):
        Embedding.from_tokens(weight, {"A": 7})


def test_combined_tables_are_on_one_footing_and_know_where_each_begins() -> None:
    wide = Embedding(tuple("ABCDE"), 1_000 * np.random.default_rng(0).normal(size=(5, 7)))
    narrow = Embedding(tuple("EDCBX"), np.random.default_rng(1).normal(size=(5, 2)))
    both = combine([wide, narrow])
    assert both.names == tuple("BCDE") and both.blocks == (7, 2)
    squares = both.values.astype(float) ** 2
    np.testing.assert_allclose(squares[:, :7].sum(axis=1).mean(), 1, rtol=1e-5)
    np.testing.assert_allclose(squares[:, 7:].sum(axis=1).mean(), 1, rtol=1e-5)
    doubled = combine([wide, narrow], weights=[1, 2])
    np.testing.assert_allclose(doubled.values[:, 7:], 2 * both.values[:, 7:], rtol=1e-5)
    with pytest.raises(UnknownNameError, match="'A'"):
        both.lookup(["A"])  # a name that one table lacks is not half a zero
    with pytest.raises(ConditionError, match="no name is in all"):
        combine([wide, Embedding(("Y", "Z"), np.eye(2))])
    with pytest.raises(OptionError, match="weight"):
        combine([wide], weights=[0])


def test_several_tables_are_combined_and_nothing_stays_nothing() -> None:
    assert as_embedding(None) is None
    assert as_embedding([table(), table(width=2).to_frame()]).blocks == (3, 2)
    assert set(table().shuffle(1).to_frame()["e0"]) == set(table().to_frame()["e0"])


def test_genes_of_one_programme_are_near_each_other_in_control_cells() -> None:
    rng = np.random.default_rng(0)
    programme = rng.normal(size=(400, 2))
    rates = np.exp(1.5 + 0.7 * np.repeat(programme, 10, axis=1))
    counts = rng.poisson(np.hstack([rates, np.full((400, 5), 4.0)]))
    obs = pd.DataFrame({"perturbation": ["control"] * 380 + ["A"] * 20}, index=[f"c{i}" for i in range(400)])
    adata = anndata.AnnData(counts.astype(np.float32), obs=obs)
    adata.var_names = [f"g{i}" for i in range(25)]
    adata.obs["library_size"] = 1e3
    made = tp.conditions.coexpression(adata, perturbation_key="perturbation", n_dimensions=3)
    assert set(made.nearest("g0", n=9).index) == {f"g{i}" for i in range(1, 10)}
    # what perturbed cells hold makes no difference
    adata.X[380:] = 77
    np.testing.assert_array_equal(
        tp.conditions.coexpression(adata, perturbation_key="perturbation", n_dimensions=3).values, made.values
    )
    # two cell types that differ in everything do not make genes co-expressed within them
    adata.obs["type"] = np.where(np.arange(400) % 2, "x", "y")
    adata.X[1:380:2, 20:] *= 5
    within = tp.conditions.coexpression(adata, perturbation_key="perturbation", context_keys="type", n_dimensions=3)
    across = tp.conditions.coexpression(adata, perturbation_key="perturbation", n_dimensions=3)
    product = [float(e.lookup(["g20"])[0] @ e.lookup(["g21"])[0]) for e in (within, across)]
    assert abs(product[0]) < 0.02 < 0.1 < product[1]
    with pytest.raises(ControlError, match="'DMSO'|0 control cells"):
        tp.conditions.coexpression(adata, perturbation_key="perturbation", control="DMSO")


def gaf(rows: list[tuple[str, str, str, str]]) -> str:
    body = ["\t".join(["UniProtKB", "id", gene, how, term, "ref", code, *[""] * 10]) for gene, term, how, code in rows]
    return "\n".join(["!gaf-version: 2.2", *body]) + "\n"


ROWS = [(f"A{i}", f"GO:a{j}", "involved_in", "IDA") for i in range(5) for j in range(3)] + [
    (f"B{i}", f"GO:b{j}", "involved_in", "IEA") for i in range(5) for j in range(3)
]


@pytest.mark.parametrize("zipped", [False, True])
def test_genes_that_share_terms_are_near_each_other(zipped, tmp_path) -> None:
    path = tmp_path / ("x.gaf.gz" if zipped else "x.gaf")
    text = gaf([*ROWS, ("A0", "GO:b0", "NOT|involved_in", "IDA"), ("C", "GO:b1", "", "ND")])
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    made = Embedding.from_gene_ontology(path, n_dimensions=4, max_share=1.0)
    # NOT and "nothing is known" are no annotations
    assert "C" not in made and set(made.nearest("A0", n=4).index) == {f"A{i}" for i in range(1, 5)}
    np.testing.assert_allclose(made.lookup(["A0"]), made.lookup(["A1"]), atol=1e-5)


def test_gene2go_with_species_and_symbols(tmp_path) -> None:
    lines = ["#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory"]
    lines += [f"9606\t{gene[1:] + gene[0]}\t{term}\tIDA\tinvolved_in\tx\t-\tProcess" for gene, term, *_ in ROWS]
    path = tmp_path / "gene2go"
    path.write_text("\n".join(lines))
    made = Embedding.from_gene_ontology(path, max_share=1.0, symbols={"0A": "STAT1"})
    assert "STAT1" in made and "1A" in made
    path.write_text("\n".join([*lines, "10090\t7\tGO:x\tIDA\tinvolved_in\tx\t-\tProcess"]))
    with pytest.raises(ConditionError, match="2 species"):
        Embedding.from_gene_ontology(path, max_share=1.0)
    assert len(Embedding.from_gene_ontology(path, max_share=1.0, taxon=9606)) == 10
    path.write_text("nothing of the kind\n")
    with pytest.raises(ConditionError, match="no annotation"):
        Embedding.from_gene_ontology(path)


def test_fingerprints_of_drugs() -> None:
    drugs = Embedding.from_smiles({"ethanol": "CCO", "ethanol again": "OCC", "benzene": "c1ccccc1"}, n_bits=256)
    np.testing.assert_array_equal(drugs.lookup(["ethanol"]), drugs.lookup(["ethanol again"]))
    assert drugs.dimension == 256 and not np.array_equal(drugs.values[0], drugs.values[2])
    with pytest.raises(ConditionError, match="2 drugs cannot be read: 'bad', 'none'"):
        Embedding.from_smiles({"good": "C", "bad": "C(((", "none": None})


def test_distances_are_in_units_of_those_between_known_names() -> None:
    line = Embedding(tuple("ABCDEF"), np.array([[0.0], [1.0], [2.0], [3.0], [7.0], [3.5]]))
    known = ["A", "B", "C", "D"]
    assert [line.distance(name, known) for name in "BEF"] == pytest.approx([0, 4, 0.5])
    # the units of a table make no difference, nor does it how wide the other one is
    both = combine([line, Embedding(line.names, np.zeros((6, 5)))])
    assert both.distance("E", known) == pytest.approx(4, rel=1e-5)
