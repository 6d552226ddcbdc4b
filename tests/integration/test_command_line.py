from __future__ import annotations

import anndata
import pandas as pd
from typer.testing import CliRunner

import transpert as tp
from transpert.cli import app


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
