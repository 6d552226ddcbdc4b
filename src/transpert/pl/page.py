"""One page that shows a prediction, its scores, and what to make of them."""

from __future__ import annotations

import base64
import html
import io
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from transpert import _keys, tl
from transpert._anndata import check_kind
from transpert._arguments import check_path
from transpert._signatures import as_annotated
from transpert.errors import TranspertError

from .effects import effects_scatter
from .embedded_cells import embedding
from .overlap import overlap_curve
from .score_map import score_heatmap
from .score_plot import scores as draw_scores

_LIBRARIES = ("transpert", "scvi-tools", "anndata", "scanpy", "torch", "numpy")
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #ffffff; --line: #d0d7de; --soft: #57606a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --back: #0d1117; --line: #30363d; --soft: #9198a1; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto;
  max-width: 1180px; padding: 1rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; } h2 { border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; } td.text { white-space: normal; min-width: 12rem; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 1rem; }
.note, figcaption { color: var(--soft); font-size: 14px; }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } .wide { overflow: visible; } }
"""


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
    ...     page = tp.pl.report(cells, cells, f"{folder}/report.html", baselines=None)
    ...     page.name
    'report.html'
    """
    check_kind(pred, name="the prediction")
    check_kind(truth, name="the truth")
    target = check_path(path, name="path")
    if scores is None:
        scores = tl.evaluate(pred, truth, baselines=baselines, seed=seed, progress=False)
    parts = [
        f"<h1>{html.escape(_title(pred))}</h1>",
        _section("What was asked", _asked(pred, truth)),
        _section("What the training could know", _leakage(truth)),
        _section("Scores between floor and ceiling", _score_tables(scores)),
        _section("Pictures", _pictures(pred, truth, scores, seed)),
        _section("Audit", "" if audit is None else _table(audit)),
        _section("How this page was made", _versions(pred, command)),
    ]
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(_title(pred))}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)
    return target


def _title(pred: AnnData) -> str:
    """Name the page after the model."""
    return f"Prediction of {pred.uns.get(_keys.UNS, {}).get('model', 'a model')}"


def _section(title: str, body: str) -> str:
    """Write a section, or nothing where there is nothing to say."""
    return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def _table(frame: pd.DataFrame) -> str:
    """Write a table that scrolls in itself where the page is narrow."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
    rows = ("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in frame.itertuples(index=False))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cell(value: Any) -> str:
    """Write one value."""
    if isinstance(value, float):
        return "<td>undefined</td>" if pd.isna(value) else f"<td>{value:.3f}</td>"
    text = html.escape(str(value))
    return f'<td class="text">{text}</td>' if len(text) > 24 else f"<td>{text}</td>"


def _asked(pred: AnnData, truth: AnnData) -> str:
    """Say what was predicted from how much."""
    said = pred.uns.get(_keys.UNS, {})
    design = {key: value for key, value in dict(said.get("design", {})).items() if value is not None}
    rows = [
        ("predicted", f"{pred.n_obs:,} cells x {pred.n_vars:,} genes"),
        ("real", f"{truth.n_obs:,} cells x {truth.n_vars:,} genes"),
        *(
            (key.replace("_", " "), value if isinstance(value, str) else ", ".join(value))
            for key, value in design.items()
        ),
    ]
    return _table(pd.DataFrame(rows, columns=["what", "value"]))


def _leakage(truth: AnnData) -> str:
    """Show the leakage report of the split."""
    found = truth.uns.get(_keys.SPLIT, {})
    if not isinstance(found, dict) or "leakage" not in found:
        return '<p class="note">The real cells carry no split, so what the training could know is not known here.</p>'
    return f"<p>Held out: {html.escape(str(found.get('kind', '')))}.</p>" + _table(pd.DataFrame(found["leakage"]))


def _score_tables(scores: pd.DataFrame) -> str:
    """Show the mean scores, and those of each population."""
    means = tl.score_table(scores).reset_index()
    note = ""
    undefined = [str(name) for name in means.columns[1:] if means[name].isna().any()]
    if undefined:
        names = html.escape(", ".join(undefined))
        note = f'<p class="note">Undefined for some models: {names}. A correlation needs a change.</p>'
    single = scores[(scores["context"] != "mean") & ~scores["model"].isin(["ceiling"])]
    first = str(single["model"].iloc[0]) if len(single) else ""
    own = single[single["model"] == first]
    wide = own.pivot_table(index=["context", "perturbation"], columns="metric", values="value", sort=False)
    each = f"<h3>Each population, {html.escape(first)}</h3>" + _table(wide.reset_index()) if len(wide) else ""
    return (
        "<p>The floor is the best simple baseline. "
        "The ceiling is one half of the real cells scored against the other.</p>" + _table(means) + note + each
    )


def _pictures(pred: AnnData, truth: AnnData, scores: pd.DataFrame, seed: int) -> str:
    """Draw what can be drawn, and say of the rest why not."""
    drawn: dict[str, Callable[[Axes | None], object]] = {
        "Mean score of every model": lambda ax: draw_scores(scores, show=False, ax=ax),
        "Predicted against observed effects": lambda ax: effects_scatter(pred, truth, show=False, ax=ax),
        "Shared genes of the longest effects": lambda ax: overlap_curve(pred, truth, show=False, ax=ax),
        "Scores of each population": lambda ax: score_heatmap(scores, show=False, ax=ax),
        "Control, observed and predicted cells": lambda ax: embedding(
            tl.embed_together(pred, truth, seed=seed), show=False, ax=ax
        ),
    }
    return '<div class="pictures">' + "\n".join(_picture(name, draw) for name, draw in drawn.items()) + "</div>"


def _picture(caption: str, draw: Callable[[Axes | None], object]) -> str:
    """Draw one picture into the page."""
    before = set(plt.get_fignums())
    try:
        draw(None)
        sink = io.BytesIO()
        plt.savefig(sink, format="png", dpi=110, bbox_inches="tight")
    except TranspertError as error:
        return f'<p class="note">{html.escape(caption)}: {html.escape(str(error))}</p>'
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    data = base64.b64encode(sink.getvalue()).decode("ascii")
    name = html.escape(caption)
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"><figcaption>{name}</figcaption></figure>'


def _versions(pred: AnnData, command: str | None) -> str:
    """List versions and the command."""
    rows = [("command", command)] if command else []
    rows += [("Python", platform.python_version()), *((name, version(name)) for name in _LIBRARIES)]
    seed = pred.uns.get(_keys.UNS, {}).get("seed")
    rows += [] if seed is None else [("seed of the prediction", str(seed))]
    return _table(pd.DataFrame(rows, columns=["what", "value"]))
