"""Score a prediction on the workers of a dask cluster: python evaluate.py PRED.zarr CELLS.h5ad SCORES.csv SCHEDULER."""

import sys

import transpert as tp
from distributed import Client

pred, truth, out, scheduler = sys.argv[1:]
design = tp.groups.Design("perturbation", "control", ("context",), split_key="split")
with Client(scheduler_file=scheduler) as client:
    options = tp.tl.EvaluationOptions(client=client)
    tp.tl.evaluate(pred, truth, design=design, options=options, progress=False).to_csv(out, index=False)
