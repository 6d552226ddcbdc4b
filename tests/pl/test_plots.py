from __future__ import annotations

import inspect
from dataclasses import replace

import anndata
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text
from scipy.spatial.distance import pdist

import transpert as tp
from transpert.errors import (
    ConditionError,
    ControlError,
    CountsError,
    MetricInputError,
    OptionError,
    UnknownNameError,
)
from transpert.metrics import differential_expression, overlap_at_n
from transpert.pl._style import COLOURS, SOURCE_COLOURS

KEYS = {"context_keys": "context"}


def effect_tables(n=200):
    rng = np.random.default_rng(0)
    observed = rng.normal(size=n)
    index = [f"gene_{i}" for i in range(n)]
    return tuple(
        pd.DataFrame({"B: IFNB": values}, index=index) for values in (observed + 0.3 * rng.normal(size=n), observed)
    )


def cells(adata, context, perturbation):
    rows = (adata.obs["context"] == context) & (adata.obs["perturbation"] == perturbation)
    return adata.X[rows.to_numpy()]


def de_of(adata, truth, context, perturbation):
    return differential_expression(cells(adata, context, perturbation), cells(truth, context, "control"))


def shown_texts(figure) -> list[Text]:
    figure.canvas.draw()
    found = figure.findobj(lambda item: isinstance(item, Text) and item.get_visible() and item.get_text().strip())
    # ticks that lie outside the limits are there, and are not drawn
    ticks = {
        label
        for axes in figure.axes
        for axis, low, high in ((axes.xaxis, *sorted(axes.get_xlim())), (axes.yaxis, *sorted(axes.get_ylim())))
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if not low <= tick.get_loc() <= high
        for label in (tick.label1, tick.label2)
    }
    return [item for item in found if item not in ticks]


def clipped_texts(figure) -> list[str]:
    frame = figure.bbox
    boxes = {text: text.get_window_extent() for text in shown_texts(figure)}
    return [
        text.get_text()
        for text, box in boxes.items()
        if box.x0 < frame.x0 - 0.5 or box.x1 > frame.x1 + 0.5 or box.y0 < frame.y0 - 0.5 or box.y1 > frame.y1 + 0.5
    ]


