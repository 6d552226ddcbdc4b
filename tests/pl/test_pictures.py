"""Every plot beside a picture of it that was looked at.

The pictures are without text: each version of matplotlib draws letters a little differently, and test_plots.py reads
what is written. After a wanted change, delete the picture and run the test: it fails and says where the new one lies,
which is to be looked at and copied to ``tests/pl/baseline``.
"""

from __future__ import annotations

from pathlib import Path

import anndata
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.legend import Legend
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

import transpert as tp
from transpert.tl import ScalingStudy

BASELINE = Path(__file__).parent / "baseline"
# root mean square of the difference of pixels, of 255: room for another version of matplotlib
TOLERANCE = 4.0
# what users may have set is set aside
LOOKS = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"} | {"figure.dpi": 64}


def score_drawings(table: pd.DataFrame):
    return {
        "scores": lambda ax: tp.pl.scores(table, ax=ax),
        "score_heatmap": lambda ax: tp.pl.score_heatmap(table, model="mine", ax=ax),
    }


def effects(ax):
    """Fold changes from a formula, so that no generator of random numbers shapes the picture."""
    index = [f"gene {i}" for i in range(120)]
    observed = np.sin(np.arange(120) * 1.7) ** 3 * 2
    predicted = 0.8 * observed + 0.25 * np.cos(np.arange(120) * 2.3)
    tables = [pd.DataFrame({"B: IFNB": values}, index=index) for values in (predicted, observed)]
    return tp.pl.effects_scatter(*tables, ax=ax)


def screen(doses=()):
    """Cells from a formula: 60 genes, the first 20 of which move, each as far as its number and the dose say."""
    genes, cells = np.arange(60), np.arange(40)[:, None]
    noise = 0.5 + 0.5 * np.sin(3.1 * cells + 1.3 * genes)
    moves = np.where(genes < 20, (genes + 4) / 24, 0)
    kinds = [("control", np.nan, 0.0), *(("drug", d, d / (d + 1)) for d in (doses or (9.0,)))]
    values = np.concatenate([noise + share * moves for _, _, share in kinds]).astype(np.float32)
    obs = pd.DataFrame({"perturbation": np.repeat([kind for kind, _, _ in kinds], 40)})
    obs["dose"] = np.repeat([dose for _, dose, _ in kinds], 40)
    obs.index = obs.index.astype(str)
    return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=[f"gene {i}" for i in genes]))


