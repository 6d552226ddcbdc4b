from __future__ import annotations

import pandas as pd

import transpert as tp


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
