"""Which perturbations to measure next."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from transpert._arguments import check_model
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.conditions import Condition
from transpert.conditions.text import split_population
from transpert.errors import OURS, AssumptionWarning, NotTrainedError, OptionError
from transpert.scaling import choose_next, fit_similarity

if TYPE_CHECKING:
    from transpert.model import PerturbationModel
    from transpert.model.prediction.requests import Contexts


@as_annotated()
def suggest(
    model: PerturbationModel,
    candidates: Sequence[str],
    *,
    n: int = 10,
    contexts: Contexts = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Suggest perturbations whose measurement would tell most about the other candidates.

    How alike two perturbations are is read from their vectors, by the kernel that predicts left-out effects of what was
    measured best. The choice is made one after the other, each given those before, so that the suggested ones are not
    all alike. Where vectors do not predict left-out effects, the choice is random, and is said to be.

    Parameters
    ----------
    model
        A trained model with embeddings.
    candidates
        Perturbations that could be measured; those that were trained on are left out.
    n
        How many are suggested.
    contexts
        Contexts whose effects are averaged, as in :meth:`~transpert.model.PerturbationModel.predict`; all by default.
    seed
        Seed of the choice between equals.

    Returns
    -------
    One row a suggestion in their order: ``perturbation``, ``unknown_left`` (share of what is unknown about the
    candidates that is left after it, as far as the kernel is right) and ``distance`` from what was trained on. The
    kernel, and its squared error on left-out effects relative to their mean, are in ``attrs``.

    Warns
    -----
    transpert.errors.AssumptionWarning
        If the vectors do not predict left-out effects.

    Raises
    ------
    transpert.errors.NotTrainedError
        If the model is not trained, or has no embeddings.
    transpert.errors.UnknownNameError
        If a candidate has no vector.
    transpert.errors.OptionError
        If nothing is left to choose from.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=12, n_genes=40, n_cells=40, embedding_dimension=3)
    >>> vectors = pd.DataFrame(adata.uns["simulation"]["embedding"])
    >>> known = adata[~adata.obs["perturbation"].isin(["P9", "P10", "P11"])].copy()
    >>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
    >>> tp.KernelTransport.setup_anndata(known, **keys)
    >>> model = tp.KernelTransport(known, embeddings=vectors)
    >>> model.train()
    >>> len(tp.tl.suggest(model, list(vectors.index), n=2))
    2
    """
    check_model(model, name="model")
    embedding: Any = getattr(model, "embedding", None)
    if not model.is_trained_ or embedding is None:
        raise NotTrainedError(
            "suggestions need a trained model with embeddings", remedy="Make it with embeddings=, and call train()."
        )
    embedding.require(candidates, where="candidates")
    measured = [part for part in _trained_on(model) if part in embedding]
    open_to = [name for name in dict.fromkeys(map(str, candidates)) if name not in set(measured)]
    if not open_to or n < 1:
        raise OptionError(
            f"there are {len(open_to)} candidates that were not measured, and n is {n}",
            where="suggest",
            remedy="Give candidates that the model was not trained on, and n from 1 upwards.",
        )
    effects = _mean_effects(model, measured, contexts)
    names = [*effects.columns, *open_to]
    vectors = np.asarray(embedding.lookup(names), dtype=np.float64)
    known = np.arange(effects.shape[1])
    similarity = fit_similarity(vectors, known, effects.to_numpy(dtype=np.float64).T)
    if similarity.kind == "unrelated":
        warnings.warn(
            "The vectors do not predict the effects of left-out perturbations: the suggestion is random.",
            AssumptionWarning,
            skip_file_prefixes=OURS,
        )
    free = np.arange(len(known), len(names))
    chosen, left = choose_next(similarity, known, free, n, np.random.default_rng(check_seed(seed)))
    suggested = [names[index] for index in chosen]
    apart = embedding.distances(suggested, list(effects.columns))
    table = pd.DataFrame(
        {"perturbation": suggested, "unknown_left": left, "distance": [apart[name] for name in suggested]}
    )
    table.attrs = {"similarity": similarity.kind, "left_out_error": similarity.error}
    return table


def _trained_on(model: PerturbationModel) -> list[str]:
    """Return the single perturbations that a model was trained on."""
    if model.uncertainty is not None:
        return list(model.uncertainty.familiarity.perturbations)
    return [part for part in model.vocabulary.parts if part in set(model.vocabulary.labels)]


def _mean_effects(model: PerturbationModel, measured: Sequence[str], contexts: Contexts) -> pd.DataFrame:
    """Effects of what was measured, averaged over contexts; genes x perturbations."""
    table = model.get_effects(contexts, list(measured))
    names = [Condition.read(split_population(str(name))[1]).label for name in table]
    return table.T.groupby(np.array(names), sort=True).mean().T
