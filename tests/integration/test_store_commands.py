"""``transpert store ...`` from the shell."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from typer.testing import CliRunner

import transpert as tp
from transpert.cli import app
from transpert.data import Store
from transpert.data.store import build as store_build


@pytest.fixture
def files(tmp_path):
    """Two files of different contexts."""
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=30)
    paths = []
    for context in sorted(adata.obs["context"].unique()):
        paths.append(str(tmp_path / f"{context}.h5ad"))
        adata[adata.obs["context"] == context].copy().write_h5ad(paths[-1])
    return paths


def run(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["store", *arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_a_store_from_the_shell(files, tmp_path, monkeypatch) -> None:
    out = str(tmp_path / "cells.zarr")
    command = ["build", *files, out, "--context-key", "context", "--layer", "counts"]
    with monkeypatch.context() as patch:
        patch.setattr(store_build, "_finish_part", lambda job, part: (_ for _ in ()).throw(KeyboardInterrupt))
        run(*command, exit_code=130)
    assert not (tmp_path / "cells.zarr").exists()
    built = run(*command)  # goes on
    n_cells = Store(out).n_obs
    assert f"{n_cells} cells x 20 genes" in built and "2 contexts, 2 perturbations, 6 groups" in built
    assert run("info", out).splitlines() == built.splitlines()[-len(run("info", out).splitlines()) :]
    assert "are as they were written" in run("verify", out)

    part = str(tmp_path / "part.zarr")
    run("subset", out, part, "--where", "context=context_1", "--where", "perturbation=control,P0")
    chosen = Store(part).obs
    assert set(chosen["context"]) == {"context_1"} and set(chosen["perturbation"]) == {"control", "P0"}


def test_damage_and_mistakes_are_one_readable_line(files, tmp_path) -> None:
    out = str(tmp_path / "cells.zarr")
    run("build", *files, out, "--context-key", "context", "--layer", "counts")
    for arguments, message in [
        (["build", files[0]], "name at least one file with cells"),
        (["build", *files, out, "--layer", "counts"], "something already"),
        (["info", str(tmp_path)], "no manifest"),
        (["subset", out, str(tmp_path / "x.zarr"), "--where", "context=contxt_1"], "Did you mean 'context_1'"),
        (["subset", out, str(tmp_path / "x.zarr"), "--where", "context"], "no condition"),
        (
            ["subset", out, str(tmp_path / "x.zarr"), "--where", "perturbation=P0"],
            "none of the chosen cells is a control",
        ),
        (["append", out, files[0], "--layer", "counts"], "are in the store already"),
        (["append", out, str(tmp_path / "none.h5ad")], "the file does not exist"),
        (["build", *files, str(tmp_path / "none" / "x.zarr"), "--layer", "counts"], "the folder does not exist"),
    ]:
        output = " ".join(run(*arguments, exit_code=1).split())
        assert message in output and "Traceback" not in output
    shard = next((tmp_path / "cells.zarr" / "parts").rglob("data/c/0"))
    content = bytearray(shard.read_bytes())
    content[5] ^= 0xFF
    shard.write_bytes(bytes(content))
    assert "another checksum" in run("verify", out, exit_code=1)


def test_cells_are_appended_from_the_shell(files, tmp_path) -> None:
    out = str(tmp_path / "cells.zarr")
    run("build", files[0], out, "--context-key", "context", "--layer", "counts")
    n_cells = Store(out).n_obs
    appended = run("append", out, files[1], "--layer", "counts")
    assert f"{2 * n_cells} cells x 20 genes" in appended and "2 contexts" in appended
    Store(out).verify()
    run("append", out, files[1], "--layer", "counts", exit_code=1)
    assert Store(out).n_obs == 2 * n_cells
    run("append", out, files[1], "--layer", "counts", "--allow-repeated")
    assert Store(out).n_obs == 3 * n_cells
    cells = anndata.read_h5ad(files[0])
    cells.obs["total"] = np.asarray(cells.layers["counts"].sum(axis=1)).ravel() + 7.0
    cells.obs_names = [f"new_{name}" for name in cells.obs_names]
    cells.write_h5ad(tmp_path / "more.h5ad")
    run("append", out, str(tmp_path / "more.h5ad"), "--layer", "counts", "--library-size-key", "total")
    np.testing.assert_array_equal(np.sort(Store(out).library_size[3 * n_cells :]), np.sort(cells.obs["total"]))


def test_build_passes_on_every_option(tmp_path) -> None:
    cells = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=20, n_cells=30)
    cells.obs["part"] = "train"
    cells.obs["how"] = np.where(cells.obs["perturbation"] == "control", None, "CRISPRi")
    cells.obs["kept"], cells.obs["left"] = 1.0, 2.0
    cells.write_h5ad(tmp_path / "cells.h5ad")
    genes = tmp_path / "genes.txt"
    genes.write_text("gene_3\n\n gene_1 \n")
    out = str(tmp_path / "cells.zarr")
    columns = ["--split-key", "part", "--direction-key", "how", "--obs-column", "kept"]
    rest = ["--genes", str(genes), "--cells-per-part", "40", "--layer", "counts", "--seed", "3"]
    run("build", str(tmp_path / "cells.h5ad"), out, *columns, *rest)
    store = Store(out)
    assert (store.design.split_key, store.design.direction_key) == ("part", "how")
    assert store.genes.tolist() == ["gene_3", "gene_1"] and store.manifest.seed == 3
    assert [part["n_obs"] for part in store.manifest.parts] == [40, 40, 10]
    assert "kept" in store.obs_columns and "left" not in store.obs_columns
    for content, message in [(b"gene_3\ngene_x\n", "'gene_x'"), (b"\n", "no genes"), (b"\xff\xfe", "no text")]:
        genes.write_bytes(content)
        output = " ".join(run("build", str(tmp_path / "cells.h5ad"), out + "2", *rest, exit_code=1).split())
        assert message in output and not (tmp_path / "cells.zarr2").exists()
