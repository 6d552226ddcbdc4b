"""Draw the pictures of the documentation: python docs/scripts/pictures.py (a minute, the embedded cells)."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import transpert as tp

FOLDER = Path(__file__).parent.parent / "images"
CELL_TYPE = "CD14 Mono"


def main():
    adata = tp.datasets.kang18()
    tp.pp.split(adata, holdout={"cell_type": CELL_TYPE})
    columns = {"perturbation_key": "perturbation", "control": "control", "context_keys": ["cell_type"]}
    tp.KernelTransport.setup_anndata(adata, layer="counts", split_key="split", **columns)
    model = tp.KernelTransport(adata)
    model.train()
    pred = model.predict({"cell_type": CELL_TYPE}, ["IFNB"], progress=False)
    scores = tp.tl.evaluate(pred, adata, baselines="all", progress=False)
    first_prediction(pred, adata, scores)
    readout(pred, adata)


def first_prediction(pred, adata, scores):
    """What the quick start asks, in one picture: cells, effects, and where the prediction stands."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained", width_ratios=(1, 1.15, 1.2))
    tp.pl.embedding(tp.tl.embed_together(pred, adata, max_cells=1_000), ax=axes[0], show=False)
    axes[0].set_title("cells", fontsize=12)
    tp.pl.effects_scatter(pred, adata, n_labels=8, ax=axes[1], show=False)
    tp.pl.scores(scores, ax=axes[2], show=False)
    axes[2].set_title("scores between floor and ceiling", fontsize=12)
    figure.savefig(FOLDER / "first_prediction.png", dpi=80)


def readout(pred, adata, gene="IFIT3"):
    """Counts of a gene before, after, and as adding to log values would have them."""
    here = adata[adata.obs["cell_type"] == CELL_TYPE]
    column = adata.var_names.get_loc(gene)
    control = here[here.obs["perturbation"] == "control"].X[:, column].toarray().ravel()
    observed = here[here.obs["perturbation"] == "IFNB"].X[:, column].toarray().ravel()
    moved = np.asarray(pred[pred.obs["source"] == "predicted"].X[:, column].todense()).ravel()
    added = control + moved.mean() - control.mean()
    kinds = {"control": control, "observed": observed, "read-out": moved, "number added": added}
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.4), layout="constrained", sharex=True, sharey=True)
    for own, (name, values) in zip(axes, kinds.items(), strict=True):
        own.hist(values, bins=np.linspace(0, 6, 31), weights=np.full(len(values), 1 / len(values)), color="#0072B2")
        own.set(title=f"{name}\n{(values == 0).mean():.0%} zeros, mean {values.mean():.1f}", xlabel=f"{gene}, log1p")
        own.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of cells")
    figure.savefig(FOLDER / "readout.png", dpi=90)


if __name__ == "__main__":
    main()
