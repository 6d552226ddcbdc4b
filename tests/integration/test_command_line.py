from __future__ import annotations

import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import transpert as tp
from transpert.cli import app
from transpert.data import build_store
from transpert.groups import Design


def test_quickstart_predicts_an_unseen_cell_type(tmp_path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["quickstart", "--out", str(out), "--preset", "tiny", "--steps", "20"])
    assert result.exit_code == 0, result.output
    assert "CD14 Mono, never seen stimulated" in result.output
    pred = anndata.read_h5ad(out / "prediction.h5ad")
    tp.pp.check_counts(pred.layers["counts"], where="counts")
    scores = tp.tl.score_table(pd.read_csv(out / "scores.csv"))
    # better than the mean shift, and a real correlation
    assert scores.loc["SCALE", "pearson_delta"] > max(scores.loc["MeanShift", "pearson_delta"], 0.9)
    assert scores.loc["SCALE", "overlap_at_n"] > scores.loc["MeanShift", "overlap_at_n"]
    assert {p.name for p in out.glob("*.png")} == {"umap.png", "dotplot.png", "effects.png"}
    assert tp.SCALE.load(out / "model").gate >= 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert (
        "report.html" in result.output.replace("\n", "") and page.count("<img") == 5 and "transpert quickstart" in page
    )


def test_errors_are_one_readable_line(tmp_path) -> None:
    result = CliRunner().invoke(app, ["quickstart", "--out", str(tmp_path), "--cell-type", "Neuron"])
    assert result.exit_code == 1
    assert "unknown value: 'Neuron'" in result.output and "Traceback" not in result.output


def test_evaluate_from_files(screen, tmp_path) -> None:
    pred = screen[screen.obs["context"] == "context_0"].copy()
    pred.write_h5ad(tmp_path / "pred.h5ad")
    screen.write_h5ad(tmp_path / "truth.h5ad")
    files = [str(tmp_path / "pred.h5ad"), str(tmp_path / "truth.h5ad")]
    keys = ["--context-key", "context", "--out", str(tmp_path / "scores.csv")]
    result = CliRunner().invoke(app, ["evaluate", *files, *keys])
    assert result.exit_code == 0, result.output
    scores = tp.tl.score_table(pd.read_csv(tmp_path / "scores.csv"))
    assert scores.loc["prediction", "pearson_delta"] > 0.999


def test_evaluate_passes_on_every_option(screen, tmp_path) -> None:
    truth = screen[screen.obs["context"].isin(["context_0", "context_1"])].copy()
    truth.write_h5ad(tmp_path / "truth.h5ad")
    truth[truth.obs["context"] == "context_0"].copy().write_zarr(tmp_path / "pred.zarr")
    keys = ["--context-key", "context", "--perturbation-key", "perturbation", "--control", "control"]
    more = ["--metrics", "pearson_delta, mse_delta", "--no-ceiling", "--reference", "predicted", "--max-controls", "20"]
    rest = ["--n-bootstrap", "0", "--seed", "3", "--max-missing-genes", "0.1", "--counts-layer", "counts"]
    out = ["--out", str(tmp_path / "s.csv"), "--audit", str(tmp_path / "a.csv"), "--cell-eval", str(tmp_path / "ce")]
    files = [str(tmp_path / "pred.zarr"), str(tmp_path / "truth.h5ad")]
    result = CliRunner().invoke(app, ["evaluate", *files, *keys, *more, *rest, *out])
    assert result.exit_code == 0, result.output
    scores = pd.read_csv(tmp_path / "s.csv")
    assert set(scores["metric"]) == {"pearson_delta", "mse_delta"} and set(scores["model"]) == {"prediction"}
    assert scores["ci_low"].isna().all()
    assert "no change, resampled controls" in set(pd.read_csv(tmp_path / "a.csv")["prediction"])
    assert sorted(path.name for path in (tmp_path / "ce").iterdir()) == ["pred.h5ad", "real.h5ad"]
    twice = CliRunner().invoke(app, ["evaluate", *files, *keys, "--layer", "log", "--out", str(tmp_path / "x.csv")])
    assert twice.exit_code == 1 and "unknown layer: 'log'" in twice.output
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("option", ["--out", "--audit"])
def test_evaluate_refuses_a_file_that_cannot_be_written_before_it_scores(screen, tmp_path, option, monkeypatch) -> None:
    screen.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(tp.tl, "evaluate", lambda *_, **__: pytest.fail("scored"))
    for wrong, words in ((tmp_path / "absent" / "s.csv", "the folder does not exist"), (tmp_path, "this is a folder")):
        result = CliRunner().invoke(app, ["evaluate", *[str(tmp_path / "cells.h5ad")] * 2, option, str(wrong)])
        assert result.exit_code == 1 and words in result.output


