from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import transpert as tp
from transpert.errors import UnknownNameError


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def tables(n=200):
    rng = np.random.default_rng(0)
    observed = rng.normal(size=n)
    index = [f"gene_{i}" for i in range(n)]
    return tuple(
        pd.DataFrame({"B: IFNB": values}, index=index) for values in (observed + 0.3 * rng.normal(size=n), observed)
    )


def no_text_is_clipped(figure) -> bool:
    figure.canvas.draw()
    frame = figure.bbox
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    return all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)


def names_do_not_cover_each_other(figure) -> bool:
    figure.canvas.draw()
    # without the arrows, which belong to an annotation too
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    return not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_effects_are_drawn_and_named() -> None:
    pred, truth = tables()
    figure = tp.pl.effects_scatter(pred, truth, return_fig=True)
    axes = figure.axes[0]
    assert len(axes.collections[0].get_offsets()) == 200
    assert axes.get_xlabel() == "observed log2 fold change"
    largest = (pred["B: IFNB"].abs() + truth["B: IFNB"].abs()).idxmax()
    assert largest in {text.get_text() for text in axes.texts}
    assert no_text_is_clipped(figure) and names_do_not_cover_each_other(figure)
    with pytest.raises(UnknownNameError):
        tp.pl.effects_scatter(pred, truth, population="C: IFNB")


def test_scores_stand_between_two_lines() -> None:
    rows = [
        {"model": m, "context": "mean", "perturbation": "mean", "metric": "pearson_delta", "value": v,
         "ci_low": v - 0.1, "ci_high": v + 0.1, "baseline": 0.4, "ceiling": 0.9}
        for m, v in (("MeanShift", 0.4), ("SCALE", 0.7), ("ceiling", 0.9))
    ]  # fmt: skip
    ax = tp.pl.scores(pd.DataFrame(rows), show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["MeanShift", "SCALE"]
    assert {line.get_label() for line in ax.get_lines()} >= {"best baseline", "ceiling"}
    own, given = plt.subplots()[1], pd.DataFrame(rows)
    assert tp.pl.scores(given, ax=own, show=False) is own
    with pytest.raises(UnknownNameError):
        tp.pl.scores(given, metric="overlap")
