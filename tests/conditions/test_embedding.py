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
from scipy import sparse

import transpert as tp
from transpert.conditions import Embedding, as_embedding, coexpression_of, combine, fingerprints, gene_ontology
from transpert.conditions.embeddings import coexpression as expression
from transpert.errors import ConditionError, ControlError, CountsError, OptionError, UnknownNameError


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


def test_a_name_without_a_vector_is_listed_with_what_it_may_be() -> None:
    with pytest.raises(UnknownNameError, match="'G7x', 'g_1'.*'g_1' may be 'G1'.*never replaced by zeros"):
        table().lookup(["G1", "g_1", "G7x"])


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
        ("AB", np.eye(2), (), "names are one string, 'AB'"),
        ((), np.zeros((0, 3)), (), "there are no names"),
        (("A", None), np.eye(2), (), "1 names are missing .*row 1"),
        (("A", np.nan), np.eye(2), (), "1 names are missing"),
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


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"x": [1.0, 2.0]}, index=["A", np.nan]), "1 names are missing"),
        (pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index(["A", None], dtype="str")), "1 names are missing"),
        (pd.DataFrame({"x": []}, index=pd.Index([], dtype=str), dtype=float), "there are no names"),
        (pd.DataFrame({"x": [1.0]}, index=pd.MultiIndex.from_tuples([("A", "B")])), "index has 2 levels"),
    ],
)
def test_frames_without_a_name_for_every_row_are_refused(frame, message) -> None:
    with pytest.raises(ConditionError, match=message):
        Embedding.from_frame(frame)


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix])
def test_sparse_vectors_are_read_as_dense_ones(make) -> None:
    values = np.array([[0.0, 2.0], [3.0, 0.0]])
    for made in (Embedding(("A", "B"), make(values)), Embedding.from_tokens(make(values), ["A", "B"])):
        np.testing.assert_array_equal(made.values, values)


def test_a_string_is_one_name_and_not_its_letters() -> None:
    made = Embedding(("A", "B", "KLF1"), np.eye(3))
    np.testing.assert_array_equal(made.lookup("KLF1"), [[0, 0, 1]])
    assert made.restrict("KLF1").names == ("KLF1",)
    made.require("KLF1")
    with pytest.raises(UnknownNameError, match="unknown name in the embedding: 'AB'"):
        made.require("AB")
    with pytest.raises(UnknownNameError, match="'AB'"):
        made.lookup("AB")
    assert made.distances(["A"], "KLF1")["A"] == made.distances(["A"], ["KLF1"])["A"]
    with pytest.raises(ConditionError, match="one string"):
        Embedding.from_tokens(np.eye(2), "AB")


def test_names_stored_as_objects_are_refused_with_the_remedy(tmp_path) -> None:
    path = tmp_path / "x.npz"
    objects = np.array(["A", "B"], dtype=object)
    np.savez(path, genes=objects, vectors=np.eye(2))
    for keys in ({}, {"names": "genes"}, {"names": "genes", "values": "vectors"}):
        with pytest.raises(ConditionError, match="'genes' hold objects.*x.npz.*dtype=str"):
            Embedding.from_npz(path, **keys)
    with pytest.raises(UnknownNameError, match="Did you mean 'genes'"):
        Embedding.from_npz(path, names="gene")
    # what is not needed may be of any kind
    np.savez(path, genes=objects.astype(str), vectors=np.eye(2), notes=objects)
    assert Embedding.from_npz(path).names == ("A", "B")
    np.save(tmp_path / "x.npy", objects)
    with pytest.raises(ConditionError, match="no npz file"):
        Embedding.from_npz(tmp_path / "x.npy")
    with pytest.raises(ConditionError, match="does not exist.*Check the path"):
        Embedding.from_npz(tmp_path / "absent.npz")


def test_a_token_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ConditionError, match="two vectors, for example 'A'"):
        Embedding.from_tokens(np.eye(3), ["A", "B", "A"])


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


NO_TABLES = {
    "word": "coexpression",
    "bytes": b"coexpression",
    "array": np.eye(3),
    "mapping": {"esm": table().to_frame()},
    "series": pd.Series([1.0], index=["A"]),
    "number": 3,
    "word among tables": ["coexpression", table()],
    "array among tables": [table(), np.eye(6)],
    "nothing among tables": [table(), None],
    "list among tables": [[table()]],
}


