"""A package of the Virtual Cell Challenge holds what it asks for, and breaks none of its rules."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

import transpert as tp
from transpert import errors
from transpert.tl import challenge_package

TARGETS, CONTEXTS, N_CELLS = ["TP53", "MYC"], ["A", "B", "C"], 4
GENES = [f"G{number}" for number in range(12)]


DESIGN = tp.Design("target_gene", "non-targeting", "context")


@pytest.fixture
def cells():
    """Three contexts with two targets of four cells each, and controls."""
    rows = [(target, context) for context in CONTEXTS for target in ["non-targeting", *TARGETS] for _ in range(N_CELLS)]
    obs = pd.DataFrame(rows, columns=["target_gene", "context"]).set_axis([f"c{i}" for i in range(len(rows))])
    counts = np.random.default_rng(0).poisson(2.0, (len(rows), len(GENES))).astype(np.float32)
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=GENES))


def pack(cells, folder, **changes):
    asked = {"genes": GENES, "perturbations": TARGETS, "n_cells": N_CELLS, "design": DESIGN}
    return tp.tl.to_vcc(cells, folder / "mine.vcc", **{**asked, **changes})


def unpack(package):
    with tarfile.open(package) as tar:
        tar.extractall(package.parent, filter="data")
        names = tar.getnames()
    with pa.CompressedInputStream(str(package.parent / "pred.h5ad.zst"), "zstd") as source:
        (package.parent / "pred.h5ad").write_bytes(source.read())
    return (
        names,
        json.loads((package.parent / "meta.json").read_text()),
        anndata.read_h5ad(package.parent / "pred.h5ad"),
    )


@pytest.mark.parametrize("from_file", [False, True])
def test_package_holds_perturbed_cells_with_genes_in_the_order_asked_for(cells, tmp_path, from_file, monkeypatch):
    monkeypatch.setattr(challenge_package, "_SLICE", 5)  # several slices, one of them of controls alone
    cells.write_h5ad(tmp_path / "cells.h5ad")
    package = pack(tmp_path / "cells.h5ad" if from_file else cells, tmp_path, genes=GENES[::-1])
    names, meta, written = unpack(package)
    kept = cells[cells.obs["target_gene"] != "non-targeting", GENES[::-1]]
    assert names == ["meta.json", "pred.h5ad.zst"]
    np.testing.assert_array_equal(written.X.toarray(), kept.X.toarray())
    assert list(written.var_names) == GENES[::-1] and written.X.has_canonical_format
    assert list(written.obs.columns) == ["target_gene", "context"]
    assert written.obs.astype(str).to_numpy().tolist() == kept.obs.astype(str).to_numpy().tolist()
    assert meta == {"schema": 1, "nnz": kept.X.nnz, "n_obs": 24, "n_vars": 12, "contexts": CONTEXTS}


def test_lists_of_the_challenge_are_read_from_its_files(cells, tmp_path):
    (tmp_path / "genes.csv").write_text("\n".join(["gene_name", *GENES]))
    (tmp_path / "perts.csv").write_text("\n".join(["target_gene,n_cells", "non-targeting,9", "TP53,4", "MYC,4"]))
    lists = {"genes": tmp_path / "genes.csv", "perturbations": tmp_path / "perts.csv", "n_cells": 400}
    assert unpack(pack(cells, tmp_path, **lists))[2].shape == (24, 12)


def without_a_cell(cells):
    return cells[1 + np.flatnonzero(cells.obs["target_gene"] == "TP53")[0] :].copy()


def with_value(value):
    def change(cells):
        cells.X = cells.X.toarray()
        cells.X[N_CELLS] = value
        return cells

    return change


def relabelled(column, old, new):
    def change(cells):
        cells.obs[column] = cells.obs[column].replace(old, new)
        return cells

    return change


def without_counts(cells):
    cells.X = sparse.csr_matrix(cells.X.toarray() * (cells.obs["target_gene"] != "MYC").to_numpy()[:, None])
    return cells


RULES = {
    "number of cells": (without_a_cell, {}, errors.GroupSizeError, "A: TP53 has 3, not 4"),
    "integers": (with_value(0.5), {}, errors.CountsError, "not integers"),
    "negative": (with_value(-1), {}, errors.CountsError, "negative"),
    "finite": (with_value(np.nan), {}, errors.CountsError, "NaN"),
    "counts of a cell": (with_value(100_000), {}, errors.CountsError, "1,200,000 counts"),
    "no counts at all": (without_counts, {}, errors.CountsError, "3 targets have no counts"),
    "label of a guide": (relabelled("target_gene", "TP53", "TP53-1"), {}, errors.ConditionError, "number of a guide"),
    "context missing": (lambda c: c[c.obs["context"] != "B"].copy(), {}, errors.UnknownNameError, "'B'"),
    "context unknown": (relabelled("context", "B", "D"), {}, errors.UnknownNameError, "'D'"),
    "target missing": (lambda c: c, {"perturbations": [*TARGETS, "KRAS"]}, errors.ConditionError, "A: KRAS"),
    "target not asked for": (lambda c: c, {"perturbations": ["TP53"]}, errors.ConditionError, "A: MYC"),
    "gene missing": (lambda c: c, {"genes": [*GENES, "X1"]}, errors.GeneError, "'X1'.*unmeasured"),
    "gene twice": (lambda c: c, {"genes": [*GENES, "G1"]}, errors.GeneError, "more than once"),
    "only controls": (relabelled("target_gene", TARGETS, "non-targeting"), {}, errors.ConditionError, "only controls"),
    "no context": (lambda c: c, {"design": tp.Design("target_gene", "non-targeting")}, errors.OptionError, "context"),
}


@pytest.mark.parametrize("rule", RULES)
def test_package_that_breaks_a_rule_is_not_written(cells, tmp_path, rule):
    change, arguments, error, words = RULES[rule]
    with pytest.raises(error, match=words):
        pack(change(cells), tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("limit", "error"), [("_MAX_CELLS", errors.GroupSizeError), ("_MAX_STORED", errors.CountsError)]
)
def test_limits_of_size_hold(cells, tmp_path, monkeypatch, limit, error):
    monkeypatch.setattr(challenge_package, limit, 10)
    with pytest.raises(error, match="the challenge takes"):
        pack(cells, tmp_path)


def test_package_is_replaced_only_when_asked(cells, tmp_path):
    first = pack(cells, tmp_path).read_bytes()
    with pytest.raises(errors.OptionError, match="overwrite=True"):
        pack(cells, tmp_path)
    assert pack(cells, tmp_path, overwrite=True).read_bytes() == first


def test_genes_not_measured_are_written_as_asked_and_listed(cells, tmp_path):
    lacking = cells[:, GENES[:10]].copy()
    with pytest.warns(errors.AssumptionWarning, match="2 genes of the challenge were not measured"):
        _, meta, written = unpack(pack(lacking, tmp_path, unmeasured="zero"))
    assert written[:, GENES[10:]].X.nnz == 0
    assert (meta["unmeasured"], meta["unmeasured_as"]) == (GENES[10:], "zero")
    with pytest.warns(errors.AssumptionWarning, match="control cells"):
        package = pack(lacking, tmp_path, unmeasured="controls", controls=cells, overwrite=True)
    _, meta, written = unpack(package)
    np.testing.assert_array_equal(
        written[:, GENES[:10]].X.toarray(), lacking[lacking.obs["target_gene"] != "non-targeting"].X.toarray()
    )
    for context in CONTEXTS:
        own = cells[(cells.obs["context"] == context) & (cells.obs["target_gene"] == "non-targeting"), GENES[10:]]
        drawn = written[written.obs["context"] == context, GENES[10:]].X.toarray()
        assert set(map(tuple, drawn)) <= set(map(tuple, own.X.toarray()))


@pytest.mark.skipif(shutil.which("vcc") is None, reason="vcc-cli is not installed")
def test_tool_of_the_challenge_accepts_the_cells(cells, tmp_path):
    unpack(pack(cells, tmp_path))
    (tmp_path / "genes.csv").write_text("\n".join(GENES))
    (tmp_path / "perts.csv").write_text("\n".join(["target_gene", *TARGETS]))
    command = ["vcc", "prep", "pred.h5ad", "--genes", "genes.csv", "--perts", "perts.csv", "--contexts", "A,B,C"]
    more = ["--cells-per-pert", str(N_CELLS), "--output", "theirs.vcc"]
    done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, ours, first = unpack(tmp_path / "mine.vcc")
    _, theirs, second = unpack(tmp_path / "theirs.vcc")
    assert {key: theirs[key] for key in ours} == ours
    assert (first.X != second.X).nnz == 0
