"""Which perturbation would do what is desired, and which one made these cells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.progress import Progress
from scipy.stats import norm

from transpert import _keys
from transpert._anndata import check_writable, frame, in_memory
from transpert._arguments import check_model, check_table, name_list
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.conditions import Condition
from transpert.conditions.text import split_population
from transpert.errors import ControlError, GeneError, NotTrainedError, OptionError, warn_user
from transpert.groups.table import context_labels
from transpert.scaling import approach_scores, gene_set_scores, retrieval, signature_scores
from transpert.transport import PSEUDO_RATE

from ._populations import log_values

if TYPE_CHECKING:
    from transpert.model import PerturbationModel

_CHUNK = 250  # candidates whose effects are held at a time
_FEWEST_GENES = 3
_DRAWS = 50  # of the effects within their own intervals, for the intervals of the scores
type Desired = pd.Series | AnnData | Sequence[str]
type Score = Callable[[np.ndarray], np.ndarray]


@as_annotated()
def rank_targets(
    model: PerturbationModel,
    desired: Desired,
    *,
    adata: AnnData | None = None,
    candidates: Sequence[str] | None = None,
    contexts: Sequence[str] | str | None = None,
    direction: Literal["toward", "away"] = "toward",
    n_cells: int = 200,
    level: float = 0.9,
    max_distance: float = 2.0,
    key_added: str = "targets",
    progress: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank perturbations by how well their predicted effects serve what is desired.

    Candidates are predicted a few hundred at a time. The reverse question, which perturbation made
    *these* cells, is the same call with the cells as ``desired``.

    Parameters
    ----------
    model
        A trained model.
    desired
        A signature (a Series of log fold changes by gene), a target population (an AnnData with log1p counts per 10k),
        or the names of genes that are to go up.
    adata
        Cells of which the controls are moved, and into which the table is written; those of the model by default.
    candidates
        Perturbations, also pairs such as ``"A+B"``; by default every perturbation of the data, alone and as measured.
    contexts
        Contexts, the values of the context columns joined by ``" | "``; all of the data by default.
    direction
        ``"toward"`` what is desired, or ``"away"`` from it.
    n_cells
        Control cells of each context that are moved, at most.
    level
        Coverage of the intervals.
    max_distance
        A candidate farther than this from the perturbations that were trained on is not ranked; 1 is the distance of
        neighbours among them.
    key_added
        Where in ``uns["transpert"]`` of ``adata`` to write the table.
    progress
        Show a progress bar.
    seed
        Seed of every draw.

    Returns
    -------
    One row a context and candidate, the best first: ``context``, ``perturbation``, ``rank``, ``score``, ``ci_low``,
    ``ci_high``, ``specificity`` (the score less its mean over the other contexts), ``distance`` from what was trained
    on, ``situation`` (what about it is new), and ``abstained``: why a candidate has no rank; empty where it has one.
    The score is the Pearson correlation with a signature, the share of the way that is made to a target population, or
    the log fold change of a gene set.

    Warns
    -----
    transpert.errors.AssumptionWarning
        If the model has no intervals, so that scores have none either.

    Raises
    ------
    transpert.errors.GeneError
        If fewer than three genes of what is desired are genes of the model.
    transpert.errors.ControlError
        If a context has no controls.
    transpert.errors.NotTrainedError
        If the model is not trained, or has no data and none is given.
    transpert.errors.OptionError
        If an argument is out of range.

    Notes
    -----
    Errors of genes are drawn independently, while those of a wrong prediction are not: intervals of scores are rather
    narrow.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=4, n_genes=60, n_cells=40)
    >>> keys = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
    >>> tp.KernelTransport.setup_anndata(adata, **keys)
    >>> model = tp.KernelTransport(adata)
    >>> model.train()
    >>> wanted = model.get_effects({"context": "context_1"}, "P2").iloc[:, 0]
    >>> tp.tl.rank_targets(model, wanted, contexts="context_0", progress=False)["perturbation"].iloc[0]
    'P2'
    """
    check_model(model, name="model")
    if direction not in ("toward", "away") or not 0 < level < 1 or n_cells < 1:
        raise OptionError(
            f"direction is {direction!r}, level {level}, n_cells {n_cells}",
            where="rank_targets",
            remedy="Choose 'toward' or 'away', a level between 0 and 1, and one cell or more.",
        )
    if not model.is_trained_:
        raise NotTrainedError(f"this {type(model).__name__} is not trained", remedy="Call train() first.")
    data = adata if adata is not None else model.adata
    if data is None:
        raise NotTrainedError("the model was loaded without data", remedy="Pass adata= with control cells.")
    check_writable(data, key_added)
    rng = np.random.default_rng(check_seed(seed))
    asked = _Candidates.of(model, candidates)
    genes = pd.Index(model.genes.astype(str))
    chosen = _controls_by_context(model, data, contexts, n_cells, rng)
    parts = []
    with Progress(disable=not progress, transient=True) as bar:
        shown = bar.add_task("Ranking candidates", total=len(asked.known) * len(chosen))
        for context, controls in chosen.items():
            score = _score_of(desired, genes, controls, 1 if direction == "toward" else -1)
            for rows in _scored(model, controls, asked.known, score, level, rng):
                parts.append(rows.assign(context=context))
                bar.advance(shown, len(rows))
            if asked.unknown:
                parts.append(
                    pd.DataFrame({"perturbation": list(asked.unknown), "abstained": _NO_VECTOR, "context": context})
                )
    table = _ranked(pd.concat(parts, ignore_index=True), max_distance)
    data.uns[_keys.UNS] = {**dict(data.uns.get(_keys.UNS, {})), key_added: table.copy()}
    return table