@pytest.mark.parametrize("given", NO_TABLES.values(), ids=NO_TABLES.keys())
def test_what_is_no_table_is_refused_with_what_is_accepted(given) -> None:
    for read in (as_embedding, combine):
        with pytest.raises(OptionError, match="is not a table of vectors by name.*Give an Embedding, a DataFrame"):
            read(given)


def test_one_table_is_not_several() -> None:
    for one in (table(), table().to_frame()):
        with pytest.raises(OptionError, match="not a table"):
            combine(one)


def test_frames_can_be_combined() -> None:
    made = combine([table().to_frame(), table(width=2)])
    np.testing.assert_array_equal(made.values, combine([table(), table(width=2)]).values)
    assert made.source == "a DataFrame + table G"


def test_a_name_that_a_table_lacks_is_reported_with_the_table() -> None:
    first, second = Embedding(("A", "B", "C"), np.eye(3), "esm"), Embedding(("B", "C", "D"), np.eye(3), "go")
    both = combine([first, second])
    with pytest.raises(UnknownNameError, match=r"'A' is not in table 2 \(go\), 'D' is not in table 1 \(esm\)\. A name"):
        both.require(["A", "D", "B"])
    with pytest.raises(UnknownNameError) as error:
        both.require(["X"])
    assert "is not in table" not in str(error.value)
    third = Embedding(("B", "C", "X"), np.eye(3), "string")
    with pytest.raises(UnknownNameError, match=r"'X' is not in table 1 \(esm \+ go\)"):
        combine([both, third]).lookup(["X"])


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


def gene2go(rows: list[tuple[str, str]], taxon: int = 9606, how: str = "involved_in") -> list[str]:
    return [f"{taxon}\t{gene}\t{term}\tIDA\t{how}\tx\t-\tProcess" for gene, term in rows]


# two programmes of three genes, of two terms each
PAIRS = [(f"{gene}", f"GO:{gene // 10}{term}") for gene in (10, 11, 12, 20, 21, 22) for term in range(2)]


ROWS = [(f"A{i}", f"GO:a{j}", "involved_in", "IDA") for i in range(5) for j in range(3)] + [
    (f"B{i}", f"GO:b{j}", "involved_in", "IEA") for i in range(5) for j in range(3)
]


@pytest.mark.parametrize("zipped", [False, True])
def test_genes_that_share_terms_are_near_each_other(zipped, tmp_path) -> None:
    path = tmp_path / ("x.gaf.gz" if zipped else "x.gaf")
    text = gaf([*ROWS, ("A0", "GO:b0", "NOT|involved_in", "IDA"), ("C", "GO:b1", "", "ND")])
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    made = gene_ontology(path, n_dimensions=4, max_share=1.0)
    # NOT and "nothing is known" are no annotations
    assert "C" not in made and set(made.nearest("A0", n=4).index) == {f"A{i}" for i in range(1, 5)}
    np.testing.assert_allclose(made.lookup(["A0"]), made.lookup(["A1"]), atol=1e-5)


