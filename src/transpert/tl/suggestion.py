"""Which perturbations to measure next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from transpert._arguments import check_model
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.conditions import Condition
from transpert.conditions.text import split_population
from transpert.errors import NotTrainedError, OptionError, warn_user
from transpert.scaling import choose_next, fit_similarity
from transpert.scaling.suggestion import in_contexts

if TYPE_CHECKING:
    from transpert.model import PerturbationModel
    from transpert.model.prediction.requests import Contexts

_MOST_PLACES = 5_000  # perturbations, or pairs with contexts, whose covariance is held several times


@as_annotated()
def suggest(
    model: PerturbationModel,
    candidates: Sequence[str],
    *,
    n: int = 10,
    contexts: Contexts = None,
    by_context: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Suggest perturbations, and in which contexts, whose measurement would say most about the other candidates.

    The vectors of two perturbations say how similar they are, by the kernel that best predicts left-out effects.
    Perturbations are chosen one after the other, each given those before, so that the suggested ones are not all
    alike. Where vectors do not predict left-out effects, the choice is random, and a warning says so.

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
    by_context
        Suggest where to measure, too: every pair of a candidate and one of the contexts that was not measured can be
        chosen. Two contexts are as similar as the share of effects that they have in common in the model.
    seed
        Seed of the choice between equals.

    Returns
    -------
    One row a suggestion in their order: ``perturbation``, ``unknown_left`` (share of what is unknown about the
    candidates that is left after it, as far as the kernel is right) and ``distance`` from what was trained on; with
    ``by_context`` also ``context``. The kernel, and its squared error on left-out effects relative to their mean, are
    in ``attrs``, with ``by_context`` also the share that contexts have in common.

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
        If nothing is left to choose from, or more pairs than memory holds.

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
    wanted = list(dict.fromkeys(map(str, candidates)))
    table = model.get_effects(contexts, measured)
    effects = _mean_effects(table)
    names = [*effects.columns, *(name for name in wanted if name not in set(measured))]
    vectors = np.asarray(embedding.lookup(names), dtype=np.float64)
    similarity = fit_similarity(vectors, np.arange(effects.shape[1]), effects.to_numpy(dtype=np.float64).T)
    places = _Places.of(model, table, names, wanted, by_context=by_context)
    if not len(places.free) or n < 1:
        raise OptionError(
            f"there are {len(places.free)} candidates that were not measured, and n is {n}",
            where="suggest",
            remedy="Give candidates that the model was not trained on, and n from 1 upwards.",
        )
    shared = _shared_by_contexts(table)
    if by_context:
        similarity = in_contexts(similarity, places.perturbation, places.context, shared)
    if similarity.kind == "unrelated":
        warn_user("The vectors do not predict the effects of left-out perturbations: the suggestion is random.")
    chosen, left = choose_next(similarity, places.known, places.free, n, np.random.default_rng(check_seed(seed)))
    suggested = [names[index] for index in places.perturbation[chosen]]
    apart = embedding.distances(suggested, list(effects.columns))
    found = pd.DataFrame(
        {"perturbation": suggested, "unknown_left": left, "distance": [apart[name] for name in suggested]}
    )
    found.attrs = {"similarity": similarity.kind, "left_out_error": similarity.error}
    if by_context:
        found.insert(1, "context", [places.contexts[index] for index in places.context[chosen]])
        found.attrs["shared_by_contexts"] = shared
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """What can be measured: numbers of the perturbation and of the context, and which are known and which are free."""

    perturbation: np.ndarray
    context: np.ndarray
    known: np.ndarray
    free: np.ndarray
    contexts: tuple[str, ...]

    @classmethod
    def of(
        cls, model: PerturbationModel, table: pd.DataFrame, names: list[str], wanted: list[str], *, by_context: bool
    ) -> _Places:
        """List the perturbations, or the pairs of a perturbation and a context; ``table`` is of what was measured."""
        populations = [split_population(str(name)) for name in table]
        measured = {(context, Condition.read(text).label) for context, text in populations}
        contexts = tuple(dict.fromkeys(context for context, _ in populations)) if by_context else ("",)
        if len(names) * len(contexts) > _MOST_PLACES:
            raise OptionError(
                f"{len(names)} perturbations in {len(contexts)} contexts are more than {_MOST_PLACES} to choose from",
                where="suggest",
                remedy="Give fewer candidates or contexts.",
            )
        if by_context and model.uncertainty is not None:
            trained = {(context, Condition.read(text).label) for context, text in model.uncertainty.familiarity.pairs}
            measured &= trained
        elif not by_context:
            measured = {("", name) for _, name in measured}
        pairs = [(context, name) for context in contexts for name in names]
        is_known = np.array([pair in measured for pair in pairs])
        is_free = ~is_known & np.array([name in set(wanted) for _, name in pairs])
        place = np.arange(len(pairs))
        numbers = np.divmod(place, len(names))
        return cls(numbers[1], numbers[0], place[is_known], place[is_free], contexts)


def _shared_by_contexts(table: pd.DataFrame) -> float:
    """Covariance of the effects of a perturbation in two contexts, relative to their variance, from 0 to 1."""
    populations = [split_population(str(name)) for name in table]
    values = table.to_numpy(dtype=np.float64, copy=True)
    contexts, labels = (np.array(part) for part in zip(*populations, strict=True))
    for context in np.unique(contexts):  # what all perturbations of a context do is no news of one
        own = contexts == context
        values[:, own] -= values[:, own].mean(axis=1, keepdims=True)
    squares, products, n_squares, n_products = 0.0, 0.0, 0, 0
    for label in np.unique(labels):
        own = values[:, labels == label]
        each, n = float((own**2).sum()), own.shape[1]
        squares, n_squares = squares + each, n_squares + n
        products, n_products = products + float((own.sum(axis=1) ** 2).sum()) - each, n_products + n * (n - 1)
    if not n_products or squares <= 0:
        return 1.0
    return float(np.clip(products / n_products / (squares / n_squares), 0, 1))


def _trained_on(model: PerturbationModel) -> list[str]:
    """Return the single perturbations that a model was trained on."""
    if model.uncertainty is not None:
        return list(model.uncertainty.familiarity.perturbations)
    return [part for part in model.vocabulary.parts if part in set(model.vocabulary.labels)]


def _mean_effects(table: pd.DataFrame) -> pd.DataFrame:
    """Effects of what was measured, averaged over contexts; genes x perturbations."""
    names = [Condition.read(split_population(str(name))[1]).label for name in table]
    return table.T.groupby(np.array(names), sort=True).mean().T
