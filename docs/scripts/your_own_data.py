import anndata
import transpert as tp

adata = anndata.read_h5ad("screen.h5ad")  # raw counts in X; obs: perturbation, cell_type, total_counts
tp.pp.normalize(adata, library_size_key="total_counts")  # counts to layers["counts"], log1p per 10k to X
tp.pp.split(adata, holdout={"cell_type": "B"})  # what is to be predicted, and never seen
columns = {"perturbation_key": "perturbation", "control": "control", "context_keys": ["cell_type"]}
tp.SCALE.setup_anndata(adata, layer="counts", library_size_key="total_counts", split_key="split", **columns)
model = tp.SCALE(adata)
model.train()
pred = model.predict({"cell_type": "B"})  # AnnData with integer counts, controls included
scores = tp.tl.evaluate(pred, adata, baselines="all")
print(tp.tl.score_table(scores).round(3))
tp.pl.scores(scores).figure.savefig("scores.png")
