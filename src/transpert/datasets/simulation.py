"""A simulator of perturbation screens whose truth is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from numbers import Real
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert import _keys
from transpert._anndata import frame
from transpert._arguments import check_number, check_share, check_whole
from transpert._counts import log1p_per_10k
from transpert._seeds import check_seed
from transpert._signatures import as_annotated, check_fields
from transpert.conditions import parse_condition
from transpert.conditions.text import population_text, split_population
from transpert.errors import OptionError, UnknownNameError

_EFFECTS = "true_effects"
_STATE = "state"


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """What a simulated screen looks like.

    Parameters
    ----------
    n_contexts, n_perturbations, n_genes
        Sizes.
    n_cells
        Cells in a group (context, batch, condition).
    n_control_cells
        Control cells in a context and batch; as many as in a group by default.
    n_combinations
        Pairs of perturbations given together, drawn at random.
    interaction
        Size of what a pair does beyond the sum of its parts, relative to the sum; negative means less than the sum.
    doses
        Doses at which every single perturbation is given; its effect is that at a saturating dose times
        ``dose / (dose + 1)``. Empty for none.
    times
        Times of measurement; the effect at a time is that at the end times ``1 - exp(-time)``. Empty for none.
    n_batches
        Batches; each shifts every gene a little, in controls too.
    effect_size
        Standard deviation of the log fold change of a gene that moves.
    systematic_effect
        Size of what all perturbations do alike, relative to ``effect_size``; in many screens it is most of an effect.
    moved
        Share of the genes that a perturbation moves.
    null
        Share of the perturbations that do nothing.
    context_dependence
        How an effect depends on the context: not at all, linearly on the activity of programmes in its control cells,
        or as a product of step-like functions of them.
    dependence
        Size of that part, relative to the part that is the same everywhere.
    state_dependence
        How much stronger an effect is in a cell whose first programme is one standard deviation more active than in
        the average cell of its context, as a share of the effect; 0 for the same log fold change in every cell.
    embedding_dimension
        Dimension of the embeddings that the effects follow; 0 for effects independent of each other.
    embedding_noise
        Share of the variance of the effects that does not follow the embedding.
    n_programmes
        Programmes in which contexts, and cells within them, differ.
    context_spread, cell_spread
        Standard deviation of programme activities over contexts, and over the cells of a context.
    dispersion
        Negative-binomial dispersion.
    library_size
        Median library size.
    seed
        Seed of everything.
    """

    n_contexts: int = 4
    n_perturbations: int = 5
    n_genes: int = 500
    n_cells: int = 100
    n_control_cells: int | None = None
    n_combinations: int = 0
    interaction: float = 0.0
    doses: tuple[float, ...] = ()
    times: tuple[float, ...] = ()
    n_batches: int = 1
    effect_size: float = 1.0
    systematic_effect: float = 0.0
    moved: float = 0.2
    null: float = 0.0
    context_dependence: Literal["none", "linear", "nonlinear"] = "linear"
    dependence: float = 0.5
    state_dependence: float = 0.0
    embedding_dimension: int = 0
    embedding_noise: float = 0.2
    n_programmes: int = 4
    context_spread: float = 0.5
    cell_spread: float = 0.2
    dispersion: float = 0.2
    library_size: float = 5_000.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_fields(self)
        sizes = ("n_contexts", "n_perturbations", "n_genes", "n_cells", "n_control_cells", "n_batches", "n_programmes")
        for name in (*sizes, "n_combinations", "embedding_dimension"):
            value, least = getattr(self, name), int(name in sizes)
            check_whole(value, name=name, least=least, most=10**9, optional=True)
        for name in ("moved", "null", "embedding_noise"):
            check_share(getattr(self, name), name=name)
        for name in ("effect_size", "systematic_effect", "dependence", "context_spread", "cell_spread", "dispersion"):
            check_number(getattr(self, name), name=name, least=0)
        for name in ("interaction", "state_dependence"):
            check_number(getattr(self, name), name=name)
        check_number(self.library_size, name="library_size", least=0, open_ends=True)
        for name in ("doses", "times"):
            values = getattr(self, name)
            if not _are_amounts(values) or len(set(values)) < len(values):
                raise _wrong(name, values, "Different finite numbers above 0; controls have none.")
            object.__setattr__(self, name, tuple(values))
        if self.context_dependence not in ("none", "linear", "nonlinear"):
            raise _wrong("context_dependence", repr(self.context_dependence), "'none', 'linear' or 'nonlinear'.")
        possible = self.n_perturbations * (self.n_perturbations - 1) // 2
        if not 0 <= self.n_combinations <= possible:
            raise _wrong("n_combinations", self.n_combinations, f"There are {possible} pairs of perturbations.")


def _are_amounts(values: object) -> bool:
    """Whether values are a sequence of finite numbers above 0."""
    if not isinstance(values, list | tuple | np.ndarray):
        return False
    return all(isinstance(value, Real) and 0 < float(value) < np.inf for value in values)


def _wrong(name: str, value: object, remedy: str) -> OptionError:
    return OptionError(f"{name} is {value}", where="simulate", remedy=remedy)


def simulate(settings: SimulationOptions | None = None, /, **options: Any) -> AnnData:
    """Simulate a perturbation screen with negative-binomial counts.

    Parameters
    ----------
    settings
        Options as one object; the defaults of :class:`SimulationOptions` if not given.
    **options
        Fields of :class:`SimulationOptions` that replace those of ``settings``.

    Returns
    -------
    AnnData with log1p counts per 10k in ``X``, raw counts in ``layers["counts"]``; ``obs``: ``perturbation``
    (``"control"``, ``"P0"``, ``"P0+P1"``), ``context``, ``batch``, ``dose`` and ``time`` where there are
    some, ``library_size``; ``varm["true_effects"]``: genes x ``"context: condition"``, natural-log fold changes of the
    rates in the average cell; ``obsm["state"]``: how active each programme is in a cell beyond its context;
    ``uns["simulation"]``: the options, and the embeddings in ``uns["simulation"]["embedding"]``.

    Raises
    ------
    transpert.errors.OptionError
        If an option does not exist or is out of range.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=3, n_genes=50, n_cells=20)
    >>> adata.shape, adata.varm["true_effects"].shape
    ((160, 50), (50, 6))
    """
    unknown = set(options) - {spec.name for spec in fields(SimulationOptions)}
    if unknown:
        known = [spec.name for spec in fields(SimulationOptions)]
        found = UnknownNameError("option", sorted(unknown), known)
        raise OptionError(found.what, where="simulate", remedy=found.remedy)
    chosen = replace(settings or SimulationOptions(), **options)
    rng = np.random.default_rng(chosen.seed)
    baseline, activity, loadings = _contexts(chosen, rng)
    effects, embedding = _effects(chosen, activity, rng)
    groups = _groups(chosen, effects, rng)
    return _draw(chosen, baseline, loadings, groups, embedding, rng)


@as_annotated()
def true_effects(adata: AnnData) -> pd.DataFrame:
    """Return the true effects of a simulated screen as a tidy table.

    Parameters
    ----------
    adata
        What :func:`simulate` returned.

    Returns
    -------
    Columns ``context``, ``condition``, ``gene`` and ``log_fold_change`` (natural log).

    Raises
    ------
    transpert.errors.UnknownNameError
        If the data has no true effects.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=3, n_cells=5)
    >>> tp.datasets.true_effects(adata).shape
    (3, 4)
    """
    if _EFFECTS not in adata.varm:
        raise UnknownNameError(
            "slot", [_EFFECTS], adata.varm, where="varm", remedy="Only what simulate() returned has a known truth."
        )
    table = frame(cast(pd.DataFrame, adata.varm[_EFFECTS]))
    tidy = table.rename_axis("gene").reset_index().melt(id_vars="gene", var_name="group", value_name="log_fold_change")
    populations = tidy.pop("group").map(split_population)
    tidy.insert(0, "context", populations.str[0])
    tidy.insert(1, "condition", populations.str[1])
    return tidy


def _contexts(o: SimulationOptions, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log rates of the contexts ``(C, G)``, their programme activities ``(C, K)`` and the loadings ``(K, G)``."""
    base = rng.normal(np.log(1e4 / o.n_genes) - 0.7, 1.2, size=o.n_genes)
    loadings = rng.normal(size=(o.n_programmes, o.n_genes)) * (rng.random((o.n_programmes, o.n_genes)) < 0.4)
    activity = rng.normal(scale=o.context_spread, size=(o.n_contexts, o.n_programmes))
    return base + activity @ loadings, activity, loadings