@as_annotated()
def score_ranking(
    ranking: pd.DataFrame, relevant: Collection[str], *, at: Sequence[int] = (1, 5, 10), context: str | None = None
) -> pd.Series:
    """Score a ranking by the perturbations that turned out to be right.

    The nearest neighbour and the mean effect are scored in the same way: rank with
    :class:`transpert.NearestPerturbation` or :class:`transpert.ContextMean` in place of the model. Chance has an
    enrichment of 1 and an area of .5.

    Parameters
    ----------
    ranking
        What :func:`rank_targets` returned.
    relevant
        The perturbations that turned out to be right.
    at
        Lengths of the list.
    context
        Of which context; the first by default.

    Returns
    -------
    ``hit_rate_K``, ``recall_K``, ``enrichment_K`` and ``auc``, as :func:`transpert.scaling.retrieval` defines them.

    Raises
    ------
    transpert.errors.MetricInputError
        If none or all of the candidates are right.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> ranking = pd.DataFrame({"context": "x", "perturbation": ["A", "B", "C"], "rank": [1, 2, 3]})
    >>> float(tp.tl.score_ranking(ranking, {"A"}, at=[1])["auc"])
    1.0
    """
    check_table(ranking, name="ranking", columns=("context", "perturbation", "rank"))
    rows = ranking[ranking["context"] == (context or ranking["context"].iloc[0])].sort_values(
        "rank", na_position="last"
    )
    return pd.Series(retrieval(rows["perturbation"].tolist(), set(relevant), at=at), name="ranking")


_NO_VECTOR = "never measured, and has no vector"


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Candidates that the model can say something about, and those it cannot."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, model: PerturbationModel, candidates: Sequence[str] | None) -> _Candidates:
        """Sort candidates by whether every part was measured or has a vector."""
        vocabulary = model.vocabulary
        if candidates is None:
            candidates = [label for label in vocabulary.labels if vocabulary.read(label).parts]
        if isinstance(candidates, str) or not len(candidates):
            raise OptionError(f"candidates is {candidates!r}", remedy="Give a list of perturbations.")
        embedding: Any = getattr(model, "embedding", None)
        measured = set(vocabulary.parts)

        def is_known(condition: Condition) -> bool:
            return all(part in measured or (embedding is not None and part in embedding) for part in condition.parts)

        asked = {label: vocabulary.read(label) for label in map(str, candidates)}
        known = tuple(label for label, condition in asked.items() if is_known(condition))
        unknown = dict.fromkeys(str(condition) for condition in asked.values() if not is_known(condition))
        return cls(known, tuple(unknown))


def _controls_by_context(
    model: PerturbationModel,
    data: AnnData,
    contexts: Sequence[str] | str | None,
    n_cells: int,
    rng: np.random.Generator,
) -> dict[str, AnnData]:
    """Draw the control cells of each context."""
    obs, design = frame(data.obs), model.design
    control = design.label_format.control_cells(obs[design.perturbation_key])
    of = context_labels(obs, design).astype(str)
    wanted = name_list(contexts or dict.fromkeys(of))
    found = {}
    for context in wanted:
        rows = np.flatnonzero(control & (of == context))
        if not len(rows):
            raise ControlError(f"{context!r} has no control cells", where="contexts", remedy="Name another context.")
        found[context] = in_memory(data[np.sort(rng.permutation(rows)[:n_cells])], copied=True)
    return found


