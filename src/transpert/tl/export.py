"""Predictions as other evaluators read them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert._folders import file_written
from transpert.conditions.labels import Controls
from transpert.errors import ControlError, OptionError, StoreError
from transpert.groups import Design

from ._evaluation.cell_reader import CellReader, Data, open_cells
from ._evaluation.plan import align, find_populations, wanted_populations
from ._populations import Populations, design_of_metadata, populations


@fill_docstring
def to_cell_eval(
    pred: Data,
    truth: Data,
    folder: str | os.PathLike,
    *,
    design: Design | None = None,
    perturbation_key: str | None = None,
    control: Controls | None = None,
    context_keys: str | Sequence[str] | None = None,
    control_label: str = "non-targeting",
    layer: str | None = None,
    modality: str | None = None,
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Write a prediction and its truth as cell-eval reads them.

    cell-eval wants two files with the same genes in the same order, the same perturbations, and controls in both.
    Both files get just these; a prediction without controls is given the real ones.

    Parameters
    ----------
    pred
        Predicted cells, log1p counts per 10k: an AnnData, a MuData, or the path of an ``.h5ad`` file or zarr folder.
    truth
        The real cells with controls; the same kinds.
    folder
        Where to write ``pred.h5ad`` and ``real.h5ad``; made if it does not exist.
    %(design)s
    %(own_columns)s
    control_label
        What controls are called in the files.
    %(log_layer)s
    modality
        Modality of MuData objects.
    overwrite
        Replace files that exist.

    Returns
    -------
    The two paths. In the files, ``obs["target_gene"]`` is the perturbation and ``obs["celltype"]`` the context, which
    are cell-eval's own defaults: ``cell-eval run -ap pred.h5ad -ar real.h5ad --celltype-col celltype``.

    Raises
    ------
    transpert.errors.OptionError
        If a file exists and is not to be replaced, or a perturbation is called like the controls.
    transpert.errors.TranspertError
        As :func:`evaluate`, for data that cannot be compared.

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=20, n_cells=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in tp.tl.to_cell_eval(adata, adata, folder)]
    ['pred.h5ad', 'real.h5ad']
    """
    check_arguments(locals())
    paths = Path(folder) / "pred.h5ad", Path(folder) / "real.h5ad"

    def check() -> None:
        there = [path.name for path in paths if path.exists()]
        if there and not overwrite:
            raise OptionError(f"{' and '.join(there)} exist already", where=str(folder), remedy="Pass overwrite=True.")

    check()
    real = open_cells(truth, name="the truth", layer=layer, modality=modality)
    predicted = open_cells(pred, name="the prediction", layer=layer, modality=modality)
    design = design_of_metadata(
        predicted.metadata,
        predicted.obs.columns,
        design=design,
        perturbation_key=perturbation_key,
        control=control,
        context_keys=context_keys,
    )
    observed = populations(real.obs, design, name="the truth")
    own = find_populations({predicted.name: predicted}, design, need_controls=False)[predicted.name]
    wanted = wanted_populations({predicted.name: own}, observed, design)
    genes, _ = align(real, {predicted.name: predicted}, 0.0)
    names = {label for _, label in wanted}
    if control_label in names:
        raise OptionError(f"a perturbation is called {control_label!r}", remedy="Choose another control_label.")
    contexts = list(dict.fromkeys(context for context, _ in wanted))
    lacking = [context for context in contexts if context not in own.controls]
    if lacking and len(lacking) < len(contexts):
        raise ControlError(
            f"the prediction has controls of some contexts, and none of {', '.join(lacking)}",
            where=predicted.name,
            remedy="Predict with controls of all contexts, or of none.",
        )
    real, predicted = real.with_genes(genes), predicted.with_genes(genes)
    controls = (real, observed) if lacking else (predicted, own)
    first, second = (file_written(path, StoreError, "call to_cell_eval again", check=check) for path in paths)
    with first as new_pred, second as new_real:  # both get their names at the end
        _write(new_pred, (predicted, own), controls, wanted, control_label)
        _write(new_real, (real, observed), (real, observed), wanted, control_label)
    return paths


def _write(
    new: Path,
    cells: tuple[CellReader, Populations],
    controls: tuple[CellReader, Populations],
    wanted: Sequence[tuple[str, str]],
    control_label: str,
) -> None:
    """Write both files with the same genes and labels."""
    blocks, labels = [], []
    for (reader, found), keys in (
        (controls, [(context, None) for context in dict.fromkeys(context for context, _ in wanted)]),
        (cells, list(wanted)),
    ):
        for context, label in keys:
            rows = found.controls[context] if label is None else found.cells[context, label]
            blocks.append(sparse.csr_matrix(reader.read(rows, f"{context} / {label or 'controls'}")))
            labels += [(control_label if label is None else label, context)] * len(rows)
    obs = pd.DataFrame(labels, columns=["target_gene", "celltype"]).astype("category")
    obs.index = pd.Index([f"cell_{number}" for number in np.arange(len(obs))], dtype=object)
    var = pd.DataFrame(index=cells[0].genes)
    AnnData(sparse.vstack(blocks, format="csr").astype(np.float32), obs=obs, var=var).write_h5ad(new)
