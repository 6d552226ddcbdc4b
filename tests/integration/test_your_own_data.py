"""The fifteen lines of the README work as they are written."""

from __future__ import annotations

import warnings
from pathlib import Path

import transpert as tp

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "docs" / "scripts" / "your_own_data.py").read_text(encoding="utf-8")


def test_readme_shows_the_script_in_fifteen_lines() -> None:
    lines = [line for line in SCRIPT.splitlines() if line.strip()]
    assert len(lines) <= 15
    assert SCRIPT.strip() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_script_runs_without_a_warning(tmp_path, monkeypatch, capfd) -> None:
    cells = tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=40, n_cells=70)
    cells.X = cells.layers.pop("counts")
    cells.obs["total_counts"] = tp.pp.library_sizes(cells.X) + 100
    cells.obs["cell_type"] = cells.obs["context"].cat.rename_categories(["B", "NK", "T", "DC"])
    cells.write_h5ad(tmp_path / "screen.h5ad")
    monkeypatch.chdir(tmp_path)
    quick = SCRIPT.replace("SCALE(adata)", 'SCALE(adata, preset="tiny")').replace("train()", "train(max_epochs=1)")
    assert quick.count("tiny") == quick.count("max_epochs") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # what there are too few contexts for is said, and is something that the user can act on
        warnings.filterwarnings("ignore", message="No network was trained")
        exec(compile(quick, "your_own_data.py", "exec"), {})
    told = capfd.readouterr()
    assert (tmp_path / "scores.png").stat().st_size > 0
    assert "SCALE" in told.out
    for chatter in ("GPU available", "litlogger", "LeafSpec", "Trainer.fit", "train_dataloader"):
        assert chatter not in told.out + told.err
