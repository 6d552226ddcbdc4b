"""What existing cells would be under a perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from anndata import AnnData
from mudata import MuData

from transpert._anndata import modality_to_write, writable_name
from transpert._arguments import check_arguments, refused
from transpert.errors import GeneError, list_names

if TYPE_CHECKING:
    from transpert.model import PerturbationModel


def predict(
    adata: AnnData | MuData,
    model: PerturbationModel,
    *,
    perturbation: str,
    dose: float | str | None = None,
    time: float | None = None,
    direction: str | None = None,
    key_added: str | None = None,
    seed: int = 0,
) -> None:
    """Write the counterfactual counts of existing cells into a layer.

    Parameters
    ----------
    adata
        Cells, with the columns and counts that the model was set up with, and its genes, in any order; of a MuData the
        modality that the model was set up with.
    model
        A trained model.
    perturbation
        What is done to every cell.
    dose, time, direction
        Its dose, time and direction, where the data has several for it.
    key_added
        Name of the layer; the perturbation by default.
    seed
        Seed of the draw.

    Returns
    -------
    Nothing; writes integer counts to ``layers[key_added]``, and latent states to ``obsm["X_" + key_added]`` for models
    that have them; of a MuData into the modality. These names have U+2215 for a ``/``, which no file could hold.

    Raises
    ------
    transpert.errors.GeneError
        If ``adata`` has other genes than the model, or lacks one of them.
    transpert.errors.TranspertError
        As :meth:`transpert.model.PerturbationModel.predict`.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=30, n_cells=40)
    >>> tp.RidgeTransport.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.RidgeTransport(adata)
    >>> model.train()
    >>> tp.tl.predict(adata, model, perturbation="P1")
    >>> adata.layers["P1"].shape == adata.shape
    True
    """
    check_arguments(locals())
    if not hasattr(model, "predict"):
        raise refused("model", model, "Give a trained model.")
    written = modality_to_write(adata, model.source.modality)
    _check_known(written.var_names, model)
    counts, latent = model.counterfactual(adata, perturbation, dose=dose, time=time, direction=direction, seed=seed)
    key = writable_name(key_added or perturbation)
    in_order = counts[:, pd.Index(model.genes).get_indexer(written.var_names)]
    in_order.sort_indices()
    written.layers[key] = in_order
    if latent is not None:
        written.obsm[f"X_{key}"] = latent


def _check_known(genes: pd.Index, model: PerturbationModel) -> None:
    """Refuse cells with genes that the model says nothing about, for a layer has a value for every gene."""
    unknown = genes[~genes.isin(model.genes)]
    if len(unknown):
        raise GeneError(
            f"{len(unknown)} of {len(genes)} genes are none of the model's: {list_names(unknown)}",
            where="var_names",
            remedy="Pass the genes of the model alone: adata[:, model.genes].copy().",
        )
