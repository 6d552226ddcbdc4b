"""The zoo: screens are the same for everybody, results are resumed, and regret is what its name says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.zoo.designs import KINDS, N_SCREENS, design
from benchmarks.zoo.regret import best_on_average, compared, interval, regret_table, wide
from benchmarks.zoo.running import read_results, result_path, run_screen, wanted_numbers
from benchmarks.zoo.screens import CONTROL, simulated

FEW_CELLS = {"n_genes": 120, "n_cells": 15, "n_contexts": 3}


def small(kind: str, **changes: object) -> object:
    number = next(number for number in range(N_SCREENS) if design(number).kind == kind)
    return replace(design(number), **{**FEW_CELLS, **changes})


def results(**scores: list[float]) -> pd.DataFrame:
    rows = [
        {"half": "chosen", "kind": "pair", "number": number, "method": method, "coverage": 0.9, "seconds": 1.0}
        | {"pearson_delta": value, "overlap_at_n": value, "energy_distance": -value, "log n_sig": 0.0}
        for method, values in scores.items()
        for number, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_both_halves_have_every_kind_equally_often() -> None:
    designs = [design(number) for number in range(N_SCREENS)]
    count = pd.crosstab([d.kind for d in designs], [d.half for d in designs])
    assert set(count.index) == set(KINDS)
    assert (count["chosen"] == count["unseen"]).all()
    assert (count.sum(axis=1) >= 20).all()


@pytest.mark.parametrize("kind", ["context, 2 to 5", "pair", "unseen perturbation", "combination", "dose"])
def test_a_screen_is_drawn_from_its_number_and_hides_what_is_asked(kind: str) -> None:
    asked = small(kind, n_perturbations=6)
    first, second = simulated(asked), simulated(asked)
    assert (first.cells.layers["counts"] != second.cells.layers["counts"]).nnz == 0
    seen = first.cells.obs[first.cells.obs["split"] == "train"]
    labels = seen["perturbation"].astype(str)
    if "dose" in seen:
        labels = labels + ", dose " + seen["dose"].astype(str)
    trained = set(zip(seen["context"].astype(str), labels, strict=True))
    assert first.wanted
    assert not trained & set(first.wanted)
    # the controls of what is asked for are there
    assert {context for context, _ in first.wanted} <= set(seen.loc[seen["perturbation"] == CONTROL, "context"])


def test_a_screen_without_effects_differs_from_its_controls_by_noise_alone() -> None:
    screen = simulated(small("no effect", depth=1.0, n_batches=1, n_cells=100, n_perturbations=1))
    values, labels = screen.cells.X.toarray(), screen.cells.obs["perturbation"].astype(str).to_numpy()
    here = screen.cells.obs["context"].astype(str).to_numpy() == screen.wanted[0][0]
    after, before = values[here & (labels != CONTROL)], values[here & (labels == CONTROL)]
    error = np.sqrt(after.var(axis=0) / len(after) + before.var(axis=0) / len(before))
    seen = error > 0
    assert np.abs((after.mean(axis=0) - before.mean(axis=0))[seen] / error[seen]).std() < 1.3


def test_regret_is_to_the_best_baseline_of_each_screen() -> None:
    table = results(**{"mean shift": [0.1, 0.5, 0.3], "nearest": [0.3, 0.2, 0.3], "anchor": [0.2, 0.5, 0.6]})
    assert wide(table, "E-distance").loc[("chosen", "pair", 2), "anchor"] == pytest.approx(0.6)
    assert compared(table, "anchor", "best")["PDCorr"].startswith("+0.067")
    assert compared(table, "anchor", "mean shift")["PDCorr"].startswith("+0.133")
    row = regret_table(table.assign(seconds=1.0), "anchor").loc["all"]
    assert row["below mean shift"] == "0%"
    assert row["coverage"] == "0.90"


def test_the_baseline_that_is_best_on_average_is_judged_where_all_are_defined() -> None:
    names = ("no change", "mean shift, counts", "context mean", "mean fold change", "nearest")
    table = results(**{"mean shift": [0.1, 0.2], **{name: [0.0, 0.9] for name in names}})
    table.loc[(table["method"] == "nearest") & (table["number"] == 1), "pearson_delta"] = np.nan
    assert best_on_average(table, "PDCorr") == "mean shift"


def test_the_interval_of_a_constant_is_that_constant() -> None:
    assert interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    number = min(wanted_numbers("chosen", ["context, 2 to 5"], N_SCREENS), key=lambda n: design(n).n_genes)
    assert len(run_screen(number, ["no change"], {"no change": "nothing"}, tmp_path, None, False)) == 1
    assert run_screen(number, ["no change"], {"no change": "nothing"}, tmp_path, None, False) == []
    stored = json.loads(result_path(tmp_path, number, "nothing").read_text())
    assert stored["method"] == "nothing"
    found = read_results(tmp_path).iloc[0]
    assert found["overlap_at_n"] == 0.0
    assert found["energy_distance"] > 0