def test_quickstart_refuses_a_file_in_place_of_its_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tp.SCALE, "train", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "there").write_text("")
    result = CliRunner().invoke(app, ["quickstart", "--out", str(tmp_path / "there")])
    assert (
        result.exit_code == 1
        and "there is a file where a folder should be" in result.output
        and "Traceback" not in result.output
    )


def profile(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["profile", *arguments, "--preset", "tiny", "--steps", "2"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def dosed(tmp_path):
    """A file with doses, times and a split, and a store of the same cells."""
    cells = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=40)
    perturbed = (cells.obs["perturbation"] != "control").to_numpy()
    cells.obs["dose"] = np.where(perturbed, 1.0, np.nan)
    cells.obs["hours"] = np.where(perturbed, 24.0, 0.0)
    cells.obs["part"] = "train"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    store = build_store(cells, tmp_path / "cells.zarr", Design("perturbation", "control", ("context",)), layer="counts")
    return str(tmp_path / "cells.h5ad"), str(store.path)


def test_profile_passes_on_dose_time_and_split(dosed, monkeypatch) -> None:
    file, store = dosed
    asked = []
    setup = tp.SCALE.setup_anndata
    monkeypatch.setattr(tp.SCALE, "setup_anndata", lambda adata, **keys: (asked.append(keys), setup(adata, **keys)))
    keys = ["--context-key", "context", "--dose-key", "dose", "--time-key", "hours", "--split-key", "part"]
    code, output = profile(file, *keys, "--layer", "counts", "--accelerator", "cpu")
    assert code == 0 and "cells/s" in output, output
    assert {name: asked[0][name] for name in ("dose_key", "time_key", "split_key")} == {
        "dose_key": "dose", "time_key": "hours", "split_key": "part"
    }  # fmt: skip
    assert profile(store, "--split-key", "part", "--accelerator", "cpu")[0] == 0
    code, output = profile(store, "--split-key", "prt", "--accelerator", "cpu")
    assert code == 1 and "UnknownNameError" in output and "'part'" in output
    code, output = profile(store, "--dose-key", "dose", "--context-key", "context")
    assert code == 1 and "a store says itself what its columns mean" in output and "--context-key, --dose-key" in output


def test_profile_names_what_it_cannot_use(dosed, tmp_path, monkeypatch) -> None:
    (tmp_path / "bad.h5ad").write_text("no hdf5")
    code, output = profile(str(tmp_path / "bad.h5ad"))
    assert code == 1 and "StoreError: this is no h5ad file, or it is damaged" in output and "Traceback" not in output
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("lightning.pytorch.accelerators.cuda.num_cuda_devices", lambda: 0)
    monkeypatch.setattr("lightning.pytorch.accelerators.mps.MPSAccelerator.is_available", lambda: False)
    for name, message in [("gpu", "this machine has no gpu"), ("cuda", "no cuda"), ("gqu", "no accelerator 'gqu'")]:
        code, output = profile(dosed[0], "--accelerator", name)
        assert code == 1 and message in output and output.startswith("OptionError"), output


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, f"transpert {tp.__version__}")


def test_python_m_transpert_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "transpert", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"transpert {tp.__version__}")


def test_a_command_that_is_written_wrongly_ends_with_2() -> None:
    assert CliRunner().invoke(app, ["evaluate", "absent.h5ad", "absent.h5ad"]).exit_code == 2
    assert CliRunner().invoke(app, ["quickstarts"]).exit_code == 2


def test_export_vcc_writes_a_package_from_a_file(screen, tmp_path) -> None:
    screen.write_h5ad(tmp_path / "pred.h5ad")
    (tmp_path / "genes.csv").write_text("\n".join(screen.var_names))
    contexts = ",".join(screen.obs["context"].unique())
    keys = ["--context-key", "context", "--contexts", contexts, "--n-cells", "120"]
    files = [str(tmp_path / "pred.h5ad"), str(tmp_path / "mine.vcc"), "--genes", str(tmp_path / "genes.csv")]
    result = CliRunner().invoke(app, ["export", "vcc", *files, *keys])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "mine.vcc").stat().st_size > 0
    again = CliRunner().invoke(app, ["export", "vcc", *files, *keys])
    assert again.exit_code == 1 and "the package exists already" in again.output