def _score_of(desired: Desired, genes: pd.Index, controls: AnnData, sign: int) -> Score:
    """Return the function that scores effects, ``(..., G)`` of the genes of the model."""
    if isinstance(desired, pd.Series):
        place = _places(genes, desired.index.astype(str))
        signature = desired.to_numpy(dtype=float)[place[1]]
        return lambda effects: sign * signature_scores(effects[..., place[0]], signature)
    if isinstance(desired, AnnData):
        place = _places(genes, desired.var_names.astype(str))
        own = controls.var_names.astype(str).get_indexer(genes[place[0]])
        before, target = (
            np.asarray(log_values(cells, None, where=where).mean(axis=0), dtype=float).ravel()[columns]
            for cells, columns, where in ((controls, own, "the controls"), (desired, place[1], "the target"))
        )
        return lambda effects: sign * approach_scores(effects[..., place[0]], before, target, PSEUDO_RATE)
    members = genes.isin([str(name) for name in desired])
    if members.sum() < 1 or members.all():
        raise GeneError(
            f"{members.sum()} of the desired genes are genes of the model",
            where="desired",
            remedy="Name genes as the model does: model.genes.",
        )
    return lambda effects: sign * gene_set_scores(effects, members)


def _places(genes: pd.Index, names: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the shared genes among those of the model and among the names."""
    found = names.get_indexer(genes)
    shared = np.flatnonzero(found >= 0)
    if len(shared) < _FEWEST_GENES:
        raise GeneError(
            f"{len(shared)} genes of what is desired are genes of the model",
            where="desired",
            remedy="Use the same gene names.",
        )
    return shared, found[shared]


def _scored(
    model: PerturbationModel,
    controls: AnnData,
    candidates: Sequence[str],
    score: Score,
    level: float,
    rng: np.random.Generator,
) -> Iterator[pd.DataFrame]:
    """Predict and score candidates, a chunk at a time."""
    sure = model.uncertainty is not None and bool(model.uncertainty.errors)
    if not sure:
        warn_user(
            f"This {type(model).__name__} has no intervals: scores have none, and no candidate is left out for its "
            "distance."
        )
    width = norm.ppf((1 + level) / 2)
    for start in range(0, len(candidates), _CHUNK):
        names = list(candidates[start : start + _CHUNK])
        if not sure:
            table = model.get_effects(perturbations=names, adata=controls)
            labels = [split_population(str(name))[1] for name in table]
            yield pd.DataFrame({"perturbation": labels, "score": score(table.to_numpy(dtype=float).T), "abstained": ""})
            continue
        found = model.get_uncertainty(perturbations=names, level=level, adata=controls)
        effects = found.effects.to_numpy(dtype=np.float64).T
        spread = (found.upper.to_numpy(dtype=np.float64).T - effects) / width
        drawn = np.stack([score(effects + spread * rng.standard_normal(effects.shape)) for _ in range(_DRAWS)])
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        value = score(effects)
        # noise moves a correlation towards 0: the draws say how wide, the prediction where
        centre = value - np.median(drawn, axis=0)
        conditions = found.conditions
        yield pd.DataFrame(
            {
                "perturbation": conditions["perturbation"].to_numpy(),
                "score": value,
                "ci_low": low + centre,
                "ci_high": high + centre,
                "distance": conditions[["perturbation_distance", "dose_distance"]].max(axis=1).to_numpy(),
                "situation": conditions["situation"].to_numpy(),
                "abstained": "",
            }
        )


def _ranked(table: pd.DataFrame, max_distance: float) -> pd.DataFrame:
    """Abstain from what is too far away, and rank the rest in every context."""
    for name, empty in (
        ("score", np.nan),
        ("ci_low", np.nan),
        ("ci_high", np.nan),
        ("distance", np.nan),
        ("situation", ""),
    ):
        table[name] = table[name].fillna(empty) if name in table else empty
    far = (table["distance"] > max_distance) & (table["abstained"] == "")
    table.loc[far, "abstained"] = "too far from what was trained on"
    ranked = table["score"].where(table["abstained"] == "")
    table["rank"] = ranked.groupby(table["context"]).rank(ascending=False, method="first")
    others = ranked.groupby(table["perturbation"]).transform("sum") - ranked
    n_others = ranked.groupby(table["perturbation"]).transform("count") - 1
    table["specificity"] = ranked - (others / n_others.where(n_others > 0))
    columns = ["context", "perturbation", "rank", "score", "ci_low", "ci_high"]
    columns += ["specificity", "distance", "situation", "abstained"]
    return table.sort_values(["context", "rank"], na_position="last", kind="stable")[columns].reset_index(drop=True)