def test_gene2go_with_species_and_symbols(tmp_path) -> None:
    lines = ["#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory"]
    lines += [f"9606\t{gene[1:] + gene[0]}\t{term}\tIDA\tinvolved_in\tx\t-\tProcess" for gene, term, *_ in ROWS]
    path = tmp_path / "gene2go"
    path.write_text("\n".join(lines))
    made = gene_ontology(path, max_share=1.0, symbols={"0A": "STAT1"})
    assert "STAT1" in made and "1A" in made
    path.write_text("\n".join([*lines, "10090\t7\tGO:x\tIDA\tinvolved_in\tx\t-\tProcess"]))
    with pytest.raises(ConditionError, match="2 species"):
        gene_ontology(path, max_share=1.0)
    assert len(gene_ontology(path, max_share=1.0, taxon=9606)) == 10
    path.write_text("nothing of the kind\n")
    with pytest.raises(ConditionError, match="line 1 is a row of neither"):
        gene_ontology(path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("header", [[], ["#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory"]])
def test_gene2go_is_told_by_its_rows(header, zipped, tmp_path) -> None:
    path = tmp_path / "annotations"
    text = "\n".join([*header, *gene2go(PAIRS), *gene2go([("10", "GO:20")], how="NOT involved_in")]).encode()
    path.write_bytes(gzip.compress(text) if zipped else text)
    made = gene_ontology(path, max_share=1.0)
    assert set(made.names) == {"10", "11", "12", "20", "21", "22"}
    np.testing.assert_allclose(made.lookup(["10"]), made.lookup(["11"]), atol=1e-5)  # NOT is no annotation


@pytest.mark.parametrize("symbols", [{10: "KLF1"}, {"10": "KLF1"}, {np.int64(10): "KLF1"}])
def test_gene_numbers_may_be_integers_or_text(symbols, tmp_path) -> None:
    path = tmp_path / "gene2go"
    path.write_text("\n".join(gene2go(PAIRS)))
    made = gene_ontology(path, max_share=1.0, symbols=symbols)
    assert "KLF1" in made and "10" not in made and "11" in made


def of_taxon(rows: list[tuple[str, str]], taxon: str) -> list[str]:
    return [
        "\t".join(["UniProtKB", "id", gene, "", term, "ref", "IDA", "", "P", "", "", "protein", taxon, *"----"])
        for gene, term in rows
    ]


def test_species_of_a_gaf_file(tmp_path) -> None:
    path = tmp_path / "x.gaf"
    human, mouse = PAIRS[:6], [(f"m{gene}", term) for gene, term in PAIRS]
    rows = [*of_taxon(human, "taxon:9606"), *of_taxon(PAIRS[6:], "taxon:9606|taxon:10090")]
    path.write_text("\n".join([*rows, *of_taxon(mouse, "taxon:10090|taxon:9606")]))
    with pytest.raises(ConditionError, match="2 species, with the taxa '10090', '9606'"):
        gene_ontology(path, max_share=1.0)
    made = gene_ontology(path, max_share=1.0, taxon=9606)
    assert set(made.names) == {gene for gene, _ in PAIRS}
    assert set(gene_ontology(path, max_share=1.0, taxon=10090).names) == {gene for gene, _ in mouse}
    with pytest.raises(ConditionError, match="no annotation was found of the taxon 7227"):
        gene_ontology(path, max_share=1.0, taxon=7227)
    path.write_text("\n".join(rows))  # the second organism of an interaction is no second species
    assert len(gene_ontology(path, max_share=1.0)) == 6


CUT = gzip.compress(("\n".join(gene2go(PAIRS)) + "\n" * 9).encode())[:-12]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\xff\xfe\x00", "no text file, or it is damaged"),
        (CUT, "no text file, or it is damaged"),
        (b"", "no annotation was found"),
        ("\n".join([*gene2go(PAIRS), "9606\t10\tGO:1"]).encode(), "line 13 .* 3 columns, unlike .* gene2go"),
        ("\n".join([*gene2go(PAIRS), *of_taxon(PAIRS, "taxon:9606")]).encode(), "line 13 .* 17 columns"),
        (b"gene,term\nA,GO:1\n", "line 1 is a row of neither"),
    ],
    ids=["binary", "cut off", "empty", "short row", "two kinds", "another kind"],
)
def test_files_of_another_kind_are_refused(content, message, tmp_path) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ConditionError, match=message):
        gene_ontology(path, max_share=1.0)


def test_one_evidence_code_may_be_left_out(tmp_path) -> None:
    path = tmp_path / "x.gaf"
    path.write_text(gaf([*ROWS, ("A5", "GO:a0", "involved_in", "IDA")]))
    made = gene_ontology(path, max_share=1.0, leave_out_evidence="IEA")
    assert set(made.names) == {f"A{i}" for i in range(6)}


def test_fingerprints_of_drugs() -> None:
    drugs = fingerprints({"ethanol": "CCO", "ethanol again": "OCC", "benzene": "c1ccccc1"}, n_bits=256)
    np.testing.assert_array_equal(drugs.lookup(["ethanol"]), drugs.lookup(["ethanol again"]))
    assert drugs.dimension == 256 and not np.array_equal(drugs.values[0], drugs.values[2])
    with pytest.raises(ConditionError, match="2 drugs cannot be read: 'bad', 'none'"):
        fingerprints({"good": "C", "bad": "C(((", "none": None})


