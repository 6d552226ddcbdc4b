"""What ``uns`` of cells may say of us after other hands: every entry gone, or odd, and read by what reads it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from tests.reliability.fuzzing import Report, place_of
from tests.reliability.workshop import Workshop

import transpert as tp
from transpert.errors import TranspertError

ODD: list[Any] = [
    None, -1, "x", "", [], ["x"], [3], {}, {"a": 1}, 1e400, np.nan, True, np.array([]), np.array(["x", "context"]),
    np.zeros((2, 2)), 10**30, "control", "context", pd.DataFrame(), pd.DataFrame({"a": [1]}), object(),
]  # fmt: skip
GONE = object()

type Read = Callable[[ad.AnnData], Any]


def _places(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the place of every entry, and of every group of entries."""
    for name, value in values.items():
        yield (*above, name)
        if isinstance(value, Mapping):
            yield from _places(value, (*above, name))


def changed(values: Mapping[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy with another value in one place, or none."""
    changed = copy.deepcopy(dict(values))
    *above, name = place
    inside = changed
    for step in above:
        inside = inside[step]
    if value is GONE:
        del inside[name]
    else:
        inside[name] = value
    return changed


def cells_and_readers(shop: Workshop) -> list[tuple[str, str, ad.AnnData, dict[str, Read]]]:
    """Return what carries metadata of ours, the entry of ``uns`` that it stands in, and what reads it."""
    truth, quick = shop.copy, {"n_bootstrap": 0, "ceiling": False, "progress": False}
    pred = shop.bounded.copy()
    scored, ranked, shared, moved = shop.copy(), shop.copy(), shop.copy(), shop.copy()
    tp.tl.evaluate(pred.copy(), scored, metrics="mae", **quick)
    tp.tl.rank_targets(shop.anchored, shop.wanted, adata=ranked, n_cells=10, progress=False)
    tp.tl.effect_shares(shared, design=shop.design, n_splits=2, n_bootstrap=2)
    tp.tl.predict(moved, shop.anchored, perturbation="P0", key_added="moved")
    tp.tl.responses(moved, "moved", n_splits=2)
    divided = shop.copy()
    tp.pp.split(divided, holdout={"context": "context_0"})

    def set_up(adata: ad.AnnData) -> None:
        shop.trained(adata, tp.KernelTransport, layer="counts", perturbation_key="perturbation", context_keys="context")

    of_prediction: dict[str, Read] = {
        "evaluate": lambda cells: tp.tl.evaluate(cells, truth(), metrics="mae", **quick),
        "baselines": lambda cells: tp.tl.evaluate(cells, truth(), metrics="mae", baselines="MeanShift", **quick),
        "audit": lambda cells: tp.tl.audit(cells, truth(), metrics=["mae"], n_bootstrap=2, progress=False),
        "effects": tp.tl.effects,
        "distances": lambda cells: tp.tl.distances(cells, truth(), max_cells=5, n_components=2),
        "rank_genes_groups": lambda cells: tp.tl.rank_genes_groups(cells, method="t-test"),
        "embed_together": lambda cells: tp.tl.embed_together(cells, truth(), n_components=2, umap=False),
        "to_counts": lambda cells: tp.tl.to_counts(cells, truth(), counts_layer="counts"),
        "to_cell_eval": lambda cells: tp.tl.to_cell_eval(cells, truth(), shop.fresh()),
        "to_vcc": lambda cells: tp.tl.to_vcc(
            cells, shop.fresh().with_suffix(".vcc"), genes=list(truth().var_names), perturbations=["P0", "P1"],
            n_cells=3, contexts=["context_0", "context_1", "context_2"], layer="counts"),
        "register": lambda cells: tp.tl.register_prediction(cells, shop.fresh()),
        "scatter": lambda cells: tp.pl.effects_scatter(cells, truth(), show=False),
        "overlap": lambda cells: tp.pl.overlap_curve(cells, truth(), max_k=5, show=False),
        "calibration": lambda cells: tp.pl.calibration(cells, truth(), show=False),
        "report": lambda cells: tp.pl.report(cells, truth(), shop.fresh().with_suffix(".html"), scores=shop.scores),
        "written and read": lambda cells: _through_file(cells, shop, truth()),
        "as control cells": set_up,
    }  # fmt: skip
    return [
        ("a prediction", "transpert", pred, of_prediction),
        ("a split", "split", divided, {
            "save as JSON": lambda cells: tp.pp.save_split(cells, shop.fresh().with_suffix(".json")),
            "save as TOML": lambda cells: tp.pp.save_split(cells, shop.fresh().with_suffix(".toml"), file="x.h5ad"),
            "of other cells": lambda cells: tp.pp.load_split(truth(), cells.uns["split"]),
            "report": lambda cells: tp.pl.report(
                pred.copy(), cells, shop.fresh().with_suffix(".html"), scores=shop.scores),
            "networks": lambda cells: tp.SCALE.setup_anndata(
                cells, layer="counts", split_key="split", perturbation_key="perturbation", context_keys="context"),
        }),
        ("scores", "transpert", scored, {
            "scores": lambda cells: tp.pl.scores(cells, show=False), "score_table": tp.tl.score_table,
            "heatmap": lambda cells: tp.pl.score_heatmap(cells, show=False)}),
        ("targets", "transpert", ranked, {"targets": lambda cells: tp.pl.targets(cells, show=False)}),
        ("shares", "transpert", shared, {
            "set up": set_up, "plot": lambda cells: tp.pl.effect_shares(cells, show=False)}),
        ("responses", "transpert", moved, {
            "cells": lambda cells: tp.pl.responses(cells, "moved", show=False),
            "genes": lambda cells: tp.pl.responses(cells, "moved", kind="genes", show=False)}),
    ]  # fmt: skip


def _through_file(cells: ad.AnnData, shop: Workshop, truth: ad.AnnData) -> Any:
    """Evaluate a prediction that was written; what anndata itself cannot write is not our matter."""
    path = shop.fresh().with_suffix(".h5ad")
    try:
        cells.write_h5ad(path)
    except Exception:  # noqa: BLE001
        return None
    return tp.tl.evaluate(path, truth, metrics="mae", n_bootstrap=0, ceiling=False, progress=False)


def attack_metadata(shop: Workshop, *, share: float = 1.0, seed: int = 0, shown: bool = False) -> Report:
    """Change every entry of the metadata, or a share of them, and give the cells to what reads it."""
    import matplotlib.pyplot as plt

    rng, report = np.random.default_rng(seed), Report(shown=shown)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, key, cells, readers in cells_and_readers(shop):
            for place in _places(cells.uns[key]):
                for value in (GONE, *ODD):
                    for reader, read in readers.items():
                        if rng.random() >= share:
                            continue
                        given = cells.copy()
                        given.uns[key] = changed(cells.uns[key], place, value)
                        said = "gone" if value is GONE else f"{str(value)[:30]!r}"
                        _judge(f"{name}: {'/'.join(place)} is {said}: {reader}", read, given, report)
                        plt.close("all")
    return report


def _judge(what: str, read: Read, given: ad.AnnData, report: Report) -> None:
    """Give changed cells to a reader, and note how it ends."""
    try:
        read(given)
    except TranspertError as error:
        report.add("refused", None if error.remedy else f"{what}: no remedy: {error}")
    except Exception as error:  # noqa: BLE001  whatever it is, it is noted
        report.add("raw errors", f"{what}: {type(error).__name__}: {str(error)[:110]} ({place_of(error)})")
    else:
        report.add("results")
