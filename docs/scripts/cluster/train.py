"""Train one model on all devices of a job: python train.py CELLS.h5ad MODEL [steps=20000 ...]."""

import os
import sys

import anndata
import transpert as tp

cells, folder, *options = sys.argv[1:]
training = tp.model.TrainingOptions(**{name: int(value) for name, value in (option.split("=") for option in options)})
# what torchrun says of the job: processes on this machine, and machines
places = {"devices": int(os.environ["LOCAL_WORLD_SIZE"]), "num_nodes": int(os.environ["GROUP_WORLD_SIZE"])}
adata = anndata.read_h5ad(cells)  # raw counts in layers["counts"]; obs: perturbation, context, split
columns = {"perturbation_key": "perturbation", "context_keys": ["context"], "split_key": "split"}
tp.SCALE.setup_anndata(adata, layer="counts", **columns)
model = tp.SCALE(adata, training=training, joining="always")  # also where the closed form alone would do
model.train(strategy="ddp", checkpoint_dir=f"{folder}.checkpoints", resume="auto", **places)
model.save(folder)  # the first process writes, the others do nothing
