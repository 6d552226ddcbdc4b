"""Target ranking: a lost interferon response in Papalexi, and the time of 5,000 candidates.

``python -m benchmarks.scaling.targets PAPALEXI.h5ad GO.npz``
"""

from __future__ import annotations

import sys
import time
import warnings

import anndata
import numpy as np
import pandas as pd

import transpert as tp

RIGHT = {"IFNGR1", "JAK2", "STAT1"}
# genes that interferon gamma switches on, named before looking
RESPONSE = [
    "STAT1",
    "IRF1",
    "GBP1",
    "GBP2",
    "GBP4",
    "GBP5",
    "WARS",
    "IDO1",
    "CXCL9",
    "CXCL10",
    "CXCL11",
    "CD274",
    "TAP1",
]
RESPONSE += ["PSMB9", "IFI30", "CIITA", "HLA-DRA", "HLA-DRB1", "HLA-DPA1", "HLA-E", "B2M", "ISG15", "IFI6", "APOL6"]


def read(path: str) -> anndata.AnnData:
    adata = anndata.read_h5ad(path)
    adata.obs["library_size"] = adata.obs["n_counts_total"].astype(float)
    adata.layers["counts"] = adata.X.copy()
    adata.X = tp.pp.log1p_per_10k(adata.X, adata.obs["library_size"].to_numpy())
    return adata


def papalexi(path: str) -> None:
    adata = read(path)
    for held in adata.obs["bio_rep"].unique():
        rest, own = adata[adata.obs["bio_rep"] != held].copy(), adata[adata.obs["bio_rep"] == held].copy()
        control = own.obs["perturbation"].astype(str) == "control"
        # "the signature of a lost response" of the held-out replicate: STAT1 knock-outs against controls
        lost = own[(own.obs["perturbation"].astype(str) == "STAT1") | control].copy()
        signature = tp.tl.effects(lost).iloc[:, 0]
        genes = [gene for gene in RESPONSE if gene in adata.var_names]
        desired = {"STAT1 in the held-out replicate": signature, f"{len(genes)} interferon genes down": genes}
        for name, model_class in (("KernelTransport", tp.KernelTransport), ("MeanShift", tp.MeanShift)):
            model_class.setup_anndata(rest, perturbation_key="perturbation", control="control", layer="counts")
            model = model_class(rest)
            model.train()
            for what, wanted in desired.items():
                direction = "away" if isinstance(wanted, list) else "toward"
                ranking = tp.tl.rank_targets(model, wanted, adata=own, direction=direction, progress=False)
                judged = tp.tl.score_ranking(ranking, RIGHT, at=[3])
                top = ranking["perturbation"].iloc[:4].tolist()
                print(held, name, what, top, f"recall_3 {judged['recall_3']:.2f} auc {judged['auc']:.3f}")


def speed(vectors_path: str, n_candidates: int = 5_000, gate: float = 0.5) -> None:
    """Time a ranking in which networks are asked about every candidate, whatever they are worth."""
    vectors = tp.conditions.Embedding.from_npz(vectors_path).to_frame().iloc[: n_candidates + 20]
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=20, n_genes=500, n_cells=200)
    adata.obs["perturbation"] = (
        adata.obs["perturbation"].astype(str).replace({f"P{i}": name for i, name in enumerate(vectors.index[:20])})
    )
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    training = tp.model.TrainingOptions(steps=50, steps_per_epoch=25)
    joining = tp.model.JoiningOptions(gate=gate)
    model = tp.SCALE(adata, preset="small", embeddings=vectors, training=training, joining=joining)
    model.train(enable_progress_bar=False)
    wanted = pd.Series(np.random.default_rng(0).normal(size=500), index=adata.var_names)
    start = time.perf_counter()
    ranking = tp.tl.rank_targets(
        model, wanted, candidates=list(vectors.index[20:]), contexts="context_0", progress=False
    )
    print(f"{len(ranking)} candidates x 200 cells: {time.perf_counter() - start:.1f} s, gate {model.gate}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    papalexi(sys.argv[1])
    if len(sys.argv) > 2:
        speed(sys.argv[2])
