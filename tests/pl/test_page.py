from __future__ import annotations

import pandas as pd

import transpert as tp


def test_page_escapes_names_and_says_why_a_picture_is_missing(screen, tmp_path) -> None:
    cells = screen[screen.obs["context"].isin(["context_0"])].copy()
    cells.uns["transpert"] = {"model": "<b>mine</b>"}
    scores = tp.tl.evaluate(cells, cells, context_keys="context", metrics=["pearson_delta"], n_bootstrap=0)
    page = tp.pl.report(cells, cells, tmp_path / "deep" / "page.html", scores=scores, audit=pd.DataFrame({"x": [1.0]}))
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;mine&lt;/b&gt;" in text and "<b>mine" not in text
    assert "<h2>Audit</h2>" in text and "carry no split" in text
    assert "<script" not in text
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
