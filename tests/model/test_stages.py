from __future__ import annotations

import io
import re
from contextlib import contextmanager

import pytest
import rich
from rich.console import Console

import transpert as tp
from transpert.model import SCALE
from transpert.model.scale import model as scale
from transpert.model.scale.training.progress import stages


@pytest.fixture
def terminal(monkeypatch):
    """What a person would see on a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    screen = io.StringIO()
    monkeypatch.setattr(rich, "_console", Console(file=screen, force_terminal=True, width=100))
    return screen


def test_the_part_under_way_is_shown_and_then_gone(terminal) -> None:
    with stages(True) as say:
        say("Fitting the anchor")
    assert "Fitting the anchor" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased


def test_nothing_is_shown_if_not_wanted(terminal) -> None:
    with stages(False) as say:
        say("Fitting the anchor")
    assert "Fitting" not in terminal.getvalue()


def test_a_log_gets_a_line_for_each_part_and_each_epoch(monkeypatch, capsys) -> None:
    monkeypatch.setattr(rich, "_console", Console(file=io.StringIO(), force_terminal=False))
    with stages(True) as say:
        for text in ("Comparing: controls 1 of 2", "Comparing: controls 2 of 2", "Learning"):
            say(text)
    assert capsys.readouterr().err.splitlines() == ["Comparing", "Learning"]
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=1, n_genes=10, n_cells=10, n_control_cells=10)
    SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    options = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=4, sets_per_batch=2)
    model = SCALE(adata, preset="tiny", training=options, joining=tp.model.JoiningOptions(folds=1, gate=0.5))
    model.train(accelerator="cpu")
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("epoch")]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all(re.fullmatch(r"epoch \d of 2: loss [\d.]+(, validation [\d.]+)?", line) for line in lines)
    assert "\r" not in told


def test_a_training_says_what_it_does_beside_its_steps(monkeypatch) -> None:
    adata = tp.datasets.simulate(n_contexts=6, n_perturbations=2, n_genes=20, n_cells=20, seed=0)
    SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    said: list[tuple[bool, str]] = []

    @contextmanager
    def recorded(shown: bool):
        yield lambda text: said.append((shown, text))

    monkeypatch.setattr(scale, "stages", recorded)
    model = SCALE(adata, joining="always")
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    texts = [text for _, text in said]
    assert not any(shown for shown, _ in said)
    assert texts[0] == "Reading the cells"
    assert any(text.startswith("Choosing how effects depend on the context") for text in texts)
    assert sum(text.startswith("Comparing networks") and text.endswith("of 6") for text in texts) == 6
    assert texts[-1] == "Learning how sure predictions are from left-out groups"
