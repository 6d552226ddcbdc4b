"""The whole job from a shell and one TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import transpert as tp
from transpert.cli import app, job
from transpert.cli.settings import read_settings


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A file with other names of columns and labels than our own."""
    cells = tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=40, n_cells=70, n_batches=2)
    cells.X = cells.layers.pop("counts")
    cells.obs = cells.obs[["perturbation", "context", "batch"]].astype(str)
    cells.obs.columns = ["Target_Gene", "cell_line", "plate"]
    cells.obs["Target_Gene"] = cells.obs["Target_Gene"].replace("control", "Non-Targeting")
    cells.obs["nCount_RNA"] = tp.pp.library_sizes(cells.X) + 100
    cells.write_h5ad(tmp_path / "screen.h5ad")
    monkeypatch.chdir(tmp_path)
    return cells


def test_init_finds_columns_labels_and_a_split(cells, tmp_path) -> None:
    assert run("init", "screen.h5ad")[0] == 0
    text = (tmp_path / "transpert.toml").read_text()
    found = tomllib.loads(text)
    assert found["data"] == {
        "file": "screen.h5ad",
        "perturbation_key": "Target_Gene",
        "control": "Non-Targeting",
        "context_keys": ["cell_line"],
        "batch_key": "plate",
        "library_size_key": "nCount_RNA",
    }
    assert set(found["split"]["holdout"]) == {"cell_line"} and "a guess" in text
    code, output = run("init", "screen.h5ad")
    assert code == 1 and "--overwrite" in output


def test_init_names_what_it_does_not_find(cells, tmp_path) -> None:
    cells.obs["Target_Gene"] = cells.obs["Target_Gene"].astype(str).replace("Non-Targeting", "scrambled")
    cells.write_h5ad(tmp_path / "other.h5ad")
    code, output = run("init", "other.h5ad")
    assert code == 1 and "no label looks like control cells" in output and "'scrambled'" in output


def test_run_does_every_step_and_writes_a_page(cells, tmp_path) -> None:
    run("init", "screen.h5ad")
    quick = ["train.preset=tiny", "train.steps=4", "train.accelerator=cpu", "evaluate.n_bootstrap=0"]
    quick += ['evaluate.metrics=["pearson_delta", "energy_distance"]', 'evaluate.baselines=["MeanShift"]']
    code, output = run("run", "transpert.toml", *[word for change in quick for word in ("--set", change)])
    assert code == 0, output
    # what was assumed is said once, without the place in a program
    assert output.count("Note: ") == output.count("Note: No network was trained") == 1 and ".py:" not in output
    written = {path.name for path in (tmp_path / "results").iterdir()}
    assert written == {"cells.h5ad", "model", "prediction.h5ad", "scores.csv", "report.html"}
    held_out = tomllib.loads((tmp_path / "transpert.toml").read_text())["split"]["holdout"]["cell_line"]
    assert set(anndata.read_h5ad(tmp_path / "results" / "prediction.h5ad").obs["cell_line"]) == {held_out}
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 5 and "http://" not in page and "https://" not in page
    assert all(word in page for word in ("MeanShift", "ceiling", "What the training could know", "scvi-tools"))


@pytest.mark.parametrize("step", ["run", "split", "train", "predict", "evaluate", "report", "rank", "scaling"])
def test_two_jobs_do_not_write_into_one_folder(cells, step) -> None:
    run("init", "screen.h5ad")
    with job.alone(read_settings(Path("transpert.toml"))):
        code, output = run(step, "transpert.toml")
    assert code == 1 and "is writing there (in results/job). Wait until it has ended" in output


def test_a_step_names_the_step_before_it(cells) -> None:
    run("init", "screen.h5ad")
    for step, before in (("train", "split"), ("predict", "split"), ("evaluate", "predict"), ("report", "predict")):
        code, output = run(step, "transpert.toml")
        assert code == 1 and f"Run transpert {before} first" in output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("dat.file=x", "unknown section: 'dat'"),
        ("train.step=5", "Did you mean 'steps'"),
        ("train.checkpoints=often", "checkpoints is 'often' (in [train] of transpert.toml). Give true or false"),
        ("train.steps=many", "steps is 'many' (in [train] of transpert.toml). Give a whole number"),
        ("train.steps", "SECTION.NAME=VALUE"),
        ("data.context_keys=cell_line", "Give a list of texts"),
        ("data.control=NT", "'NT'"),
        ("data.file=absent.h5ad", "absent.h5ad"),
        ("train.accelerator=gpus", "no accelerator 'gpus'"),
    ],
)
def test_mistakes_in_the_settings_are_named(cells, change, words) -> None:
    run("init", "screen.h5ad")
    code, output = run("run", "transpert.toml", "--set", change)
    assert code == 1 and words in output, output


def test_page_from_two_files(cells, screen, tmp_path) -> None:
    screen = screen[screen.obs["context"] == "context_0"].copy()
    screen.write_h5ad(tmp_path / "truth.h5ad")
    code, output = run("report", "truth.h5ad")
    assert code == 1 and "real cells are missing" in output