def legend_of(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.fixture(scope="module")
def together(truth, predictions):
    return tp.tl.embed_together(predictions["constant cells"], truth, n_components=5, umap=False, **KEYS)


@pytest.fixture
def drawings(score_rows, truth, predictions, doses, together):
    """Every plot of the room by name, as a function of its last arguments."""
    pred, real = effect_tables()
    return {
        "scores": lambda **kw: tp.pl.scores(score_rows, **kw),
        "score_heatmap": lambda **kw: tp.pl.score_heatmap(score_rows, model="mine", **kw),
        "effects_scatter": lambda **kw: tp.pl.effects_scatter(pred, real, **kw),
        "overlap_curve": lambda **kw: tp.pl.overlap_curve(predictions, truth, **KEYS, **kw),
        "calibration": lambda **kw: tp.pl.calibration(predictions, truth, **KEYS, **kw),
        "embedding": lambda **kw: tp.pl.embedding(together, basis="pca", **kw),
        "dose_response": lambda **kw: tp.pl.dose_response(doses, doses, design=tp.Design(dose_key="dose"), **kw),
    }


# a page is no plot; plots of studies are drawn in test_study_plots.py
ELSEWHERE = {"effect_shares", "report", "responses", "scaling", "targets"}
NAMES = sorted(set(tp.pl.__all__) - ELSEWHERE)


@pytest.mark.parametrize("name", NAMES)
def test_every_plot_behaves_as_those_of_scanpy(drawings, name, monkeypatch) -> None:
    draw = drawings[name]
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    figure = draw(return_fig=True)
    assert isinstance(figure, mpl.figure.Figure) and figure.axes
    assert not clipped_texts(figure)
    own, axes = plt.subplots()
    assert draw(ax=axes, show=False) is axes
    assert axes.has_data()
    assert not shown
    assert draw(show=True) is None and shown == [1]
    parameters = inspect.signature(getattr(tp.pl, name)).parameters
    assert [*parameters][-3:] == ["ax", "show", "return_fig"] and "save" not in parameters


@pytest.mark.parametrize("name", NAMES)
def test_plots_are_drawn_into_parts_of_a_figure(drawings, name) -> None:
    whole = plt.figure()
    part = whole.subfigures(1, 2)[0].subplots()
    assert drawings[name](ax=part, return_fig=True) is whole


def test_no_plot_changes_the_settings_of_matplotlib(drawings) -> None:
    before = dict(mpl.rcParams)
    for draw in drawings.values():
        draw(show=False)
    assert dict(mpl.rcParams) == before


# what the colour-blind see, in linear RGB: Machado, Oliveira and Fernandes 2009, severity 1
BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def nearest_colours(colours, kind) -> float:
    """Smallest distance of two colours in CIELAB; about 2 is just noticeable."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.array(BLINDNESS[kind]).T, 0, 1) @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.c_[116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])]
    return float(pdist(lab).min())


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_are_told_apart_by_the_colour_blind(kind) -> None:
    assert nearest_colours(COLOURS, kind) > 15
    assert nearest_colours(SOURCE_COLOURS.values(), kind) > 15
    if kind in ("protan", "deutan"):
        assert nearest_colours(mpl.color_sequences["tab10"][:7], kind) < 10, "the test can tell bad ones"


def test_effects_are_drawn_and_named() -> None:
    pred, real = effect_tables()
    figure = tp.pl.effects_scatter(pred, real, return_fig=True)
    axes = figure.axes[0]
    np.testing.assert_allclose(
        axes.collections[0].get_offsets(), np.c_[real["B: IFNB"], pred["B: IFNB"]] / np.log(2), rtol=1e-6
    )
    assert axes.get_xlabel() == "observed log2 fold change"
    largest = (pred["B: IFNB"].abs() + real["B: IFNB"].abs()).nlargest(12).index
    assert {text.get_text() for text in axes.texts} == set(largest)
    named = tp.pl.effects_scatter(pred, real, genes="gene_5", show=False)
    assert [text.get_text() for text in named.texts] == ["gene_5"]
    with pytest.raises(UnknownNameError, match="C: IFNB"):
        tp.pl.effects_scatter(pred, real, population="C: IFNB")
    with pytest.raises(UnknownNameError, match="gene_x"):
        tp.pl.effects_scatter(pred, real, genes=["gene_x"])


def test_the_strongest_population_is_drawn_or_the_one_of_a_perturbation_or_context() -> None:
    genes = [f"gene_{i}" for i in range(30)]
    one = np.sin(np.arange(30.0))
    sizes = {"B: IFNB": 1.0, "B: IL6": 4.0, "NK: IFNB": 3.0, "NK: IL6": 2.0}
    real = pd.DataFrame({name: size * one for name, size in sizes.items()}, index=genes)
    pred = real[["B: IFNB", "NK: IL6", "NK: IFNB"]]

    def title(**wanted) -> str:
        return tp.pl.effects_scatter(pred, real, show=False, **wanted).get_title().splitlines()[0]

    assert title() == "NK: IFNB (the strongest of 3)", "B: IL6 is stronger, but not predicted"
    assert title(context="NK") == "NK: IFNB (the strongest of 2)"
    assert title(perturbation="IL6") == "NK: IL6"
    assert title(perturbation="IFNB", context="B") == "B: IFNB"
    with pytest.raises(UnknownNameError, match="unknown perturbation: 'IFNG'.*Known: .*'IFNB'"):
        title(perturbation="IFNG")
    pred, real = (table.rename(columns={"NK: IL6": "NK: IL6, dose 3"}) for table in (pred, real))
    assert title(perturbation="IL6") == "NK: IL6, dose 3"
    with pytest.raises(UnknownNameError, match="unknown context: 'B'"):
        title(context="B", perturbation="IL6")
    with pytest.raises(UnknownNameError, match="Label the prediction like the truth"):
        tp.pl.effects_scatter(pred.rename(columns=lambda name: f"x{name}"), real)


def test_the_strongest_population_is_not_the_noisiest() -> None:
    cells = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=80, n_cells=60, effect_size=0.35, seed=2)
    kinds = cells.obs["perturbation"].astype(str)
    control = np.flatnonzero(kinds == "control")
    few = cells[control[:2]].copy()  # two cells to which nothing was done
    few.obs["perturbation"], few.obs_names = "few", ["a", "b"]
    both = anndata.concat([cells[(kinds != "P1").to_numpy()], few])
    table = tp.tl.effects(both.copy())
    assert (table["all: few"] ** 2).sum() > (table["all: P0"] ** 2).sum()
    title = tp.pl.effects_scatter(both, both, show=False).get_title()
    assert title.startswith("all: P0 (the strongest of 2)")


def test_names_of_genes_lie_on_no_point() -> None:
    pred, real = effect_tables()
    figure = tp.pl.effects_scatter(pred, real, n_labels=20, return_fig=True)
    figure.canvas.draw()
    axes = figure.axes[0]
    points = axes.transData.transform(axes.collections[0].get_offsets())
    frame = axes.get_window_extent()
    for text in axes.texts:
        box = Text.get_window_extent(text)
        assert not box.count_contains(points) and frame.x0 < box.x0 < box.x1 < frame.x1


def test_drawing_effects_writes_nothing(truth, predictions) -> None:
    pred, real = predictions["replica"].copy(), truth.copy()
    real.varm["effects"] = np.zeros((truth.n_vars, 1))
    axes = tp.pl.effects_scatter(pred, real, population="context_0: P1", show=False, **KEYS)
    assert axes.get_title().startswith("context_0: P1\nPearson r = 1.00")
    assert not pred.varm and (real.varm["effects"] == 0).all()


def test_effects_of_doses_are_drawn_for_a_prediction_that_says_its_design(doses) -> None:
    pred = doses.copy()
    pred.uns["transpert"] = {"design": {"context_keys": ["context"], "dose_key": "dose"}}
    real = doses.copy()
    real.uns.clear()
    axes = tp.pl.effects_scatter(pred, real, population="context_0: P0, dose 1", show=False)
    assert axes.get_title().startswith("context_0: P0, dose 1\nPearson r = 1.00")
    for dose_key, number in ((None, 1), ("dose", 4)):
        axes = tp.pl.calibration(real, real, design=tp.Design(dose_key=dose_key), show=False, **KEYS)
        assert len(axes.collections[-1].get_offsets()) == number
    axes = tp.pl.overlap_curve(
        real, real, design=tp.Design(dose_key="dose"), population="context_0: P0, dose 1", show=False, **KEYS
    )
    assert axes.get_title() == "context_0: P0, dose 1"


@pytest.mark.parametrize("scale", [1.0, 0.02, -1.0])
def test_names_of_genes_do_not_cover_each_other(scale) -> None:
    pred, real = effect_tables()
    figure = tp.pl.effects_scatter(scale * pred, real, n_labels=20, return_fig=True)
    figure.canvas.draw()
    # without the arrows, which belong to an annotation too
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(boxes) == 20
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_scores_stand_between_floor_and_ceiling(score_rows) -> None:
    axes = tp.pl.scores(score_rows, show=False)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["NoChange", "MeanShift", "other", "mine"]
    assert legend_of(axes) == ["best baseline", "ceiling", "one population", "baseline", "prediction"]
    lines = {line.get_label(): line.get_xdata()[0] for line in axes.get_lines()}
    assert lines["best baseline"] == 0.4 and lines["ceiling"] == 0.9
    assert len(axes.collections[0].get_offsets()) == 12
    assert [text.get_text() for text in axes.texts] == ["undefined"]
    bars = [segment for container in axes.containers for segment in container[2][0].get_segments()]
    assert any(np.allclose(bar[:, 0], [0.62, 0.78]) for bar in bars if len(bar))
    with pytest.raises(UnknownNameError, match="overlap"):
        tp.pl.scores(score_rows, metric="overlap")


@pytest.mark.parametrize(
    ("metric", "best", "text"),
    [("energy_distance", "mine", "lower is better"), ("n_sig_ratio", "mine", "1 is best")],
)
def test_the_best_model_is_on_top_whatever_better_means(score_rows, metric, best, text) -> None:
    axes = tp.pl.scores(score_rows, metric=metric, populations=False, show=False)
    assert axes.get_yticklabels()[-1].get_text() == best
    assert axes.get_xlabel() == f"{metric} ({text})"
    assert "one population" not in legend_of(axes)


def test_scores_without_bounds_are_drawn(score_rows) -> None:
    bare = score_rows.assign(baseline=np.nan, ceiling=np.nan, ci_low=np.nan, ci_high=np.nan)
    assert legend_of(tp.pl.scores(bare, show=False)) == ["one population", "baseline", "prediction"]


def test_the_heat_map_shows_numbers_and_where_they_lie(score_rows) -> None:
    axes = tp.pl.score_heatmap(score_rows, model="mine", show=False)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["T: IFNB", "NK: IFNB", "B: IFNB"]
    numbers = np.array([text.get_text() for text in axes.texts]).reshape(3, 3)
    assert numbers[:, 0].tolist() == ["0.8", "0.7", "0.6"]
    drawn = axes.collections[0].get_array()
    np.testing.assert_allclose(drawn[:, 0], [0.7, 0.6, 0.5])
    assert drawn.mask[:, 1].all(), "a ratio for which 1 is best has no place between floor and ceiling"
    assert axes.collections[0].get_clim() == (-1, 1)
    some = tp.pl.score_heatmap(score_rows, model="mine", metrics=["energy_distance"], show=False)
    assert [label.get_text() for label in some.get_yticklabels()] == ["B: IFNB", "NK: IFNB", "T: IFNB"]
    one = tp.pl.score_heatmap(score_rows, model="mine", metrics="energy_distance", show=False)
    assert [label.get_text() for label in one.get_xticklabels()] == ["energy_distance"]


def test_a_long_heat_map_shows_both_ends(score_rows) -> None:
    axes = tp.pl.score_heatmap(score_rows, model="mine", max_rows=2, show=False)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["T: IFNB", "B: IFNB"]
    assert axes.get_title() == "mine\nthe best and the worst 2 of 3"


def test_the_heat_map_refuses_what_is_not_there(score_rows) -> None:
    assert tp.pl.score_heatmap(score_rows, show=False).get_title() == "NoChange"
    with pytest.raises(UnknownNameError, match="mien"):
        tp.pl.score_heatmap(score_rows, model="mien")
    with pytest.raises(UnknownNameError, match="pearson"):
        tp.pl.score_heatmap(score_rows, metrics=["pearson"])
    with pytest.raises(OptionError, match="max_rows is 1"):
        tp.pl.score_heatmap(score_rows, max_rows=1)
    with pytest.raises(OptionError, match="no metric is named"):
        tp.pl.score_heatmap(score_rows, metrics=[])
    with pytest.raises(OptionError, match="no row is of a model"):
        tp.pl.score_heatmap(score_rows[score_rows["model"] == "ceiling"])


@pytest.mark.parametrize("draw", [tp.pl.scores, tp.pl.score_heatmap])
def test_tables_that_hold_no_scores_are_refused(score_rows, draw) -> None:
    with pytest.raises(OptionError, match="there are no scores"):
        draw(score_rows.iloc[:0])
    with pytest.raises(UnknownNameError, match="'metric'.*tl.evaluate returned; this one has 'pearson_delta'"):
        draw(tp.tl.score_table(score_rows)[["pearson_delta"]])
    with pytest.raises(OptionError, match="rows are of a model.*NoChange / B / IFNB / pearson_delta.*drop_duplicates"):
        draw(pd.concat([score_rows, score_rows]))


@pytest.mark.parametrize("draw", [tp.pl.scores, tp.pl.score_heatmap])
def test_scores_are_read_from_the_cells_that_were_evaluated(score_rows, truth, draw) -> None:
    cells = truth.copy()
    with pytest.raises(OptionError, match=r"carry no scores yet.*Run scores = tp.tl.evaluate\(pred, truth\) first"):
        draw(cells)
    cells.uns["transpert"] = {"scores": score_rows}
    assert draw(cells, show=False).get_title() == draw(score_rows, show=False).get_title()


def test_ratios_stand_on_a_logarithmic_axis_with_zero_at_its_end(score_rows) -> None:
    rows = score_rows.copy()
    rows.loc[(rows["model"] == "NoChange") & (rows["metric"] == "n_sig_ratio"), ["value", "ci_low", "ci_high"]] = 0.0
    axes = tp.pl.scores(rows, metric="n_sig_ratio", show=False)
    assert axes.get_xscale() == "log" and axes.get_xticklabels()[0].get_text() == "0"
    points = {float(x) for container in axes.containers for x in container[0].get_xdata()}
    assert points == {axes.get_xticks()[0], 1.9, 1.1, 3.0}
    assert axes.get_xlim()[0] < axes.get_xticks()[0] and axes.get_xlim()[1] > 3.0
    assert tp.pl.scores(score_rows, show=False).get_xscale() == "linear"


def test_overlap_ends_where_populations_with_something_to_find_end(truth, predictions, monkeypatch) -> None:
    from transpert.pl import overlap

    tested = overlap.tested_populations(
        predictions, truth, population=None, design=None, context_keys="context", layer=None
    )
    rich = max(tested, key=lambda item: item.real.n_significant)
    number = rich.real.n_significant
    assert number >= 40
    poor = [item for item in tested if item.real.n_significant == 0]
    few = replace(rich, name="few", real=replace(rich.real, adjusted=np.where(np.arange(120) < 2, 0.0, 1.0)))
    assert poor and few.real.n_significant == 2
    monkeypatch.setattr(overlap, "tested_populations", lambda *args, **kwargs: [rich, few, few, few])
    axes = tp.pl.overlap_curve(predictions, truth, show=False, **KEYS)
    assert axes.get_xlim() == (10, number)


@pytest.mark.parametrize("perturbation", ["P0", "P1", "P2"])
def test_overlap_curves_pass_through_the_metric(truth, predictions, perturbation) -> None:
    real = de_of(truth, truth, "context_1", perturbation)
    if real.n_significant < 2:
        with pytest.raises(MetricInputError, match="no gene is really significant"):
            tp.pl.overlap_curve(predictions, truth, population=f"context_1: {perturbation}", **KEYS)
        return
    axes = tp.pl.overlap_curve(predictions, truth, population=f"context_1: {perturbation}", show=False, **KEYS)
    lines = {line.get_label(): line for line in axes.get_lines()}
    for name, adata in predictions.items():
        predicted = de_of(adata, truth, "context_1", perturbation)
        expected = [overlap_at_n(predicted, real, n=k) for k in range(1, real.n_significant + 1)]
        np.testing.assert_allclose(lines[name].get_ydata(), expected)
    assert (lines["replica"].get_ydata() == 1).all() and (lines["no change"].get_ydata() == 0).all()
    assert lines["by chance"].get_ydata()[-1] == pytest.approx(real.n_significant / truth.n_vars)


def test_overlap_is_averaged_over_the_populations_that_have_k_genes(truth, predictions) -> None:
    axes = tp.pl.overlap_curve({"constant": predictions["constant cells"]}, truth, show=False, **KEYS)
    pairs = [
        (de_of(predictions["constant cells"], truth, c, p), de_of(truth, truth, c, p))
        for c in ("context_0", "context_1")
        for p in ("P0", "P1", "P2")
    ]
    pairs = [(predicted, real) for predicted, real in pairs if real.n_significant]
    length = int(np.median([real.n_significant for _, real in pairs]))
    expected = [
        np.mean([overlap_at_n(predicted, real, n=k) for predicted, real in pairs if real.n_significant >= k])
        for k in range(1, length + 1)
    ]
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), expected)
    assert axes.get_title() == f"mean over {len(pairs)} populations"
    short = tp.pl.overlap_curve(predictions, truth, max_k=3, show=False, **KEYS)
    assert short.get_lines()[0].get_xdata().tolist() == [1, 2, 3]


def test_calibration_counts_significant_genes(truth, predictions) -> None:
    axes = tp.pl.calibration(predictions, truth, show=False, **KEYS)
    points = {item.get_label(): item.get_offsets() for item in axes.collections if item.get_label() in predictions}
    expected = {
        (de_of(truth, truth, c, p).n_significant, de_of(predictions["constant cells"], truth, c, p).n_significant)
        for c in ("context_0", "context_1")
        for p in ("P0", "P1", "P2")
    }
    assert {tuple(map(int, point)) for point in points["constant cells"]} == expected
    np.testing.assert_array_equal(points["replica"][:, 0], points["replica"][:, 1])
    assert (points["no change"][:, 1] == 0).all()
    assert axes.get_xscale() == axes.get_yscale() == "symlog" and axes.get_xlim() == axes.get_ylim()
    # zero, where no change is, must be on the picture
    assert axes.get_ylim()[0] < 0 < points["constant cells"][:, 1].max() < axes.get_ylim()[1]


@pytest.mark.parametrize("draw", [tp.pl.overlap_curve, tp.pl.calibration])
def test_predictions_that_cannot_be_compared_are_refused(truth, predictions, draw) -> None:
    with pytest.raises(OptionError, match="no prediction"):
        draw({}, truth)
    renamed = predictions["replica"].copy()
    renamed.obs["perturbation"] = renamed.obs["perturbation"].astype(str).str.replace("P", "Q")
    with pytest.raises(MetricInputError, match="no population is both"):
        draw(renamed, truth, **KEYS)
    counts = predictions["replica"].copy()
    counts.X = truth.layers["counts"]
    with pytest.raises(CountsError):
        draw(counts, truth, **KEYS)


def test_overlap_refuses_what_is_not_there(truth, predictions) -> None:
    with pytest.raises(UnknownNameError, match="context_0: P9"):
        tp.pl.overlap_curve(predictions, truth, population="context_0: P9", **KEYS)
    with pytest.raises(OptionError, match="max_k is 0"):
        tp.pl.overlap_curve(predictions, truth, max_k=0, **KEYS)


def test_genes_are_aligned_by_name(truth, predictions) -> None:
    shuffled = predictions["constant cells"][:, ::-1].copy()
    names = {"plain": predictions["constant cells"], "shuffled": shuffled}
    lines = tp.pl.overlap_curve(names, truth, show=False, **KEYS).get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), lines[1].get_ydata())


def test_no_kind_of_cell_hides_another(together) -> None:
    before = list(together.uns)
    axes = tp.pl.embedding(together, basis="X_pca", show=False)
    colours = [to_hex(colour) for colour in axes.collections[0].get_facecolors()]
    assert len(colours) == together.n_obs
    # the three kinds are mixed: each is found in the first and in the last tenth
    tenth = len(colours) // 10
    assert len(set(colours[:tenth])) == len(set(colours[-tenth:])) == 3
    assert legend_of(axes) == ["control", "observed", "predicted"]
    assert list(together.uns) == before
    np.testing.assert_allclose(
        np.sort(axes.collections[0].get_offsets(), axis=0), np.sort(together.obsm["X_pca"][:, :2], axis=0), rtol=1e-5
    )


def test_an_embedding_that_is_not_there_is_refused(truth) -> None:
    with pytest.raises(UnknownNameError, match="tsne"):
        tp.pl.embedding(truth, basis="tsne")
    bare = truth.copy()
    bare.obsm["X_pca"] = np.zeros((truth.n_obs, 2))
    with pytest.raises(UnknownNameError, match="embed_together"):
        tp.pl.embedding(bare, basis="pca")


def test_dose_curves_show_points_and_lines(doses) -> None:
    control = (doses.obs["perturbation"] == "control").to_numpy()
    twice = doses[:, ::-1].copy()
    axes = tp.pl.dose_response(twice, doses, design=tp.Design(dose_key="dose"), genes=["gene_2", "gene_5"], show=False)
    rates = np.expm1(doses.X.toarray().astype(float))
    base = rates[control].mean(axis=0) + 0.05
    expected = np.array(
        [np.log2((rates[(doses.obs["dose"] == d).to_numpy()].mean(axis=0) + 0.05) / base) for d in (0.01, 0.1, 1, 10)]
    )
    points, line = axes.containers[0][0].get_ydata(), axes.get_lines()[2].get_ydata()
    np.testing.assert_allclose(points, expected[:, 2], rtol=1e-4)
    np.testing.assert_allclose(line, points, rtol=1e-6, err_msg="the prediction is the truth, its genes in other order")
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()][1:-1] == ["0.01", "0.1", "1", "10"]
    named = tp.pl.dose_response(doses, doses, design=tp.Design(dose_key="dose"), genes=2, show=False)
    largest = np.argsort(-np.abs(expected).max(axis=0))[:2]
    assert {f"gene_{i}" for i in largest} < set(legend_of(named))


def test_dose_curves_are_of_one_time_and_direction(doses) -> None:
    twice = doses.copy()
    treated = (doses.obs["perturbation"] != "control").to_numpy()
    odd = np.arange(doses.n_obs) % 2 == 1
    twice.obs["time"] = np.where(treated, np.where(odd, 24.0, 6.0), np.nan)
    twice.obs["way"] = np.where(treated, np.where(odd, "up", "down"), None)
    late = twice[odd | ~treated].copy()
    late.obs["time"] = late.obs["time"].astype(object).where(late.obs["time"].isna(), 24)
    keys = {"genes": ["gene_2"], "show": False}

    def points(pred, truth, **more):
        design = tp.Design(dose_key="dose", **more) if more or "transpert" not in pred.uns else None
        return tp.pl.dose_response(pred, truth, design=design, **keys).containers[0][0].get_ydata()

    expected = points(late, late)
    assert not np.allclose(points(late, twice), expected), "nothing names the column of times"
    np.testing.assert_array_equal(points(late, twice, time_key="time"), expected)
    np.testing.assert_array_equal(points(late, twice, direction_key="way"), expected)
    late.uns["transpert"] = {"design": {"dose_key": "dose", "time_key": "time", "context_keys": []}}
    np.testing.assert_array_equal(points(late, twice), expected)
    with pytest.raises(OptionError, match="several times: '24', '6'.*one after the other"):
        points(twice, twice, time_key="time")
    with pytest.raises(OptionError, match="several directions: 'down', 'up'"):
        points(twice, twice, direction_key="way")
    with pytest.raises(OptionError, match="has the time '24' of the prediction, but '6'"):
        points(late, twice[~odd].copy())
    with pytest.raises(UnknownNameError, match="'tiem'"):
        points(late, twice, time_key="tiem")
    late.obs["time"] = late.obs["time"].astype(str) + "h"
    with pytest.raises(ConditionError, match="'24h' is not a number"):
        points(late, twice)


def test_dose_curves_take_controls_of_any_spelling(doses) -> None:
    other = doses.copy()
    is_control = doses.obs["perturbation"].astype(str) == "control"
    other.obs["perturbation"] = doses.obs["perturbation"].astype(str).where(~is_control, "ctrl+ctrl")
    drawn = [
        tp.pl.dose_response(adata, adata, design=tp.Design(dose_key="dose"), genes=["gene_2"], show=False)
        .get_lines()[2]
        .get_ydata()
        for adata in (doses, other)
    ]
    np.testing.assert_array_equal(*drawn)


def test_intervals_of_doses_are_those_of_a_bootstrap(doses) -> None:
    axes = tp.pl.dose_response(doses, doses, design=tp.Design(dose_key="dose"), genes=list(doses.var_names), show=False)
    drawn = np.array([np.ptp(container[2][0].get_segments()[2][:, 1]) for container in axes.containers])
    rates = np.expm1(doses.X.toarray().astype(float))
    treated, control = rates[(doses.obs["dose"] == 1.0).to_numpy()], rates[doses.obs["dose"].isna().to_numpy()]
    rng = np.random.default_rng(0)
    folds = [
        np.log2(treated[rng.integers(len(treated), size=len(treated))].mean(axis=0) + 0.05)
        - np.log2(control[rng.integers(len(control), size=len(control))].mean(axis=0) + 0.05)
        for _ in range(500)
    ]
    common = (treated.mean(axis=0) > 1) & (control.mean(axis=0) > 1)
    assert common.sum() > 20
    np.testing.assert_allclose(drawn[common], 2 * 1.96 * np.std(folds, axis=0)[common], rtol=0.15)


def test_doses_that_are_none_are_refused(doses, truth, predictions) -> None:
    with pytest.raises(OptionError, match="dose_key"):
        tp.pl.dose_response(doses, doses)
    with pytest.raises(UnknownNameError, match="dosis"):
        tp.pl.dose_response(doses, doses, design=tp.Design(dose_key="dosis"))
    with pytest.raises(UnknownNameError, match="P7"):
        tp.pl.dose_response(doses, doses, design=tp.Design(dose_key="dose"), perturbation="P7")
    with pytest.raises(UnknownNameError, match="gene_x"):
        tp.pl.dose_response(doses, doses, design=tp.Design(dose_key="dose"), genes="gene_x")
    with pytest.raises(OptionError, match="80 have a dose that is not a positive number"):
        bad = doses.copy()
        bad.obs["dose"] = bad.obs["dose"].where(bad.obs["dose"] != 0.1, -1.0)
        tp.pl.dose_response(bad, doses, design=tp.Design(dose_key="dose"))
    with pytest.raises(ControlError, match="no control cells"):
        alone = doses[doses.obs["perturbation"] != "control"].copy()
        tp.pl.dose_response(doses, alone, design=tp.Design(dose_key="dose"))