@pytest.mark.parametrize(
    ("smiles", "options", "error", "message"),
    [
        (pd.Series(["CCO", "C"], index=["drug", "drug"]), {}, ConditionError, "two vectors, for example 'drug'"),
        ({1: "CCO", "1": "C"}, {}, ConditionError, "two vectors, for example '1'"),
        (pd.Series(["CCO", "C"], index=["drug", None]), {}, ConditionError, "1 names are missing"),
        ({}, {}, ConditionError, "no structures"),
        (pd.Series([], dtype=str), {}, ConditionError, "no structures"),
        ({"drug": "CCO"}, {"n_bits": 0}, OptionError, "n_bits is 0"),
        ({"drug": "CCO"}, {"n_bits": -8}, OptionError, "n_bits is -8"),
        ({"drug": "CCO"}, {"radius": -1}, OptionError, "radius is -1"),
    ],
)
def test_fingerprints_that_cannot_be_made_are_refused(smiles, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fingerprints(smiles, **options)


def test_a_distance_needs_known_names() -> None:
    with pytest.raises(OptionError, match="no known names to measure the distance of 'G1' from"):
        table().distances(["G1"], [])["G1"]


def test_distances_are_in_units_of_those_between_known_names() -> None:
    line = Embedding(tuple("ABCDEF"), np.array([[0.0], [1.0], [2.0], [3.0], [7.0], [3.5]]))
    known = ["A", "B", "C", "D"]
    assert [line.distances([name], known)[name] for name in "BEF"] == pytest.approx([0, 4, 0.5])
    assert line.distances(["F", "B", "E"], known) == pytest.approx({"F": 0.5, "B": 0, "E": 4})
    with pytest.raises(UnknownNameError, match="nobody"):
        line.distances(["B", "nobody"], known)
    # the units of a table make no difference, nor does it how wide the other one is
    both = combine([line, Embedding(line.names, np.zeros((6, 5)))])
    assert both.distances(["E"], known)["E"] == pytest.approx(4, rel=1e-5)


def test_one_known_name_is_measured_by_the_whole_table() -> None:
    line = Embedding(tuple("ABCD"), np.array([[0.0], [1.0], [2.0], [5.0]]))
    assert line.distances(["B"], ["A"])["B"] == pytest.approx(1)
    assert line.distances(["D"], ["A"])["D"] == pytest.approx(5)


def test_of_many_control_cells_some_are_drawn(monkeypatch) -> None:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(3.0, size=(60, 6)).astype(np.float32))
    size, groups = np.asarray(counts.sum(axis=1)).ravel(), np.repeat(["a", "b"], 30)
    whole = coexpression_of(counts, size, groups, list("ABCDEF"), n_dimensions=2)
    monkeypatch.setattr(expression, "_MOST_CELLS", 40)
    some, again = (coexpression_of(counts, size, groups, list("ABCDEF"), n_dimensions=2, seed=1) for _ in range(2))
    np.testing.assert_array_equal(some.values, again.values)
    assert not np.allclose(some.values, whole.values)
    assert not np.allclose(some.values, coexpression_of(counts, size, groups, list("ABCDEF"), n_dimensions=2).values)


@pytest.mark.parametrize("content", [None, b"", b"no hdf5", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_an_h5ad_that_cannot_be_read_is_named(tmp_path, content) -> None:
    if content is not None:
        (tmp_path / "a.h5ad").write_bytes(content)
    with pytest.raises(ConditionError, match=r"does not exist|no h5ad file, or it is damaged") as caught:
        Embedding.from_h5ad(tmp_path / "a.h5ad")
    assert caught.value.remedy


def test_an_h5ad_that_claims_to_be_larger_than_the_memory_is_refused(tmp_path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_dataset("X", shape=(10**9, 10**6), dtype="f4", chunks=(1000, 1000))
    with pytest.raises(ConditionError, match="would be read, and the machine has"):
        Embedding.from_h5ad(tmp_path / "a.h5ad")


def test_a_file_of_annotations_that_does_not_exist_is_named(tmp_path) -> None:
    with pytest.raises(ConditionError, match="the file does not exist.*none.gaf"):
        gene_ontology(tmp_path / "none.gaf")


def test_library_sizes_that_are_text_are_refused() -> None:
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=20, n_cells=10)
    adata.obs["bad"] = "x"
    with pytest.raises(CountsError, match=r"library sizes are not numbers .in obs\['bad'\]"):
        tp.conditions.coexpression(
            adata, perturbation_key="perturbation", control="control", layer="counts", library_size_key="bad"
        )
