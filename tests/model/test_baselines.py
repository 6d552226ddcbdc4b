"""Baselines are rules over a table of effects, found by their place in a file of their own."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

import transpert as tp
from transpert.model.baselines.registry import find_baselines

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}

RULE = '''
from transpert.model.baselines.closed_form import ShiftRule


class HalfShift(ShiftRule):
    """Half of the mean shift over everything."""

    _place = 9

    def _shift(self, condition, context, before):
        return self._shifts.mean(axis=0) / 2
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "rules_of_a_user"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "half.py").write_text(RULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("rules_of_a_user")
    for name in [name for name in sys.modules if name.startswith("rules_of_a_user")]:
        del sys.modules[name]


def test_a_baseline_is_one_file(package, screen) -> None:
    found = find_baselines(package)
    assert list(found) == ["HalfShift"]
    cls = found["HalfShift"]
    cls.setup_anndata(screen, **KEYS)
    model = cls(screen)
    model.train()
    pred = model.predict({"context": "context_0"}, "P0", n_cells=30, progress=False)
    own, controls = (pred[pred.obs["source"] == source].X for source in ("predicted", "control"))
    halved = model.anchor.effects["log1p"].mean(axis=0) / 2
    moved = np.asarray(own.mean(axis=0)).ravel() - np.asarray(controls.mean(axis=0)).ravel()
    rising = halved > 0.05  # falling values stop at zero
    assert rising.sum() > 3
    np.testing.assert_allclose(moved[rising], halved[rising], atol=0.03)


def test_baselines_come_in_the_order_of_their_places() -> None:
    names = ["NoChange", "MeanShift", "ContextMean", "MeanFoldChange", "Additive", "NearestPerturbation"]
    assert list(tp.model.BASELINES) == [*names, "RidgeTransport", "KernelTransport"]
    assert "Replicate" not in tp.model.BASELINES
    assert not issubclass(tp.Additive, tp.MeanShift)
