"""One page that shows a prediction, its scores, and what to make of them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys, tl
from transpert._anndata import check_kind, metadata_of
from transpert._arguments import check_arguments
from transpert._files import versions
from transpert._folders import file_written
from transpert._signatures import as_annotated
from transpert.errors import StoreError
from transpert.metrics import METRICS
from transpert.pp._splits.report import as_split_report
from transpert.tl.registration import intervals_of
from transpert.tl.score_summary import CEILING, MEAN, score_table

from ._page_html import document, facts, heading, paragraph, picture, section, table
from ._style import direction_hint
from .effects import effects_scatter
from .embedded_cells import embedding
from .overlap import overlap_curve
from .score_map import score_heatmap
from .score_plot import scores as draw_scores

_LIBRARIES = ("transpert", "scvi-tools", "anndata", "scanpy", "torch", "numpy")
_MOST_ROWS = 60  # of the table of populations
_MOST_CELLS = 2_000  # of each kind in the UMAP


@as_annotated()
def report(
    pred: AnnData,
    truth: AnnData,
    path: str | os.PathLike,
    *,
    scores: pd.DataFrame | None = None,
    audit: pd.DataFrame | None = None,
    baselines: str | list[str] | None = "all",
    command: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write one page about a prediction: what was asked, scores between floor and ceiling, pictures, versions.

    The page is one file. It needs no network, follows the light or dark setting of its reader, and can be printed.

    Parameters
    ----------
    pred
        Predicted cells: log1p counts per 10k in ``X``.
    truth
        The real cells, with controls; with a split (:func:`transpert.pp.split`) the page shows what leaks.
    path
        Where to write the page, ``.html``.
    scores
        What :func:`transpert.tl.evaluate` returned; computed if not given.
    audit
        What :func:`transpert.tl.audit` returned; left out if not given.
    baselines
        Baselines to score beside the prediction where ``scores`` is not given.
    command
        The command that made the prediction.
    seed
        Seed of everything random.
    progress
        Show a progress bar while scores are computed.

    Returns
    -------
    The path of the page.

    Raises
    ------
    transpert.errors.TranspertError
        As :func:`transpert.tl.evaluate`, for data that cannot be compared.

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> cells = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=20, n_cells=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = tp.pl.report(cells, cells, f"{folder}/report.html", baselines=None, progress=False)
    ...     page.name
    'report.html'
    """
    check_arguments(locals(), but=("scores", "baselines"))
    check_kind(pred, name="the prediction")
    check_kind(truth, name="the truth")
    target = Path(path)
    if scores is None:
        scores = tl.evaluate(pred, truth, baselines=baselines, seed=seed, progress=progress)
    text = document(
        f"Prediction of {metadata_of(pred).get('model', 'a model')}",
        [
            section("At a glance", _at_a_glance(scores)),
            section("What was asked", _request(pred, truth)),
            section("What the training could know", _leakage(truth)),
            section("Scores between floor and ceiling", _score_tables(scores)),
            section("How sure the model is", _uncertainty(pred)),
            section("Pictures", _pictures(pred, truth, scores, seed)),
            section("Audit", "" if audit is None else table(audit)),
            section("How this page was made", _versions(pred, command)),
        ],
    )
    with file_written(target, StoreError, "write the page again") as new:
        new.write_text(text, encoding="utf-8")
    return target


def _at_a_glance(scores: pd.DataFrame) -> str:
    """Say in words where the prediction stands between floor and ceiling."""
    means = scores[scores["context"] == MEAN]
    model = str(means["model"].iloc[0])
    own = means[(means["model"] == model) & means["value"].notna()]
    if not len(own):
        return paragraph(f"No score of {model} is defined.")
    first = own.iloc[0]
    floor = means[(means["metric"] == first["metric"]) & ~means["model"].isin([model, CEILING])]
    best = floor.loc[floor["value"] == first["baseline"], "model"]
    words = f"{first['metric']} of {model} is {first['value']:.3f}"
    if len(best):
        words += f"; that of the best baseline ({best.iloc[0]}) is {first['baseline']:.3f}"
    if pd.notna(first["ceiling"]):
        words += f"; that of one half of the real cells against the other is {first['ceiling']:.3f}"
    known = own[own["metric"].isin(list(METRICS)) & own["baseline"].notna()]
    pairs = zip(known["metric"], known["value"], known["baseline"], strict=True)
    won = sum(METRICS[name].better(value, baseline) for name, value, baseline in pairs)
    both = f" {model} is better than the best baseline of each metric in {won} of {len(known)} metrics."
    return paragraph(words + "." + (both if len(known) else ""))


def _request(pred: AnnData, truth: AnnData) -> str:
    """Say what was predicted from how much."""
    design = dict(metadata_of(pred).get("design", {}))
    rows = [
        ("predicted", f"{pred.n_obs:,} cells x {pred.n_vars:,} genes"),
        ("real", f"{truth.n_obs:,} cells x {truth.n_vars:,} genes"),
    ]
    rows += [(key.replace("_", " "), _as_text(value)) for key, value in design.items() if value is not None]
    unseen = metadata_of(pred).get(_keys.UNSEEN)
    rows += [] if unseen is None else [("predicted as the mean of the others", _as_text(unseen))]
    return facts(rows)


