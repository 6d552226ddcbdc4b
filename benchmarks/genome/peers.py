"""Evaluation and rank tests beside other tools, each in a process and an environment of its own.

``python benchmarks/genome/peers.py --python cell-eval=VENV/bin/python`` prints one JSON line a tool: CPU seconds of one
thread, and the peak of the process. The cells are those of design a (see ``designs.py``); what is predicted is the
anchor's. Every tool first runs on a few cells and genes, so that what it compiles is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

CONTROL, CELLS = "control", 200
# case: tools, number of perturbations
CASES = {
    "cell-eval": (("transpert", "cell-eval"), 10),
    "challenge": (("transpert-challenge", "cell-eval2"), 50),
    "rank tests": (("transpert-ranks", "pdex", "scanpy"), 12),
}


def make_files(folder: Path, n: int) -> tuple[Path, Path]:
    """Write the real cells of some perturbations with all controls, and what the anchor predicts of them."""
    paths = folder / f"peers-real-{n}.h5ad", folder / f"peers-pred-{n}.h5ad"
    if not all(path.exists() for path in paths):
        from benchmarks.genome.designs import read_screen
        from benchmarks.genome.verbs import _log1p, trained, wanted

        screen, adata = read_screen("a", folder)
        names = [CONTROL, *(f"P{i}" for i in range(n))]
        pred = trained(screen, adata).predict(**wanted(screen, n), n_cells=CELLS, progress=False)
        real = _log1p(adata[adata.obs["perturbation"].isin(names)].copy())
        controls = real[real.obs["perturbation"] == CONTROL]
        pred = ad.concat([controls, pred[pred.obs["perturbation"] != CONTROL]], index_unique="-")
        for cells, path in zip((real, pred), paths, strict=True):
            cells.obs = cells.obs[["perturbation"]].astype(str).astype("category")
            cells.uns.clear()
            cells.write_h5ad(path)
    return paths


def transpert(real: ad.AnnData, pred: ad.AnnData, folder: Path, panel: str = "cell-eval") -> None:
    import transpert as tp

    design = tp.groups.Design("perturbation", CONTROL, ())
    options = tp.tl.EvaluationOptions(reference="predicted")
    plain = {"ceiling": False, "n_bootstrap": 0, "progress": False}
    tp.tl.evaluate(pred, real, design=design, metrics=panel, options=options, **plain)


def transpert_challenge(real: ad.AnnData, pred: ad.AnnData, folder: Path) -> None:
    transpert(real, pred, folder, "vcc2026")


def cell_eval(real: ad.AnnData, pred: ad.AnnData, folder: Path) -> None:
    from cell_eval import MetricsEvaluator

    evaluator = MetricsEvaluator(
        adata_pred=pred, adata_real=real, control_pert=CONTROL, pert_col="perturbation", num_threads=1,
        outdir=str(folder / "cell-eval"),
    )  # fmt: skip
    # the agreement of clusterings is the one column that transpert does not have
    evaluator.compute(profile="full", skip_metrics=["clustering_agreement"], write_csv=False)


def cell_eval2(real: ad.AnnData, pred: ad.AnnData, folder: Path) -> None:
    import dataclasses
    import importlib.resources

    import cell_eval2 as package

    path = importlib.resources.files(package) / "configs" / "vcc2026.yaml"
    config = dataclasses.replace(
        package.EvalConfig.from_yaml(str(path)), control=CONTROL, pert_col="perturbation", num_threads=1
    )
    package.compute_metrics(_of_counts(pred), _of_counts(real), config=config)


def _of_counts(cells: ad.AnnData) -> ad.AnnData:
    return ad.AnnData(cells.layers["counts"], obs=cells.obs, var=cells.var)


def transpert_ranks(real: ad.AnnData, pred: ad.AnnData, folder: Path) -> None:
    import transpert as tp

    label = real.obs["perturbation"].to_numpy()
    names = [name for name in np.unique(label) if name != CONTROL]
    controls = real.X[label == CONTROL]
    populations = [real.X[label == name] for name in names]
    for cells, tests in zip(populations, tp.metrics.rank_sums(populations, controls), strict=True):
        assert len(tests.p_value) == cells.shape[1]


def pdex(real: ad.AnnData, pred: ad.AnnData, folder: Path) -> None:
    from pdex import pdex as run

    run(real, groupby="perturbation", mode="ref", reference=CONTROL, threads=1, is_log1p=True)


def scanpy(real: ad.AnnData, pred: ad.AnnData, folder: Path) -> None:
    import scanpy as sc

    sc.tl.rank_genes_groups(real, "perturbation", reference=CONTROL, method="wilcoxon", tie_correct=True)


TOOLS: dict[str, Callable[[ad.AnnData, ad.AnnData, Path], None]] = {
    "transpert": transpert, "transpert-challenge": transpert_challenge, "transpert-ranks": transpert_ranks,
    "cell-eval": cell_eval, "cell-eval2": cell_eval2, "pdex": pdex, "scanpy": scanpy,
}  # fmt: skip


def measure(tool: str, real: Path, pred: Path) -> dict[str, Any]:
    """Run one tool in this process, on a few cells first."""
    cells = ad.read_h5ad(real), ad.read_h5ad(pred)
    rows = [np.flatnonzero(c.obs["perturbation"].isin([CONTROL, "P0", "P1", "P2"]))[::20] for c in cells]
    TOOLS[tool](*(c[own, :400].copy() for c, own in zip(cells, rows, strict=True)), real.parent)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    start, used = time.perf_counter(), time.process_time()
    TOOLS[tool](*cells, real.parent)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1e6
    return {
        "tool": tool, "genes": cells[0].n_vars, "cpu_s": round(time.process_time() - used, 2),
        "wall_s": round(time.perf_counter() - start, 2), "peak_gb": round(peak, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--python", nargs="+", default=[], help="TOOL=INTERPRETER of the environment of a tool")
    parser.add_argument("--folder", type=Path, default=Path("build/genome"))
    parser.add_argument("--limit", type=float, default=600, help="seconds that a tool may take")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one[0], Path(asked.one[1]), Path(asked.one[2]))))
        return
    pythons = dict(pair.split("=", 1) for pair in asked.python)
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "POLARS")}
    for case in asked.cases:
        tools, n = CASES[case]
        paths = [str(path.resolve()) for path in make_files(asked.folder, n)]
        for tool in tools:
            python = pythons.get(tool, sys.executable)
            command = [python, "-W", "ignore", __file__, "--one", tool, *paths]
            row: dict[str, Any] = {"case": case, "perturbations": n, "tool": tool}
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, env={**os.environ, **threads}, timeout=asked.limit
                )
                last = ["", *(done.stderr if done.returncode else done.stdout).strip().splitlines()][-1]
                row |= {"failed": last[:300]} if done.returncode else json.loads(last)
            except subprocess.TimeoutExpired:
                row["failed"] = f"over {asked.limit:.0f} s"
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
