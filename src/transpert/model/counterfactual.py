"""Existing cells, moved as if they had been perturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert.groups.table import context_labels

from .prediction.assemble import Population
from .prediction.requests import check_drawing, require_one_condition

if TYPE_CHECKING:
    from .base import PerturbationModel


class Counterfactuals:
    """The part of a model that moves given cells, each once."""

    def counterfactual(  # type: ignore[misc]
        self: PerturbationModel,
        adata: AnnData | MuData,
        perturbation: str,
        *,
        dose: float | str | None = None,
        time: float | None = None,
        direction: str | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> tuple[Any, np.ndarray | None]:
        """Move existing cells as if they had been given a perturbation.

        Parameters
        ----------
        adata
            Cells with the columns of the design, of one or several contexts; each is moved as a control cell
            would be. None of them has to be a control.
        perturbation
            The label of the perturbation.
        dose, time, direction
            Its dose, time and direction, where the data has several for it.
        seed
            Seed of the draw.
        unseen
            As in :meth:`predict`.

        Returns
        -------
        Integer counts ``(N, G)`` (CSR), and latent states ``(N, d)`` or ``None``: the cells in the order of ``adata``,
        the genes in that of the model, :attr:`genes`.

        Raises
        ------
        transpert.errors.TranspertError
            As :meth:`predict`.
        """
        check_drawing(None, None, seed)
        cells, requests = self._requested(
            adata,
            contexts=None,
            perturbations=perturbation,
            doses=dose,
            times=time,
            directions=direction,
            unseen=unseen,
        )
        require_one_condition(requests)
        labels = context_labels(cells.obs, self.design)
        order: list[np.ndarray] = []
        moved: list[Population] = []
        for request in requests:
            positions = np.flatnonzero(labels == request.context)
            order.append(positions)
            moved.append(self._population(cells[positions], request, "counts", seed=request.seed(seed)))
        back = np.argsort(np.concatenate(order))
        counts = sparse.csr_matrix(sparse.vstack([population.counts for population in moved]))[back]
        latents = [population.latent for population in moved if population.latent is not None]
        latent = np.concatenate(latents)[back] if len(latents) == len(moved) else None
        return counts, latent