def _as_text(value: Any) -> str:
    """Write one name or several."""
    several = isinstance(value, list | tuple | set | np.ndarray)
    return ", ".join(map(str, value)) if several else str(value)


def _leakage(truth: AnnData) -> str:
    """Show the leakage report of the split."""
    found = as_split_report(truth.uns.get(_keys.SPLIT))
    if found is None:
        return paragraph("The real cells carry no split, so what the training could know is not known here.", note=True)
    return paragraph(f"Held out by {found['kind']}. Every number below should be 0.") + table(found["leakage"])


def _score_tables(scores: pd.DataFrame) -> str:
    """Show the mean scores, their intervals, and those of each population."""
    means = score_table(scores).reset_index()
    own = str(means["model"].iloc[0])
    hints = {name: direction_hint(metric.direction).strip(" ()") for name, metric in METRICS.items()}
    undefined = [str(name) for name in means.columns[1:] if means[name].isna().any()]
    note = f"Undefined for some models: {', '.join(undefined)}. A correlation needs a change." if undefined else ""
    return "".join(
        [
            paragraph(
                "The floor is the best simple baseline. The ceiling is one half of the real cells scored against the "
                "other."
            ),
            table(means, hints=hints, own=own),
            paragraph(note, note=True) if note else "",
            _intervals(scores, own),
            _each_population(scores, own, hints),
        ]
    )


def _intervals(scores: pd.DataFrame, own: str) -> str:
    """Show the intervals of the mean scores, where there are any."""
    rows = scores[(scores["context"] == MEAN) & (scores["model"] == own) & scores["ci_low"].notna()]
    if not len(rows):
        one = (scores[scores["context"] != MEAN].groupby("model")[["context", "perturbation"]].nunique() < 2).all(
            axis=None
        )
        why = "need at least two of them" if one else "were not computed: tl.evaluate(n_bootstrap=1_000) does"
        return paragraph(f"Intervals over populations {why}.", note=True)
    shown = rows[["metric", "value", "ci_low", "ci_high", "n", "n_undefined"]]
    shown = shown.set_axis(["metric", "mean", "95 % from", "to", "populations", "undefined"], axis=1)
    return heading(f"Intervals over populations, {own}") + table(shown)


def _each_population(scores: pd.DataFrame, own: str, hints: dict[str, str]) -> str:
    """Show the scores of each population, or the first and last of many."""
    rows = scores[(scores["context"] != MEAN) & (scores["model"] == own)]
    if not len(rows):
        return ""
    wide = rows.pivot_table(index=["context", "perturbation"], columns="metric", values="value", sort=False)
    wide = wide.reindex(columns=[name for name in rows["metric"].unique() if name in wide])
    title, order = f"Each population, {own}", wide.sort_values(wide.columns[0], kind="stable")
    if len(wide) > _MOST_ROWS:
        wide = pd.concat([order.head(_MOST_ROWS // 2), order.tail(_MOST_ROWS // 2)])
        title = f"{_MOST_ROWS} of {len(order):,} populations, the lowest and the highest {wide.columns[0]}, {own}"
    return heading(title) + table(wide.reset_index(), hints=hints)


def _uncertainty(pred: AnnData) -> str:
    """Say how far each population is from the training, where the prediction brings it."""
    found = intervals_of(pred)
    if found is None:
        return paragraph(
            "The prediction brings no intervals: model.predict(..., interval=0.9) writes them, and how far each "
            "population is from the training.",
            note=True,
        )
    rows = found["conditions"].sort_values(_keys.OOD_SCORE, ascending=False)
    shown = paragraph(
        f"Effects have {float(found['level']):.0%} intervals, from errors on n_left_out groups that were left out. "
        "A distance of 0 was trained on, 1 is that between neighbours in the training, much more than 1 is far out."
    )
    more = f"The farthest {_MOST_ROWS} of {len(rows):,}." if len(rows) > _MOST_ROWS else ""
    return shown + table(rows.head(_MOST_ROWS)) + (paragraph(more, note=True) if more else "")


def _pictures(pred: AnnData, truth: AnnData, scores: pd.DataFrame, seed: int) -> str:
    """Draw what can be drawn, and say of the rest why not."""
    drawn = [
        picture("Mean score of every model", lambda: draw_scores(scores, show=False)),
        picture("Predicted against observed effects", lambda: effects_scatter(pred, truth, show=False)),
        picture("Shared genes of the longest effects", lambda: overlap_curve(pred, truth, show=False)),
        picture(
            "Control, observed and predicted cells",
            lambda: embedding(tl.embed_together(pred, truth, max_cells=_MOST_CELLS, seed=seed), show=False),
        ),
        picture("Scores of each population", lambda: score_heatmap(scores, show=False), whole=True),
    ]
    return '<div class="pictures">' + "\n".join(drawn) + "</div>"


def _versions(pred: AnnData, command: str | None) -> str:
    """List versions and the command."""
    seed = metadata_of(pred).get("seed")
    rows = [("command", command or ""), ("Python", platform.python_version())]
    rows += versions(*_LIBRARIES).items()
    return facts([*rows, ("seed of the prediction", "" if seed is None else str(seed))])