def test_info_prints_the_version() -> None:
    assert f"transpert {tp.__version__}" in run("info")[1]


def test_rank_and_scaling_read_their_sections(cells, tmp_path) -> None:
    run("init", "screen.h5ad")
    asked = ("train.preset=tiny", "train.steps=4", "train.accelerator=cpu")
    quick = [word for change in asked for word in ("--set", change)]
    for step in ("split", "train"):
        code, output = run(step, "transpert.toml", *quick)
        assert code == 0, output
    code, output = run("rank", "transpert.toml")
    assert code == 1 and "nothing says what is wanted (in [rank]). Give one of signature" in output
    signature = pd.Series(np.linspace(-1, 1, 40), cells.var_names, name="log_fold_change")
    signature.to_csv(tmp_path / "signature.csv", index_label="gene")
    code, output = run("rank", "transpert.toml", "--set", "rank.signature=signature.csv")
    assert code == 0 and "Written to results/ranking.csv" in output, output
    ranking = pd.read_csv(tmp_path / "results" / "ranking.csv")
    assert set(ranking["perturbation"]) <= set(cells.obs["Target_Gene"]) and ranking["rank"].min() == 1
    (tmp_path / "signature.csv").write_text("gene\nA\n")
    code, output = run("rank", "transpert.toml", "--set", "rank.signature=signature.csv")
    assert code == 1 and "Write a header and two columns" in output
    small = ['scaling.models=["MeanShift"]', "scaling.axes={cells = [0.5, 1.0]}", "scaling.seeds=1"]
    code, output = run("scaling", "transpert.toml", *[word for change in small for word in ("--set", change)])
    assert code == 0 and "at least 4 sizes" in output, output
    assert "failed" not in output
    assert (tmp_path / "results" / "scaling.png").exists()
    scores = pd.read_csv(tmp_path / "results" / "scaling.csv")
    assert {"MeanShift"} <= set(scores["model"]) and scores["n_cells"].nunique() >= 2


def test_splits_of_other_levels_and_saved_ones_are_made_from_the_file(cells, tmp_path) -> None:
    run("init", "screen.h5ad")
    assert run("split", "transpert.toml", "--set", "split.saved=mine.json")[0] == 1  # beside what init holds out
    text = "".join(line for line in Path("transpert.toml").open() if not line.startswith("holdout"))
    Path("transpert.toml").write_text(text)
    assert run("split", "transpert.toml", "--set", "split.by=batch")[0] == 0
    first = anndata.read_h5ad("results/cells.h5ad")
    assert (
        first.uns["split"]["kind"] == "batch"
        and first.obs.groupby("split", observed=True)["plate"].nunique()["test"] == 1
    )
    tp.pp.save_split(first, "mine.json")
    assert run("split", "transpert.toml", "--set", "split.saved=mine.json", "--set", "split.seed=5")[0] == 0
    again = anndata.read_h5ad("results/cells.h5ad")
    assert again.obs["split"].tolist() == first.obs["split"].tolist()
    few = ("split.by=context", "split.known_perturbations=1", "split.on_leak=refuse")
    assert run("split", "transpert.toml", *[word for change in few for word in ("--set", change)])[0] == 0


def test_exit_codes_tell_mistakes_of_the_command_from_those_of_the_data(cells) -> None:
    assert run("info")[0] == 0
    assert run("train", "absent.toml")[0] == 2
    run("init", "screen.h5ad")
    assert run("train", "transpert.toml")[0] == 1


def test_train_passes_on_what_it_runs_on_and_goes_on_from_checkpoints(cells, monkeypatch) -> None:
    run("init", "screen.h5ad")
    assert run("split", "transpert.toml")[0] == 0
    given: dict[str, object] = {}
    monkeypatch.setattr(tp.SCALE, "train", lambda self, **options: given.update(options))
    monkeypatch.setattr(tp.SCALE, "save", lambda self, *args, **options: None)
    changes = ("train.checkpoints=true", "train.devices=2", "train.strategy=ddp", "train.accelerator=cpu")
    assert run("train", "transpert.toml", *[word for change in changes for word in ("--set", change)])[0] == 0
    assert given.pop("checkpoint_dir") == Path("results/checkpoints")
    assert given == {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "resume": "auto"}
    # the first process of a second machine leaves writing and speaking to the first of all
    monkeypatch.setattr(tp.SCALE, "summary", lambda self: "what was trained")
    with job.alone(read_settings(Path("transpert.toml"))):
        monkeypatch.setenv("RANK", "2")
        monkeypatch.setenv("LOCAL_RANK", "0")
        code, output = run("train", "transpert.toml")
        assert code == 0 and "what was trained" not in output
    monkeypatch.setenv("RANK", "0")
    assert "what was trained" in run("train", "transpert.toml")[1]
