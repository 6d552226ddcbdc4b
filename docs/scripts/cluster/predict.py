"""Predict what is held out into one store, as one of several: python predict.py MODEL CELLS.h5ad PRED.zarr RANK OF."""

import sys

import anndata
import transpert as tp

folder, cells, out, rank, world_size = sys.argv[1:]
adata = anndata.read_h5ad(cells)
held_out = adata.obs.loc[adata.obs["split"] == "test", ["perturbation", "context"]].drop_duplicates()
model = tp.SCALE.load(folder, adata)
shared = {"rank": int(rank), "world_size": int(world_size)}
model.predict_to_store(out, conditions=held_out, n_cells=200, progress=False, **shared)  # the last one joins the parts
