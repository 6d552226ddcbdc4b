"""``transpert store ...`` from the shell."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import transpert as tp
from transpert.cli import app
from transpert.data import Store, store_build


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
        (["subset", out, str(tmp_path / "x.zarr"), "--where", "context=contxt_1"], "may be 'context_1'"),
        (["subset", out, str(tmp_path / "x.zarr"), "--where", "context"], "no condition"),
    ]:
        output = " ".join(run(*arguments, exit_code=1).split())
        assert message in output and "Traceback" not in output
    shard = next((tmp_path / "cells.zarr" / "parts").rglob("data/c/0"))
    content = bytearray(shard.read_bytes())
    content[5] ^= 0xFF
    shard.write_bytes(bytes(content))
    assert "another checksum" in run("verify", out, exit_code=1)
