"""Unseen perturbations: what embeddings are worth, on simulated screens and on Papalexi et al. (2021).

    python benchmarks/quality/unseen_perturbations.py [--papalexi X.h5ad --go GO.npz] [--out FOLDER] [--page PAGE.md]

Every perturbation is predicted once, by a model that was trained without it. The simulated screens have 100 and 1,000
perturbations in one context, whose effects follow an 8-dimensional embedding with 30 % noise on top of an effect that
all have in common. In Papalexi, IFNGR1, JAK2 and STAT1 are left out together. What is in the results folder already is
not run again.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

import transpert as tp

METRICS = {"pearson_delta": "PDCorr", "overlap_at_n": "DE overlap", "discrimination_score_cosine": "discrimination"}
REFERENCE = "mean over perturbations"
INSEPARABLE = ("IFNGR1", "JAK2", "STAT1")
SETUP = {"perturbation_key": "perturbation", "split_key": "split", "layer": "counts"}


class Task:
    """A screen, its embeddings, and which perturbations are left out together."""

    def __init__(
        self,
        name: str,
        adata: anndata.AnnData,
        tables: dict[str, tp.conditions.Embedding],
        folds: list[list[str]],
        library: str,
    ) -> None:
        self.name, self.adata, self.tables, self.folds, self.library = name, adata, tables, folds, library


def simulated(n: int, n_folds: int, n_evaluated: int) -> Task:
    """A simulated screen in one context."""
    adata = tp.datasets.simulate(
        n_contexts=1,
        n_perturbations=n,
        n_genes=300,
        n_cells=60,
        n_control_cells=500,
        embedding_dimension=8,
        embedding_noise=0.3,
        systematic_effect=0.7,
        effect_size=0.7,
        context_dependence="none",
        seed=n,
    )
    table = tp.conditions.Embedding.from_frame(adata.uns["simulation"]["embedding"])
    names = np.random.default_rng(0).permutation([f"P{i}" for i in range(n)])
    folds = [sorted(part) for part in np.array_split(names, n_folds)][:n_evaluated]
    return Task(f"simulated, {n:,} perturbations", adata, {"embedding": table}, folds, "library_size")


def papalexi(path: str, go: str) -> Task:
    """The 19 targets of Papalexi in five folds; near-duplicates stay together."""
    adata = anndata.read_h5ad(path)
    adata.layers["counts"] = sparse.csr_matrix(adata.X, dtype=np.float32)
    adata.X = tp.pp.log1p_per_10k(adata.layers["counts"], adata.obs["n_counts_total"].to_numpy())
    targets = sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})
    alone = np.random.default_rng(0).permutation([name for name in targets if name not in INSEPARABLE])
    folds = [list(INSEPARABLE), *([str(name) for name in part] for part in np.array_split(alone, 4))]
    # the data has the symbol of its time
    everything = tp.conditions.Embedding.from_npz(go).rename({"MARCHF8": "MARCH8"})
    missing = [name for name in targets if name not in everything]
    if missing:
        sys.exit(f"no GO vector for {missing}")
    tables = {"GO": everything.restrict(targets)}
    own = tp.conditions.coexpression(
        adata, perturbation_key="perturbation", layer="counts", library_size_key="n_counts_total"
    )
    measured = [name for name in targets if name in own]
    print(f"{len(measured)} of {len(targets)} targets are among the measured genes: {', '.join(measured)}")
    if len(measured) == len(targets):
        tables["co-expression"] = own.restrict(targets)
    else:
        tables["co-expression of GO neighbours"] = through_neighbours(everything, own, targets)
    tables["GO and co-expression"] = tp.conditions.combine(list(tables.values()))
    return Task("Papalexi, 19 targets", adata, tables, folds, "n_counts_total")


def through_neighbours(
    go: tp.conditions.Embedding, own: tp.conditions.Embedding, targets: Iterable[str], n: int = 10
) -> tp.conditions.Embedding:
    """Co-expression of a target that was not measured: the mean over the measured genes most like it in GO.

    This is a substitute that the task makes knowingly; the package itself never makes one.
    """
    shared = [name for name in own.names if name in go]
    rows = []
    for target in targets:
        pool = go.restrict(dict.fromkeys([*shared, target]))
        near = [target] if target in own else pool.nearest(target, n=n).index.tolist()
        rows.append(own.lookup(near).mean(axis=0))
    return tp.conditions.Embedding(tuple(targets), np.array(rows), "co-expression, through GO neighbours")


def methods(task: Task) -> dict[str, Callable[[], tp.model.PerturbationModel]]:
    """Every method by name, as a function that makes an untrained model of the data as it is set up."""

    def make(cls: type, table: tp.conditions.Embedding | None, **options: object) -> Callable:
        def build() -> tp.model.PerturbationModel:
            cls.setup_anndata(task.adata, **SETUP, library_size_key=task.library)
            return cls(task.adata, embeddings=table, **options)

        return build

    made = {REFERENCE: make(tp.RidgeTransport, None)}
    for name, table in task.tables.items():
        made[f"NearestPerturbation, {name}"] = make(tp.NearestPerturbation, table, readout="counts")
        made[f"RidgeTransport, {name}"] = make(tp.RidgeTransport, table)
    first, table = next(iter(task.tables.items()))
    made[f"RidgeTransport, {first} shuffled"] = make(tp.RidgeTransport, table.shuffle(1))
    made[f"SCALE, {first}"] = make(tp.SCALE, table)
    return made


def run(task: Task, name: str, build: Callable[[], tp.model.PerturbationModel]) -> pd.DataFrame:
    """Predict every fold with a model that has not seen it, and score all predictions together."""
    parts, started, notes = [], time.perf_counter(), []
    for number, fold in enumerate(task.folds):
        held = task.adata.obs["perturbation"].isin(fold)
        task.adata.obs["split"] = np.where(held, "test", "train")
        model = build()
        model.train(**({"enable_progress_bar": False} if isinstance(model, tp.SCALE) else {}))
        pred = model.predict(perturbations=fold, n_cells=500, include_controls=number == 0, progress=False, seed=number)
        pred.obs_names = [f"{number}-{cell}" for cell in pred.obs_names]
        parts.append(pred)
        if isinstance(model, tp.SCALE):
            notes.append(model.gate)
    pred = anndata.concat(parts)
    pred.uns["transpert"] = parts[0].uns["transpert"]
    wanted = sorted({name for fold in task.folds for name in fold})
    truth = task.adata[task.adata.obs["perturbation"].isin([*wanted, "control"])].copy()
    scores = tp.tl.evaluate(
        {name: pred}, truth, metrics=list(METRICS), baselines=[], ceiling=name == REFERENCE, progress=False
    )
    scores = scores[scores["perturbation"].isin(wanted)][["model", "perturbation", "metric", "value"]]
    scores["seconds"] = time.perf_counter() - started
    scores["gate"] = np.mean(notes) if notes else np.nan
    return scores.assign(task=task.name)


def summary(scores: pd.DataFrame) -> list[str]:
    """Markdown of one task: means, and the paired difference from the mean over perturbations."""
    lines = [
        "| method | " + " | ".join(METRICS.values()) + " | seconds |",
        "|---|" + "---|" * (len(METRICS) + 1),
    ]
    wide = scores.pivot_table(index="perturbation", columns=["metric", "model"], values="value", dropna=False)
    for model in scores["model"].unique():
        own = scores[scores["model"] == model]
        cells = []
        for metric in METRICS:
            if (metric, model) not in wide or not wide[metric, model].notna().any():
                cells.append("-")
                continue
            text = f"{wide[metric, model].mean():.3f}"
            if model not in (REFERENCE, "ceiling"):
                difference = (wide[metric, model] - wide[metric, REFERENCE]).to_numpy()
                low, high = tp.metrics.bootstrap_interval(difference, n_samples=10_000)
                text += f" ({low:+.3f} to {high:+.3f})"
            cells.append(text)
        gate = "" if own["gate"].isna().all() else f", gate {own['gate'].mean():.2f}"
        lines.append(f"| {model}{gate} | " + " | ".join(cells) + f" | {own['seconds'].iloc[0]:.0f} |")
    return lines


HEAD = """# Unseen perturbations

