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


def measured_scores(own: anndata.AnnData, genes: list[str]) -> pd.Series:
    """How much a knock-out lowers a set of genes in the held-out replicate, as it was measured."""
    effects = tp.tl.effects(own)
    effects.columns = [str(name).split(": ")[-1] for name in effects]
    members = effects.index.isin(genes)
    return -(effects[members].mean() - effects[~members].mean())


def rankings(
    rest: anndata.AnnData, own: anndata.AnnData, genes: list[str], vectors: pd.DataFrame, candidates: list[str]
) -> dict[str, pd.DataFrame]:
    """Rank candidates by how much they lower the genes, by models that were trained on the rest."""
    found = {}
    for model_class in (tp.KernelTransport, tp.NearestPerturbation):
        model_class.setup_anndata(rest, perturbation_key="perturbation", control="control", layer="counts")
        model = model_class(rest, embeddings=vectors)
        model.train()
        options = {"direction": "away", "max_distance": 1e9, "progress": False}
        found[model_class.__name__] = tp.tl.rank_targets(model, genes, adata=own, candidates=candidates, **options)
    # the mean effect is the same for all
    found["random, mean effect"] = found["KernelTransport"].assign(score=0.0)
    return found


def unseen_half(names: list[str], rng: np.random.Generator) -> list[str]:
    """Half of the knock-outs; the three that are near-duplicates are all in it, or none is."""
    while True:
        half = set(rng.permutation(names)[: len(names) // 2])
        if len(half & RIGHT) in (0, 3):
            return sorted(half)


def retrospective(path: str, vectors_path: str, n_right: int = 5, n_halves: int = 10) -> None:
    """Judge rankings by the knock-outs that lowered the interferon genes most in a replicate that was held out.

    Of all knock-outs, which were measured in the other replicates; and of a random half, which was measured nowhere.
    """
    adata = read(path)
    names = sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})
    vectors = tp.conditions.Embedding.from_npz(vectors_path).to_frame().rename(index={"MARCHF8": "MARCH8"}).loc[names]
    genes = [gene for gene in RESPONSE if gene in adata.var_names]
    rng, rows = np.random.default_rng(0), []
    for held in adata.obs["bio_rep"].unique():
        rest, own = adata[adata.obs["bio_rep"] != held].copy(), adata[adata.obs["bio_rep"] == held].copy()
        right = set(measured_scores(own, genes).nlargest(n_right).index)
        print("replicate", held, "right:", sorted(right))
        halves = [unseen_half(names, rng) for _ in range(n_halves)]
        for asked in [names, *(half for half in halves if 0 < len(right & set(half)) < len(half))]:
            seen = rest if asked is names else rest[~rest.obs["perturbation"].isin(asked)].copy()
            for name, table in rankings(seen, own, genes, vectors, asked).items():
                for _ in range(100):  # what is equal is put in some order
                    shuffled = table.iloc[rng.permutation(len(table))]
                    ranked = shuffled.assign(rank=shuffled["score"].rank(ascending=False, method="first"))
                    judged = tp.tl.score_ranking(ranked, right & set(asked), at=[3, 5]).to_dict()
                    rows.append({"unseen": asked is not names, "model": name, **judged})
    table = pd.DataFrame(rows)
    columns = ["hit_rate_3", "hit_rate_5", "enrichment_3", "enrichment_5", "auc"]
    print(table.groupby(["unseen", "model"], sort=False)[columns].mean().round(2).to_string())


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
        retrospective(*sys.argv[1:3])
        speed(sys.argv[2])
