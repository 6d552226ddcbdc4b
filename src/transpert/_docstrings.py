"""Texts that several docstrings share, written once, and the decorator that puts them where they are named."""

from __future__ import annotations

import re
from textwrap import indent
from typing import Any

_PLACE = re.compile(r"^( *)%\((\w+)\)s$", re.MULTILINE)


def fill_docstring[Documented: Any](documented: Documented) -> Documented:
    """Replace each line ``%(name)s`` of a docstring by the shared text of that name, as scvi-tools does."""
    if documented.__doc__ is not None:
        documented.__doc__ = _PLACE.sub(lambda place: indent(TEXTS[place[2]], place[1]), documented.__doc__)
    return documented


_RAISES = "Raises\n------\ntranspert.errors.{}\n    If {}."

TEXTS = {
    # metrics
    "tables": """\
predicted, real
    The tests.""",
    "tables_without_targets": """\
predicted, real
    The tests.
targets
    Columns of the genes that the perturbation acts on, left out.""",
    "shifts": """\
predicted, real : (P, G)
    Mean shifts in log1p.""",
    "labelled_shifts": """\
predicted, real : (P, G)
    Mean shifts in log1p, of several perturbations in several contexts.
contexts, perturbations : (P,)
    Labels of the rows.""",
    "weighted_shifts": """\
predicted, real : (P, G)
    Mean shifts in log1p.
weights : (P, G)
    Of :func:`effect_weights`.""",
    "scaled_counts": """\
counts : (N, G)
    Raw counts.
total
    What the counts are scaled to before the logarithm.""",
    "example_tables": """\
>>> sure, unsure = np.array([0.01, 0.01, 0.9]), np.array([0.01, 0.9, 0.01])
>>> real = DifferentialExpression(np.array([3.0, -2.0, 1.0]), sure, sure, sure)
>>> predicted = DifferentialExpression(np.array([3.0, 2.0, 1.0]), unsure, unsure, unsure)""",
    "raises_arrays_differ": _RAISES.format("MetricInputError", "the arrays do not fit"),
    "raises_genes_differ": _RAISES.format("MetricInputError", "the tables are of different genes"),
    "raises_cells_differ": _RAISES.format("MetricInputError", "the cells are of different genes, or not finite"),
    "raises_bad_matrices": _RAISES.format(
        "MetricInputError", "the matrices are empty, do not fit, or hold NaN, infinite or negative values"
    ),
    # models
    "evidence": """\
evidence
    Effects that other screens measured: :class:`~transpert.transport.Evidence`, a trained model of another screen, or
    several of either. Each counts as far as it helps to predict groups of these data that are left out.""",
    # cells and designs
    "counts_and_library_sizes": """\
counts : (N, G)
    Raw counts.
library_size : (N,)
    Total counts of each cell over all measured genes.""",
    "groups_and_controls": """\
groups
    The groups of the cells.
matching
    Their controls.""",
    "cells_or_matrix": """\
data
    An AnnData, or a matrix of cells x genes, dense or sparse.
layer
    Layer of the AnnData; ``X`` by default.
where
    The slot a matrix came from, for the message.""",
    "design": """\
design
    The columns of ``obs`` that say what was done to a cell and where it came from (:class:`transpert.Design`); by
    default what a prediction of this package says, else ``"perturbation"`` and ``"control"`` in one context.""",
    "own_columns": """\
perturbation_key, control, context_keys
    These of its columns and labels, where they are others than the design says.""",
    "own_context_keys": """\
context_keys
    Columns that make a context, where they are others than the design says.""",
    "log_layer": """\
layer
    Layer with log1p counts per 10k, in place of ``X``.""",
    # plots
    "drawing": """\
ax, show, return_fig
    As in scanpy's plots.

Returns
-------
The axes; the figure with ``return_fig``; nothing if it was shown.""",
    # models
    "registered_data": """\
adata
    Data registered with ``setup_anndata``.
registry
    Registry of a saved model, in place of ``adata``.""",
    "registered_any_data": """\
adata
    Data registered with :meth:`setup_anndata`, :meth:`setup_mudata` or :meth:`setup_store`.
registry
    Registry of a saved model, in place of ``adata``.""",
    "readout_added": """\
readout
    What makes cells of the mean; ``"added"`` by default.""",
    "readout_counts": """\
readout
    What makes cells of the mean; ``"counts"`` by default.""",
    "trained_kernel": """\
>>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
>>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
>>> tp.KernelTransport.setup_anndata(adata, **keys)
>>> model = tp.KernelTransport(adata)
>>> model.train()""",
    "registered_prediction": """\
>>> pred = model.predict({"context": "context_0"}, interval=0.9, progress=False)
>>> with tempfile.TemporaryDirectory() as place:
...     checksum = tp.tl.register_prediction(pred, f"{place}/registered")""",
    "raises_as_predict": """\
Raises
------
transpert.errors.TranspertError
    As :meth:`predict`.""",
    "raises_not_registered": _RAISES.format(
        "TranspertError", "anything about the data is wrong; nothing is registered then"
    ),
    # stores
    "store_made": """\
**options
    Passed to :func:`build_store`.

Returns
-------
The store.""",
    "embedding_made": """\
source
    Where the vectors come from, in words.

Returns
-------
The embedding.""",
    "small_cells": """\
>>> import tempfile, transpert as tp
>>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=10)
>>> with tempfile.TemporaryDirectory() as folder:
...     design = tp.groups.Design("perturbation", "control")""",
}