What embeddings of perturbations are worth. Every perturbation is predicted once, by a model trained without it,
and all predictions of a task are scored together: PDCorr, DE overlap and discrimination (cosine; 0.5 is chance).
In brackets the 95 % bootstrap interval over perturbations of the paired difference from the *mean over perturbations*
(`RidgeTransport` without embeddings: what all perturbations have in common, read out as counts). A method has gained
something where the interval excludes 0. The ceiling is one half of the real cells against the other. Means leave out
perturbations in which a score is undefined (no significant gene, or a prediction that moves nothing).
"""


def write_page(path: Path, scores: pd.DataFrame, remarks: str) -> None:
    """Write the page of the documentation."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("transpert", "scvi-tools", "anndata", "torch", "numpy"))
    lines = [HEAD]
    lines.append(
        f"Measured on {date.today()} on a shared 2-core {platform.machine()} machine (one thread), {packages}, with\n"
        "`python benchmarks/quality/unseen_perturbations.py --papalexi X.h5ad --go GO.npz`.\n"
    )
    for task, part in scores.groupby("task", sort=False):
        lines += [f"## {task[0].upper()}{task[1:]}\n", *summary(part), ""]
    path.write_text("\n".join(lines) + ("\n" + remarks if remarks else ""), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papalexi")
    parser.add_argument("--go")
    parser.add_argument("--out", type=Path, default=Path("results/unseen_perturbations"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks/unseen_perturbations.md"))
    parser.add_argument("--remarks", type=Path, help="Markdown that is put under the tables")
    parser.add_argument("--tasks", nargs="*", default=["100", "1000", "papalexi"])
    parser.add_argument("--skip", default="", help="leave out methods whose name begins so")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    makers: dict[str, Callable[[], Task]] = {
        "100": lambda: simulated(100, 4, 4),
        "1000": lambda: simulated(1_000, 5, 1),
    }
    if arguments.papalexi:
        makers["papalexi"] = lambda: papalexi(arguments.papalexi, arguments.go)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for key in arguments.tasks:
        if key not in makers:
            continue
        task = makers[key]()
        for name, build in methods(task).items():
            path = arguments.out / f"{key}-{name.replace(', ', '-').replace(' ', '_')}.csv"
            if not path.exists() and not (arguments.skip and name.startswith(arguments.skip)):
                run(task, name, build).to_csv(path, index=False)
                print(f"{task.name}: {name} done", flush=True)
    order = {key: i for i, key in enumerate(("100", "1000", "papalexi"))}
    files = sorted(arguments.out.glob("*.csv"), key=lambda path: (order[path.name.split("-")[0]], path.stat().st_mtime))
    if files:
        scores = pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
        remarks = arguments.remarks.read_text(encoding="utf-8") if arguments.remarks else ""
        write_page(arguments.page, scores, remarks)


if __name__ == "__main__":
    main()
