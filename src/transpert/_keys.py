"""Every AnnData slot and registry key that transpert reads or writes, named once."""

from __future__ import annotations

from typing import Final

# --- slots of an AnnData -----------------------------------------------------------------------------------
COUNTS_LAYER: Final = "counts"  # layers: raw integer counts
SPLIT: Final = "split"  # obs and uns: the split and its leakage report
SOURCE: Final = "source"  # obs: one of the three values below
PREDICTED: Final = "predicted"
CONTROL: Final = "control"
OBSERVED: Final = "observed"
MODEL: Final = "model"  # obs: name of the model that predicted the cell
CONTROL_ID: Final = "control_id"  # obs: obs_name of the control cell that was moved
LIBRARY_SIZE: Final = "library_size"  # obs: total counts of a cell over all measured genes, or those of its control
LATENT: Final = "X_scale"  # obsm: latent state of SCALE
PCA: Final = "X_pca"  # obsm: projection with the loadings of the training cells
LOADINGS: Final = "PCs"  # varm: those loadings, where scanpy puts them
UNS: Final = "transpert"  # uns: everything of ours that fits no standard slot
SCORES: Final = "scores"  # uns[UNS]: the tidy table of tl.evaluate
LIBRARY_KEY: Final = "library_size_key"  # uns[UNS]: column of the training cells with their library sizes
EFFECT_SHARES: Final = "effect_shares"  # uns[UNS]: what tl.effect_shares found, with its text
EFFECT: Final = "effect"  # varm: predicted natural-log fold changes, genes x populations
EFFECT_LOWER: Final = "effect_lower"  # varm: lower bounds of their intervals
EFFECT_UPPER: Final = "effect_upper"  # varm: upper bounds of their intervals
UNCERTAINTY: Final = "uncertainty"  # uns[UNS]: level of the intervals, and a row a population
OOD_SCORE: Final = "ood_score"  # obs: how far a population is from what was trained on
UNSEEN: Final = "unseen"  # uns[UNS]: perturbations that were predicted as the mean of the others
PREDICTION_COLUMNS: Final = (SOURCE, MODEL, CONTROL_ID, LIBRARY_SIZE)  # obs: written into every prediction
RANK_GENES: Final = "rank_genes_groups"  # uns: exactly as scanpy writes it

# --- values of obs["split"] --------------------------------------------------------------------------------
TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"

# --- keys of the scvi-tools registry -----------------------------------------------------------------------
REGISTRY_COUNTS: Final = "X"
REGISTRY_PERTURBATION: Final = "perturbation"
REGISTRY_CONTEXTS: Final = "contexts"
REGISTRY_BATCH: Final = "batch"
REGISTRY_SPLIT: Final = "split"
REGISTRY_LIBRARY: Final = "library_size"
REGISTRY_EMBEDDING: Final = "embedding"

# --- names used inside conditions --------------------------------------------------------------------------
COMBINATION: Final = "+"  # separates the parts of a combination
SCALE_FACTOR: Final = 1e4  # log1p values are log(1 + counts per 10,000)
