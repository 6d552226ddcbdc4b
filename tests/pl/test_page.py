"""The page about a prediction: what it says, and how a browser shows and prints it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import transpert as tp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

# what does not fit, per width: the page itself, pictures, and tables that do not scroll in themselves
_MEASURE = """
const found = [];
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, width = frame.clientWidth;
  const outside = [...page.querySelectorAll("img, p, h1, h2, h3")].filter(e => e.getBoundingClientRect().right > width);
  const tables = [...page.querySelectorAll("table")].filter(t => t.scrollWidth > t.parentElement.clientWidth);
  const fixed = tables.filter(t => frame.contentWindow.getComputedStyle(t.parentElement).overflowX !== "auto");
  const style = frame.contentWindow.getComputedStyle(page.body);
  const note = frame.contentWindow.getComputedStyle(page.querySelector(".note"));
  found.push({width, page: page.documentElement.scrollWidth, outside: outside.length, scrolling: tables.length,
    fixed: fixed.length, back: style.backgroundColor, text: style.color, note: note.color});
}
document.body.replaceChildren(JSON.stringify(found));
"""


def test_page_escapes_names_and_says_why_a_picture_is_missing(screen, tmp_path) -> None:
    cells = screen[screen.obs["context"].isin(["context_0"])].copy()
    truth = cells.copy()
    cells.uns["transpert"] = {"model": "<b>mine</b>"}
    scores = tp.tl.evaluate(cells, truth, context_keys="context", metrics=["pearson_delta"], n_bootstrap=0)
    page = tp.pl.report(cells, truth, tmp_path / "deep" / "page.html", scores=scores, audit=pd.DataFrame({"x": [1.0]}))
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;mine&lt;/b&gt;" in text and "<b>mine" not in text
    assert "<h2>Audit</h2>" in text and "carry no split" in text
    assert "<script" not in text
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_page_says_where_the_prediction_stands_and_how_sure_it_is(score_rows, screen, tmp_path) -> None:
    cells = screen[screen.obs["context"].isin(["context_0"])].copy()
    rows = {"context": ["far", "near"], "perturbation": "P0", "n_left_out": 3, "ood_score": [0.125, 2.5]}
    cells.uns["transpert"] = {
        "model": "mine",
        "unseen": ["P9"],
        "uncertainty": {"level": 0.9, "conditions": pd.DataFrame(rows)},
    }
    models = ["mine", "NoChange", "MeanShift", "other", "ceiling"]
    ordered = score_rows.assign(model=pd.Categorical(score_rows["model"], models), n=3, n_undefined=0)
    ordered = ordered.sort_values("model", kind="stable").astype({"model": str})
    text = tp.pl.report(cells, cells, tmp_path / "page.html", scores=ordered).read_text(encoding="utf-8")
    assert "pearson_delta of mine is 0.700; that of the best baseline (MeanShift) is 0.400; that of one half" in text
    assert "mine is better than the best baseline of each metric in 3 of 3 metrics" in text
    assert "Effects have 90% intervals" in text and text.index("2.500") < text.index("0.125")
    assert "predicted as the mean of the others</td><td>P9" in text
    assert "<td>0.620</td><td>0.780</td><td>3</td>" in text


def test_page_shows_both_ends_of_many_populations(score_rows, screen, tmp_path) -> None:
    cells = screen[screen.obs["context"].isin(["context_0"])].copy()
    single = score_rows[(score_rows["context"] == "B") & (score_rows["model"] == "mine")]
    many = [single.assign(context=f"line {i:03d}", value=i / 100) for i in range(100)]
    means = score_rows[(score_rows["context"] == "mean") & (score_rows["model"] == "mine")]
    table = pd.concat([*many, means]).assign(n=100, n_undefined=0)
    text = tp.pl.report(cells, cells, tmp_path / "page.html", scores=table).read_text(encoding="utf-8")
    assert "60 of 100 populations, the lowest and the highest pearson_delta, mine" in text
    shown = [f"<td>line {i:03d}</td>" in text for i in range(100)]
    assert shown == [True] * 30 + [False] * 40 + [True] * 30


# ----- as a browser shows it
@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    screen = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=30, n_cells=20, n_control_cells=20)
    pred = screen[screen.obs["context"] == "context_0"].copy()
    scores = tp.tl.evaluate(pred, screen, context_keys="context", metrics="default", n_bootstrap=0, progress=False)
    wide = pd.DataFrame([np.arange(12.0)], columns=[f"a_rather_long_name_of_a_number_{i}" for i in range(12)])
    return tp.pl.report(pred, screen, tmp_path_factory.mktemp("page") / "report.html", scores=scores, audit=wide)


def run(*arguments: str) -> str:
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    done = subprocess.run([str(CHROMIUM), *quiet, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def measured(page: Path, *flags: str) -> list[dict]:
    source = html.escape(page.read_text(encoding="utf-8"), quote=True)
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{source}"></iframe>' for width in (390, 1280)
    )
    wrapper = page.parent / "frames.html"
    wrapper.write_text(f"<!doctype html><body>{frames}<script>window.onload = () => {{{_MEASURE}}}</script></body>")
    shown = run("--window-size=1700,1000", *flags, "--dump-dom", wrapper.as_uri())
    return json.loads(html.unescape(re.search(r"\[\{.*\}\]", shown)[0]))


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(...)``, as the guidelines for accessibility define it."""
    values = np.array([int(v) for v in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


@in_a_browser
def test_nothing_of_the_page_is_clipped_on_a_telephone_or_a_screen_and_wide_tables_scroll(page) -> None:
    narrow, wide = measured(page)
    for found in (narrow, wide):
        assert found["page"] <= found["width"] and found["outside"] == 0 and found["fixed"] == 0
    assert narrow["scrolling"] > 0 and luminance(wide["back"]) == 1
    assert min(contrast(wide["back"], wide[kind]) for kind in ("text", "note")) > 4.5


@in_a_browser
def test_dark_is_dark_and_readable(page) -> None:
    _, found = measured(page, "--blink-settings=preferredColorScheme=0")
    assert luminance(found["back"]) < 0.05
    assert min(contrast(found["back"], found[kind]) for kind in ("text", "note")) > 4.5


@in_a_browser
def test_it_prints(page) -> None:
    printed = page.parent / "page.pdf"
    run("--no-pdf-header-footer", f"--print-to-pdf={printed}", page.as_uri())
    pages = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    assert pages <= 3  # pictures stand two in a row, and no heading alone


def test_it_asks_for_nothing_from_a_network(page) -> None:
    assert not re.search(r"(?:src|href)=.(?!data:|#)|url\(|@import", page.read_text(encoding="utf-8"))