def weaker(adata, share):
    """A prediction whose effects are a share of the real ones."""
    pred = adata.copy()
    control = pred.X[:40]
    pred.X = np.tile(control, (len(pred) // 40, 1)) + share * (pred.X - np.tile(control, (len(pred) // 40, 1)))
    return pred


def overlap(ax):
    truth = screen()
    genes = np.arange(60)
    noisy = weaker(truth, 0.5)
    noisy.X[40:] += 0.5 * (np.sin(genes * 5.1) > 0.7)
    return tp.pl.overlap_curve({"half the effect": weaker(truth, 0.5), "with errors": noisy}, truth, ax=ax)


def calibration(ax):
    truth = screen(doses=(0.05, 0.3, 1.0, 9.0))
    kinds = zip(truth.obs["perturbation"], truth.obs["dose"], strict=True)
    truth.obs["perturbation"] = [name if name == "control" else f"{name} {dose:g}" for name, dose in kinds]
    return tp.pl.calibration({"too weak": weaker(truth, 0.4), "too strong": weaker(truth, 1.6)}, truth, ax=ax)


def embedding(ax):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.c_[np.cos(angle), np.sin(angle)]
    places = np.concatenate([ring, 2 * ring + [1, 0], 2 * ring + [1.3, 0.2]])
    together = anndata.AnnData(obs=pd.DataFrame(index=[f"cell {i}" for i in range(180)]), obsm={"X_umap": places})
    together.obs["source"] = pd.Categorical(np.repeat(["control", "observed", "predicted"], 60))
    return tp.pl.embedding(together, ax=ax)


def dose_response(ax):
    truth = screen(doses=(0.1, 0.3, 1.0, 3.0, 9.0))
    return tp.pl.dose_response(weaker(truth, 0.7), truth, design=tp.Design(dose_key="dose"), genes=3, ax=ax)


def scaling(ax):
    """Scores that follow laws, with three seeds that differ by a formula."""
    rows = [
        {
            "model": model,
            "scheme": "random",
            "seed": seed,
            "cells": size,
            "n_cells": size,
            "context": "B",
            "perturbation": "IFNB",
        }
        | {"metric": "pearson_delta", "value": best - 0.5 * (size / 10) ** -0.6 + 0.01 * (seed - 1)}
        for model, best in (("good", 0.9), ("bad", 0.5))
        for size in (10, 30, 100, 300, 1_000, 3_000)
        for seed in range(3)
    ]
    table = pd.DataFrame(rows)
    study = ScalingStudy(table.assign(normalised=table["value"]), pd.DataFrame(), ("cells",), 0)
    return tp.pl.scaling(study, ax=ax)


def effect_shares(ax):
    shares = pd.DataFrame({"share": [0.5, 0.1, 0.15, 0.25, 0.75]})
    shares.index = ["conserved", "context", "interaction", "noise", "signal"]
    energies = {"signal": [4.0, 2.0, 1.0], "noise": [0.5, 0.6, 0.7], "conserved": [3.0, 1.0, 0.1]}
    perturbations = pd.DataFrame(energies, index=["STAT1", "JAK2", "IRF1"])
    found = tp.tl.EffectShares(shares, perturbations, pd.DataFrame(), pd.Series(dtype=float), "")
    return tp.pl.effect_shares(found, ax=ax)


def targets(ax):
    score = np.array([0.9, 0.8, 0.6, 0.5, 0.2, -0.1])
    ranking = pd.DataFrame({"context": "B", "perturbation": list("abcdef"), "rank": range(1, 7), "score": score})
    ranking = ranking.assign(ci_low=score - 0.1, ci_high=score + 0.05, abstained="")
    ranking["situation"] = ["seen", "perturbation", "seen", "perturbation", "seen", "perturbation"]
    return tp.pl.targets(ranking, ax=ax)


def responses(ax):
    response = np.sin(np.arange(200) * 1.7) + (np.arange(200) % 3 == 0) * 2
    adata = anndata.AnnData(np.zeros((200, 2)))
    adata.obs["response_IFNB"], adata.obs["responds_IFNB"] = response, response > 0.8
    adata.uns["transpert"] = {"response_IFNB": {"genes": pd.DataFrame({"correlation": [0.5], "p_adjusted": [0.0]})}}
    return tp.pl.responses(adata, "IFNB", ax=ax)


PICTURES = {
    "effects_scatter": effects,
    "overlap_curve": overlap,
    "calibration": calibration,
    "embedding": embedding,
    "dose_response": dose_response,
    "scaling": scaling,
    "effect_shares": effect_shares,
    "responses": responses,
    "targets": targets,
}


def draw_without_text(draw, path: Path) -> None:
    with mpl.rc_context(LOOKS):
        figure = plt.figure(figsize=(5, 3.75))
        draw(figure.add_axes((0.1, 0.1, 0.8, 0.8)))
        for axes in figure.axes:
            axes.tick_params(which="both", labelbottom=False, labelleft=False, labelright=False)
        # names that point at something keep their lines
        for text in figure.findobj(Text):
            text.set(text="", path_effects=[])
        for legend in figure.findobj(Legend):
            legend.set_visible(False)
        figure.savefig(path, metadata={"Software": None})


def compare(draw, name, folder) -> str | None:
    draw_without_text(draw, folder / f"{name}.png")
    expected = BASELINE / f"{name}.png"
    assert expected.exists(), f"there is no baseline picture; look at {folder / name}.png and copy it to {BASELINE}"
    return compare_images(str(expected), str(folder / f"{name}.png"), TOLERANCE)


ELSEWHERE = {"report"}  # a page is no picture


@pytest.mark.parametrize("name", sorted(set(tp.pl.__all__) - ELSEWHERE))
def test_pictures_look_as_they_did(name, score_rows, tmp_path) -> None:
    assert compare((PICTURES | score_drawings(score_rows))[name], name, tmp_path) is None


@pytest.mark.parametrize("metric", ["energy_distance", "n_sig_ratio"])
def test_the_comparison_sees_another_picture(metric, score_rows, tmp_path) -> None:
    found = compare(lambda ax: tp.pl.scores(score_rows, metric=metric, ax=ax), "scores", tmp_path)
    assert found is not None and "RMS" in found


def test_the_pictures_are_small() -> None:
    assert {path.stem for path in BASELINE.glob("*")} == set(tp.pl.__all__) - ELSEWHERE
    assert sum(path.stat().st_size for path in BASELINE.glob("*")) < 200_000
