"""What the effects of another screen add to the anchor: half of Kang's cell types for the other half, and simulations.

``python -m benchmarks.evidence --data FOLDER`` prints a table: without evidence, with it, and with its genes shuffled.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

import transpert as tp
from transpert.model.evidence import resolve_evidence

METRICS = ("pearson_delta", "overlap_at_n", "energy_distance")
# the ten larger types, in the order of their names: every other one is of "another screen"
_TYPES = ("B", "B Activated", "CD14 Mono", "CD16 Mono", "CD4 Memory T")
_TYPES += ("CD4 Naive T", "CD8 T", "DC", "NK", "T activated")
# perturbations that Norman et al. and McFaline et al. both have
_BOTH = ("MAP2K3", "MAP2K6", "MAP3K21", "MAP4K3", "MAP4K5", "MAPK1", "PLK4", "SGK1", "TGFBR2")
_N_SIMULATED = 10
_HELD_OUT = ["P1", "P4"]


@dataclass(frozen=True)
class Case:
    """Cells of one's own with a split, those of another screen, and their columns."""

    kind: str
    own: AnnData
    other: AnnData
    setup: dict[str, Any]


def kang(folder: Path) -> Iterator[Case]:
    """Predict each type of one half, with the other half as another screen."""
    cells = anndata.read_h5ad(folder / "kang18.h5ad")
    cells = cells[cells.obs["cell_type"].isin(_TYPES)].copy()
    cells.layers["counts"] = cells.X
    cells.X = tp.pp.log1p_per_10k(cells.layers["counts"], cells.obs["n_counts_total"].to_numpy(float))
    setup = {"perturbation_key": "perturbation", "context_keys": "cell_type", "layer": "counts"}
    setup["library_size_key"] = "n_counts_total"
    for half in (_TYPES[::2], _TYPES[1::2]):
        mine = cells.obs["cell_type"].isin(half).to_numpy()
        for held_out in half:
            own = cells[mine].copy()
            tp.pp.split(own, holdout={"cell_type": held_out}, context_keys="cell_type")
            yield Case("Kang: a type, from five others of another screen", own, cells[~mine].copy(), setup)


def norman(folder: Path) -> Iterator[Case]:
    """Predict activations in K562 from knock-downs of the same genes in gliomas, which lead elsewhere, and in turn."""
    cells = anndata.read_h5ad(folder / "norman19_mcfaline23.h5ad")
    cells.layers["counts"] = cells.X
    cells.X = tp.pp.log1p_per_10k(cells.layers["counts"], cells.obs["ncounts"].to_numpy(float))
    setup = {"perturbation_key": "perturbation", "context_keys": "cell_type", "layer": "counts"}
    setup["library_size_key"] = "ncounts"
    is_k562 = (cells.obs["cell_type"] == "k562").to_numpy()
    for mine, kind in ((is_k562, "K562, from gliomas"), (~is_k562, "gliomas, from K562")):
        for held_out in (_BOTH[::3], _BOTH[1::3], _BOTH[2::3]):
            own = cells[mine].copy()
            tp.pp.split(own, holdout={"perturbation": list(held_out)}, context_keys="cell_type")
            yield Case(f"Norman and McFaline: {kind}", own, cells[~mine].copy(), setup)


def simulated() -> Iterator[Case]:
    """Predict perturbations that only another screen has, in contexts that only the own screen has."""
    setup = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
    setup["library_size_key"] = "library_size"
    for seed in range(_N_SIMULATED):
        cells = tp.datasets.simulate(n_contexts=8, n_perturbations=10, n_genes=300, n_cells=60, seed=seed)
        mine = cells.obs["context"].isin([f"context_{number}" for number in range(4)]).to_numpy()
        own = cells[mine].copy()
        tp.pp.split(own, holdout={"perturbation": _HELD_OUT}, context_keys="context")
        yield Case("simulated: perturbations measured elsewhere alone", own, cells[~mine].copy(), setup)


def scores(case: Case) -> pd.DataFrame:
    """One row a source of evidence: the mean of each metric, and the weights."""
    tp.KernelTransport.setup_anndata(case.other, **case.setup)
    other = tp.KernelTransport(case.other)
    other.train()
    (measured,) = resolve_evidence(other)
    order = np.random.default_rng(0).permutation(len(other.genes))
    shuffled = replace(measured, log_fold=measured.log_fold[:, order], variance=measured.variance[:, order])
    predictions, weights = {}, {}
    for name, evidence in (("none", None), ("another screen", measured), ("shuffled genes", shuffled)):
        tp.KernelTransport.setup_anndata(case.own, split_key="split", **case.setup)
        model = tp.KernelTransport(case.own, evidence=evidence)
        model.train()
        held_out = case.own.obs.loc[case.own.obs["split"] == "test"]
        pairs = held_out[[case.setup["context_keys"], "perturbation"]].astype(str).drop_duplicates()
        wanted = list(pairs.itertuples(index=False, name=None))
        predictions[name] = model.predict_populations(wanted, n_cells=200, unseen="mean", seed=0)
        weights[name] = max(model.anchor.evidence[0].weights.values()) if evidence else 0.0
    design = tp.Design("perturbation", "control", (case.setup["context_keys"],))
    found = tp.tl.evaluate(
        predictions, case.own, design=design, metrics=METRICS, ceiling=False, n_bootstrap=0, progress=False
    )
    found = found[found["context"] != "mean"].groupby(["model", "metric"])["value"].mean().unstack()
    return found.assign(weight=pd.Series(weights), kind=case.kind)


def main() -> None:
    """Print the means over cases, and the differences from no evidence with 95 % intervals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    data = os.environ.get("TRANSPERT_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="real data; or $TRANSPERT_DATA")
    folder = parser.parse_args().data
    warnings.simplefilter("ignore")
    logging.getLogger("transpert").setLevel(logging.ERROR)
    cases = [*simulated(), *((*kang(folder), *norman(folder)) if folder else ())]
    table = pd.concat([scores(case).assign(case=number) for number, case in enumerate(cases)]).reset_index()
    rng = np.random.default_rng(0)
    for kind, rows in table.groupby("kind"):
        print(f"\n{kind}: {rows['case'].nunique()} cases\n\n| evidence | weight | " + " | ".join(METRICS) + " |")
        print("|---" * (2 + len(METRICS)) + "|")
        wide = rows.pivot_table(index="case", columns="model", values=list(METRICS))
        for name in ("none", "another screen", "shuffled genes"):
            cells = [f"{rows.loc[rows['model'] == name, 'weight'].mean():.2f}"]
            for metric in METRICS:
                if metric not in wide:  # nothing is really significant
                    cells.append("-")
                    continue
                difference = (wide[metric][name] - wide[metric]["none"]).dropna().to_numpy()
                draws = difference[rng.integers(len(difference), size=(2_000, len(difference)))].mean(axis=1)
                low, high = np.quantile(draws, [0.025, 0.975])
                cells.append(f"{wide[metric][name].mean():.3f} ({difference.mean():+.3f}: {low:+.3f}, {high:+.3f})")
            print("| " + " | ".join([name, *cells]) + " |")


if __name__ == "__main__":
    main()
