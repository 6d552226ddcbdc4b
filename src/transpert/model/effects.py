"""The effects that a trained model predicts, with intervals if they are wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert._anndata import writable_name
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert.errors import OptionError
from transpert.transport import ExportedPredictor, GroupStatistics, log_fold_of_means
from transpert.transport.exported_network import ExportedNetwork

from .cells.in_memory import Cells
from .cells.open import Data
from .prediction.predictor import Predictor
from .prediction.requests import Asked, Contexts, Request, check_drawing
from .prediction.unseen import Unseen
from .uncertainty.intervals import Uncertainty, predict_uncertainty
from .verbs import PredictingModel


class EffectModel(PredictingModel):
    """A model that predicts effects: the fourth of the five classes that make a model."""

    @fill_docstring
    def get_effects(
        self,
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        conditions: pd.DataFrame | None = None,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        adata: Data | None = None,
        key_added: str | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> pd.DataFrame:
        """Predict log fold changes, without drawing cells.

        Parameters
        ----------
        contexts, perturbations, conditions, doses, times, directions, adata, unseen, seed
            As in :meth:`predict`.
        key_added
            Also write the table to ``varm[key_added]`` of the data of the model, an AnnData; ``/``, which no file can
            hold in a name, becomes another slash there.

        Returns
        -------
        Genes x populations: natural-log fold changes of the mean counts per 10k implied by the predicted mean log1p,
        ``log(expm1(predicted) + 0.05) - log(expm1(control) + 0.05)``.

        %(raises_as_predict)s

        Examples
        --------
        >>> import transpert as tp
        %(trained_kernel)s
        >>> model.get_effects({"context": "context_0"}, "P0").shape
        (20, 1)
        """
        check_arguments(locals())
        if key_added is not None and not (isinstance(self._cells, Cells) and isinstance(self.adata, AnnData)):
            raise OptionError(
                "the model has no AnnData to write into",
                where="key_added",
                remedy="Leave it out, and put the table that is returned where you want it.",
            )
        check_drawing(None, None, seed)
        cells, requests = Predictor(self).requested(
            adata,
            Asked(contexts, perturbations, conditions, doses, times, directions),
            unseen=unseen,
        )
        means = Predictor(self).means(cells, requests, seed)
        columns = {request.text: log_fold_of_means(after, before) for request, _, before, after in means}
        table = pd.DataFrame(columns, index=pd.Index(self.genes.astype(str)), dtype=np.float32)
        if key_added is not None:
            self.adata.varm[key_added] = table.reindex(self.adata.var_names.astype(str)).rename(columns=writable_name)
        return table

    def export(
        self,
        dir_path: str | os.PathLike[str],
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        conditions: pd.DataFrame | None = None,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        adata: Data | None = None,
        unseen: Unseen = "error",
        overwrite: bool = False,
        seed: int = 0,
    ) -> None:
        """Write predictions of some populations as plain numbers, which need neither scvi-tools nor the model.

        :class:`transpert.transport.ExportedPredictor` reads them, and moves control cells. Where the networks of SCALE
        count, they are written too, each population with its condition.

        Parameters
        ----------
        dir_path
            The folder: JSON and safetensors.
        contexts, perturbations, conditions, doses, times, directions, adata, unseen, seed
            As in :meth:`predict`.
        overwrite
            Replace a predictor that is there.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained.
        transpert.errors.ModelFileError
            If the folder exists and ``overwrite`` is false, or holds something else.
        transpert.errors.OptionError
            If networks count that read an embedding of the cells, or draw noise: counts alone do not say what they do.
        transpert.errors.TranspertError
            As :meth:`predict`.
        """
        check_arguments(locals())
        check_drawing(None, None, seed)
        cells, requests = Predictor(self).requested(
            adata,
            Asked(contexts, perturbations, conditions, doses, times, directions),
            unseen=unseen,
        )
        means = [*Predictor(self).means(cells, requests, seed)]
        requests = [request for request, *_ in means]
        found = self._plain_network(requests, [statistics for _, statistics, *_ in means])
        network, shifts = found or (None, [after - before for *_, before, after in means])
        ExportedPredictor(
            genes=tuple(self.genes.astype(str)),
            populations=tuple(request.text for request in requests),
            shift=np.array(shifts, dtype=np.float64).reshape(-1, len(self.genes)),
            dispersion=np.zeros(0) if self._dispersion is None else np.asarray(self._dispersion, dtype=np.float64),
            draws=tuple(request.draw for request in requests),
            model=type(self).__name__,
            design={key: value for key, value in self.design.to_dict().items() if value is not None},
            network=network,
            tolerance=self.readout_options.tolerance,
        ).save(dir_path, overwrite=overwrite)

    def _plain_network(
        self, requests: Sequence[Request], controls: Sequence[GroupStatistics]
    ) -> tuple[ExportedNetwork, list[np.ndarray]] | None:
        """Return the network that counts for some requests, and the shifts it is joined with; most models have none."""
        return None

    @fill_docstring
    def get_uncertainty(
        self,
        contexts: Contexts = None,
        perturbations: str | Sequence[str] | None = None,
        *,
        conditions: pd.DataFrame | None = None,
        doses: Sequence[float | str] | float | str | None = None,
        times: Sequence[float] | float | None = None,
        directions: Sequence[str] | str | None = None,
        level: float = 0.9,
        n_cells: int | None = None,
        adata: Data | None = None,
        unseen: Unseen = "error",
        seed: int = 0,
    ) -> Uncertainty:
        """Predict effects with intervals, and say how far each condition is from what was trained on.

        While training, the model predicts groups that it has not seen: with their context, their perturbation, their
        combination, their dose or just their pair left out. Its errors, gene by gene and less the sampling error of the
        measurement, give the interval in each of these situations.

        Parameters
        ----------
        contexts, perturbations, conditions, doses, times, directions, adata, unseen, seed
            As in :meth:`predict`.
        level
            Share of effects that an interval is to contain.
        n_cells
            Cells in which the effect is measured, whose sampling error then belongs to the interval; by default the
            interval is for the effect in the whole population.

        Returns
        -------
        Effects and bounds as genes x populations, natural-log fold changes; and for every population what is new
        about it and its distances from the training data. A distance of 1 is that between neighbours in the
        training data; it is infinite for a perturbation without a vector.

        Warns
        -----
        transpert.errors.AssumptionWarning
            If the training data could not imitate what is new: too few contexts, doses or combinations.

        Raises
        ------
        transpert.errors.NotTrainedError
            If the model is not trained, or has no left-out predictions to learn from.
        transpert.errors.TranspertError
            As :meth:`predict`.

        Examples
        --------
        >>> import transpert as tp
        %(trained_kernel)s
        >>> found = model.get_uncertainty({"context": "context_0"}, ["P0", "P1"], level=0.8)
        >>> bool((found.lower <= found.upper).all(axis=None)), found.conditions["situation"].tolist()
        (True, ['seen', 'seen'])
        """
        check_arguments(locals())
        check_drawing(None, None, seed)
        cells, requests = Predictor(self).requested(
            adata,
            Asked(contexts, perturbations, conditions, doses, times, directions),
            unseen=unseen,
        )
        return predict_uncertainty(
            Predictor(self), cells, requests, self.uncertainty, level=level, n_cells=n_cells, seed=seed
        )