def _effects(
    o: SimulationOptions, activity: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Effects of the single perturbations at a saturating dose, ``(C, P, G)``, and their embeddings."""
    embedding = None
    shape = (o.n_perturbations, o.n_genes)
    if o.embedding_dimension:
        embedding = rng.normal(size=(o.n_perturbations, o.embedding_dimension))
        readings = rng.normal(size=(o.embedding_dimension, o.n_genes)) / np.sqrt(o.embedding_dimension)
        sizes = np.sqrt(1 - o.embedding_noise) * embedding @ readings + np.sqrt(o.embedding_noise) * rng.normal(
            size=shape
        )
        moves = np.broadcast_to(rng.random(o.n_genes) < o.moved, shape)
    else:
        sizes, moves = rng.normal(size=shape), rng.random(shape) < o.moved
    if o.systematic_effect:
        sizes = sizes + o.systematic_effect * rng.normal(size=o.n_genes)
    common = o.effect_size * sizes * moves
    effects = np.broadcast_to(common, (o.n_contexts, *shape)).copy()
    if o.context_dependence != "none":
        unit = activity / max(o.context_spread, 1e-9)
        if o.context_dependence == "nonlinear":
            # products of steps: no linear function of the activities gives them
            steps = np.tanh(3 * unit)
            unit = steps * np.roll(steps, 1, axis=1)
        directions = rng.normal(size=(o.n_programmes, *shape)) / np.sqrt(o.n_programmes)
        effects += o.dependence * o.effect_size * np.einsum("ck,kpg->cpg", unit, directions) * moves
    effects[:, rng.permutation(o.n_perturbations)[: round(o.null * o.n_perturbations)]] = 0
    return effects, embedding


type _Group = tuple[str, int, float, float, np.ndarray]


def _groups(o: SimulationOptions, effects: np.ndarray, rng: np.random.Generator) -> list[_Group]:
    """Label, context, dose, time and effect of every perturbed group, before batches."""
    names = [f"P{i}" for i in range(o.n_perturbations)]
    pairs = list(combinations(range(o.n_perturbations), 2))
    pairs = [pairs[i] for i in sorted(rng.permutation(len(pairs))[: o.n_combinations])]
    groups: list[_Group] = []
    for context in range(o.n_contexts):
        for time in o.times or (np.nan,):
            done = 1.0 if np.isnan(time) else 1 - np.exp(-time)
            for i, name in enumerate(names):
                for dose in o.doses or (np.nan,):
                    share = 1.0 if np.isnan(dose) else dose / (dose + 1)
                    groups.append((name, context, dose, time, done * share * effects[context, i]))
            for i, j in pairs:
                dose = max(o.doses) if o.doses else np.nan
                share = 1.0 if np.isnan(dose) else dose / (dose + 1)
                together = (1 + o.interaction) * (effects[context, i] + effects[context, j])
                groups.append((f"{names[i]}+{names[j]}", context, dose, time, done * share * together))
    return groups


def _draw(
    o: SimulationOptions,
    baseline: np.ndarray,
    loadings: np.ndarray,
    groups: list[_Group],
    embedding: np.ndarray | None,
    rng: np.random.Generator,
) -> AnnData:
    """Draw the cells of every group, batch by batch."""
    batch_shift = rng.normal(scale=0.1 if o.n_batches > 1 else 0.0, size=(o.n_batches, o.n_genes))
    nothing = np.zeros(o.n_genes)
    controls: list[_Group] = [
        ("control", c, np.nan, time, nothing) for c in range(o.n_contexts) for time in o.times or (np.nan,)
    ]
    blocks, rows, truth, states = [], [], {}, []
    for label, context, dose, time, effect in [*controls, *groups]:
        name = f"context_{context}"
        if label != "control":
            condition = parse_condition(label, control="control", dose=dose, time=time)
            truth[population_text(name, condition)] = effect
        n_cells = o.n_cells if label != "control" or o.n_control_cells is None else o.n_control_cells
        for batch in range(o.n_batches):
            state = rng.normal(scale=o.cell_spread, size=(n_cells, loadings.shape[0]))
            log_rate = baseline[context] + effect + batch_shift[batch] + state @ loadings
            if o.state_dependence and o.cell_spread > 0:
                log_rate += o.state_dependence * state[:, :1] / o.cell_spread * effect
            blocks.append(_counts(o, log_rate, rng))
            states.append(state.astype(np.float32))
            rows += [(label, name, f"batch_{batch}", dose, time)] * n_cells
    counts = sparse.vstack(blocks, format="csr")
    obs = pd.DataFrame(rows, columns=["perturbation", "context", "batch", "dose", "time"])
    obs.index = pd.Index([f"cell_{i}" for i in range(len(obs))], dtype=object)
    obs = obs.drop(columns=[*([] if o.doses else ["dose"]), *([] if o.times else ["time"])])
    for column in ("perturbation", "context", "batch"):
        obs[column] = pd.Categorical(obs[column])
    library = np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(), 1.0)
    obs[_keys.LIBRARY_SIZE] = library
    var = pd.DataFrame(index=pd.Index([f"gene_{i}" for i in range(o.n_genes)], dtype=object))
    adata = AnnData(log1p_per_10k(counts, library), obs=obs, var=var, layers={_keys.COUNTS_LAYER: counts})
    adata.obsm[_STATE] = np.concatenate(states)
    adata.varm[_EFFECTS] = pd.DataFrame(truth, index=var.index)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(o).items()}
    adata.uns["simulation"] = {
        key: value for key, value in plain.items() if value is not None and not (isinstance(value, list) and not value)
    }
    if embedding is not None:
        names = [f"P{i}" for i in range(o.n_perturbations)]
        adata.uns["simulation"]["embedding"] = pd.DataFrame(embedding, index=names, columns=_names(embedding.shape[1]))
    return adata


def _names(n: int) -> list[str]:
    return [f"d{i}" for i in range(n)]


def _counts(o: SimulationOptions, log_rate: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    # rates are per 10,000 counts, and do not compete: a fold change of a gene is that of its rate
    library = o.library_size * np.exp(rng.normal(scale=0.3, size=(len(log_rate), 1)))
    rate = np.exp(log_rate) * library / 1e4
    if o.dispersion > 0:
        rate = rate * rng.gamma(1 / o.dispersion, o.dispersion, size=rate.shape)
    return sparse.csr_matrix(rng.poisson(np.minimum(rate, 1e6)).astype(np.float32))
