"""The cells of a simulated screen of the zoo.

This is another simulator than ``tp.datasets.simulate``, so that nothing is judged by the model it was made for: effects
have heavy tails, may be private to a context or induce a gene to a level of its own, and depth differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

import transpert as tp

from .designs import Design

CONTROL = "control"
DOSES = (0.1, 1.0, 10.0)
_BETWEEN = 0.4  # a dose that is asked for and was not measured everywhere
_MOST_ASKED = 3
_N_TEST_CELLS, _N_CONTROL_CELLS = 150, 160
_N_PROGRAMMES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Screen:
    """Cells with a split, and what is to be predicted of them.

    Parameters
    ----------
    cells
        log1p counts per 10k in ``X``, counts in a layer; ``context``, ``perturbation``, ``library_size``, ``split``;
        where there are any, ``batch`` and ``dose``.
    wanted
        Context and label of the populations to predict.
    embeddings
        A vector of every perturbation, or ``None``.
    """

    cells: anndata.AnnData
    wanted: list[tuple[str, str]]
    embeddings: pd.DataFrame | None = None

    def setup_arguments(self) -> dict[str, object]:
        """What ``setup_anndata`` of the models is told."""
        columns = {f"{name}_key": name for name in ("batch", "dose") if name in self.cells.obs}
        return {
            "perturbation_key": "perturbation",
            "control": CONTROL,
            "context_keys": ["context"],
            "split_key": "split",
            "layer": "counts",
            "library_size_key": "library_size",
            **columns,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    """Log rates of the controls of each context ``(C, G)``, programmes ``(C, K)``, dispersions and genes' levels."""

    log_rates: np.ndarray
    programmes: np.ndarray
    dispersion: np.ndarray
    library: float


@dataclass(slots=True)
class _Cells:
    """Groups of cells as they are drawn."""

    counts: list[sparse.csr_matrix] = field(default_factory=list)
    obs: list[pd.DataFrame] = field(default_factory=list)


def simulated(asked: Design) -> Screen:
    """Draw the cells of a simulated design."""
    rng = np.random.default_rng([18, asked.number])
    truth = _controls(asked, rng)
    names = [f"P{number}" for number in range(asked.n_perturbations)]
    effects, vectors = _effects(asked, truth, names, rng)
    groups, wanted = _groups(asked, names, rng)
    cells = _draw(asked, truth, effects, groups, rng)
    embeddings = None
    if asked.embedding != "none":
        vectors = vectors if asked.embedding == "telling" else rng.normal(size=vectors.shape)
        embeddings = pd.DataFrame(vectors, index=names)
    return Screen(cells, wanted, embeddings)


def _controls(asked: Design, rng: np.random.Generator) -> _Truth:
    """Control profiles of the contexts, the last of which is the one that is asked for."""
    n_contexts = asked.n_contexts + 1
    if asked.source == "profiles":
        types, library = _kang_types()
        genes = rng.permutation(types.shape[1])[: asked.n_genes]
        # a context lies between two cell types; with many contexts some are alike, as subtypes are
        pairs = np.array([rng.permutation(len(types))[:2] for _ in range(n_contexts)])
        share = rng.beta(0.4, 0.4, size=(n_contexts, 1))
        log_rates = share * types[pairs[:, 0]][:, genes] + (1 - share) * types[pairs[:, 1]][:, genes]
        log_rates = log_rates + 0.1 * rng.normal(size=log_rates.shape)
        centred = log_rates - log_rates.mean(axis=0)
        left, values, _ = np.linalg.svd(centred, full_matrices=False)
        programmes = left[:, :_N_PROGRAMMES] * np.sqrt(n_contexts)
    else:
        base = rng.normal(-0.5, 2.0, size=asked.n_genes)
        loadings = rng.normal(size=(_N_PROGRAMMES, asked.n_genes)) * (rng.random((_N_PROGRAMMES, asked.n_genes)) < 0.3)
        programmes = rng.normal(size=(n_contexts, _N_PROGRAMMES))
        if rng.random() < 0.5:  # two lineages
            programmes[:, 0] = np.where(rng.random(n_contexts) < 0.5, -1.5, 1.5)
        spread = rng.uniform(0.2, 0.8)
        log_rates = base + spread * programmes @ loadings + 0.15 * rng.normal(size=(n_contexts, asked.n_genes))
        library = float(np.exp(rng.uniform(np.log(1_500), np.log(15_000))))
        total = np.exp(log_rates).sum(axis=1, keepdims=True)
        # a panel of few genes is a part of all counts
        log_rates = log_rates + np.log(1e4 * min(1.0, asked.n_genes / 2_000) / total)
    programmes = programmes / np.maximum(programmes.std(axis=0), 1e-9)
    dispersion = np.exp(rng.normal(np.log(0.2), 0.7, size=log_rates.shape[1]))
    return _Truth(log_rates, programmes, dispersion, library)


@lru_cache(maxsize=1)
def _kang_types() -> tuple[np.ndarray, float]:
    """Log mean counts per 10k of the controls of real cell types, and their median library size."""
    adata = tp.datasets.kang18()
    control = adata[(adata.obs["perturbation"] == "control").to_numpy()]
    rates = control.layers["counts"].multiply(1e4 / control.obs["library_size"].to_numpy()[:, None]).tocsr()
    types = [
        rates[(control.obs["cell_type"] == t).to_numpy()].mean(axis=0) for t in control.obs["cell_type"].cat.categories
    ]
    return np.log(np.asarray(np.concatenate(types)) + 0.02), float(control.obs["library_size"].median())


def _effects(
    asked: Design, truth: _Truth, names: list[str], rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Log fold changes at full dose in each context, ``(C, G)`` for each perturbation, and telling embeddings."""
    n_contexts, n_genes = truth.log_rates.shape
    dimension = 6
    vectors = rng.normal(size=(len(names), dimension))
    modules = rng.normal(size=(dimension, n_genes)) / np.sqrt(dimension)
    systematic = rng.normal(size=n_genes) * (rng.random(n_genes) < asked.moved)
    effects = {}
    for number, name in enumerate(names):
        moved = rng.random(n_genes) < asked.moved
        strength = asked.effect * np.exp(rng.normal(0, 0.5)) if len(names) > 1 else asked.effect
        own = rng.standard_t(4, size=n_genes) / np.sqrt(2)
        if asked.novelty == "perturbation":  # what is to be told from vectors has to follow them
            own = 0.9 * vectors[number] @ modules + 0.44 * own
            moved = np.abs(vectors[number] @ modules) > np.quantile(np.abs(vectors[number] @ modules), 1 - asked.moved)
        loadings = rng.normal(size=(truth.programmes.shape[1], n_genes))
        shape = truth.programmes @ loadings / np.sqrt(len(loadings))
        following = shape if asked.linear else np.where(shape > 0.3, 1.2, -0.6)
        private = rng.normal(size=(n_contexts, n_genes))
        rest = np.sqrt(asked.follows) * following + np.sqrt(1 - asked.follows) * private
        # what depends on the context scales the gene's own effect, so that genes that do not move stay
        effect = np.sqrt(asked.shared) * own + np.sqrt(1 - asked.shared) * rest
        effects[name] = strength * moved * effect + asked.effect * asked.systematic * systematic
    if asked.induced:
        level = np.log(rng.lognormal(1.0, 1.0, size=n_genes))
        for name, effect in effects.items():
            induced = (rng.random(n_genes) < asked.induced) & (effect.mean(axis=0) > 0)
            rates = np.exp(truth.log_rates)
            risen = np.log(rates + np.exp(level) * np.expm1(np.clip(effect, 0, 5))) - truth.log_rates
            effects[name] = np.where(induced, np.minimum(risen, 5.0), effect)
    return {name: np.clip(effect, -5, 5) for name, effect in effects.items()}, vectors


def _groups(
    asked: Design, names: list[str], rng: np.random.Generator
) -> tuple[list[tuple[int, str, float | None, str]], list[tuple[str, str]]]:
    """Context, perturbation, dose and part of the split of every group; and what is asked for."""
    contexts = range(asked.n_contexts + 1)
    last = asked.n_contexts
    doses = DOSES if asked.novelty == "dose" else (None,)
    pairs = [f"{a}+{b}" for a, b in combinations(names, 2)] if asked.novelty == "combination" else []
    pairs = [pairs[i] for i in rng.permutation(len(pairs))[: 2 * len(names)]]
    # in a context that was never perturbed nothing is taken from the training by asking for more
    most = len(names) if asked.novelty == "context" else max(len(names) // 4, 1)
    held = [names[i] for i in rng.permutation(len(names))[: min(_MOST_ASKED, most)]]
    test: set[tuple[int, str, float | None]]
    if asked.novelty == "combination":
        test = {(int(rng.integers(asked.n_contexts)), pair, None) for pair in pairs[:_MOST_ASKED]}
        held_pairs = {pair for _, pair, _ in test}
    elif asked.novelty == "dose":
        test = {(int(rng.integers(asked.n_contexts)), name, _BETWEEN) for name in names[:_MOST_ASKED]}
    elif asked.novelty == "perturbation":
        test = {(int(rng.integers(asked.n_contexts)), name, None) for name in held}
    else:
        test = {(last, name, None) for name in held}
    groups: list[tuple[int, str, float | None, str]] = []
    for context in contexts:
        if context == last and asked.novelty not in ("context", "pair"):
            continue
        groups.append((context, CONTROL, None if asked.novelty != "dose" else 0.0, "train"))
        for name in [*names, *pairs]:
            if context == last and (asked.novelty == "context" or name in held):
                continue
            if asked.novelty == "perturbation" and name in held:
                continue
            if asked.novelty == "combination" and name in held_pairs:
                continue
            groups += [(context, name, dose, "train") for dose in doses]
    groups += [(context, name, dose, "test") for context, name, dose in sorted(test, key=str)]
    labels = [name if dose is None else f"{name}, dose {dose}" for _, name, dose in sorted(test, key=str)]
    return groups, [
        (f"c{context}", label) for (context, _, _), label in zip(sorted(test, key=str), labels, strict=True)
    ]


def _draw(
    asked: Design,
    truth: _Truth,
    effects: dict[str, np.ndarray],
    groups: list[tuple[int, str, float | None, str]],
    rng: np.random.Generator,
) -> anndata.AnnData:
    """Negative-binomial counts of all groups."""
    cells = _Cells()
    offsets = asked.batch_effect * rng.normal(size=(asked.n_batches, truth.log_rates.shape[1]))
    n_genes = truth.log_rates.shape[1]
    pairs: dict[str, np.ndarray] = {}
    for context, name, dose, part in groups:
        log_rate = truth.log_rates[context]
        if name != CONTROL:
            parts = name.split("+")
            total = np.sum([effects[p][context] for p in parts], axis=0)
            if len(parts) > 1 and asked.interaction:
                beyond = pairs.setdefault(name, rng.standard_t(4, size=n_genes) * (rng.random(n_genes) < 0.3))
                total = total * (1 + asked.interaction * beyond)
            log_rate = log_rate + total * (1.0 if dose is None else dose / (dose + 1.0))
        if part == "test":
            n_cells = _N_TEST_CELLS
        elif name == CONTROL:
            n_cells = int(np.clip(2 * asked.n_cells, 30, _N_CONTROL_CELLS))
        else:
            n_cells = int(np.clip(asked.n_cells * np.exp(asked.unequal * rng.normal()), 10, 1_000))
        batch = rng.integers(asked.n_batches, size=n_cells) if asked.n_batches > 1 else np.zeros(n_cells, dtype=int)
        library = truth.library * np.exp(0.35 * rng.normal(size=n_cells)) * (1.0 if name == CONTROL else asked.depth)
        # the rates of a cell stay counts per 10k of the controls: what a treated cell gains, others do not lose
        rates = np.exp(log_rate + (offsets[batch] if asked.n_batches > 1 else 0.0)) * (library / 1e4)[:, None]
        shape = 1 / truth.dispersion
        counts = rng.poisson(rates * rng.gamma(shape, 1 / shape, size=rates.shape)).astype(np.float32)
        cells.counts.append(sparse.csr_matrix(counts))
        # genes that are not on the panel have the rest of the counts
        rest = max(1e4 - float(np.exp(truth.log_rates[context]).sum()), 0.0)
        library = counts.sum(axis=1) + rng.poisson(rest / 1e4 * library)
        obs = {"context": f"c{context}", "perturbation": name, "split": part, "library_size": library}
        if asked.n_batches > 1:
            obs["batch"] = [f"b{b}" for b in batch]
        if dose is not None:
            obs["dose"] = dose
        cells.obs.append(pd.DataFrame(obs, index=range(n_cells)))
    return assembled(sparse.vstack(cells.counts, format="csr"), pd.concat(cells.obs, ignore_index=True))


def assembled(counts: sparse.csr_matrix, obs: pd.DataFrame, genes: pd.Index | None = None) -> anndata.AnnData:
    """Put counts and columns together, as all models take them."""
    obs = obs.assign(library_size=np.maximum(obs["library_size"].to_numpy(dtype=float), 1.0))
    for name in ("context", "perturbation", "split", "batch"):
        if name in obs:
            obs[name] = pd.Categorical(obs[name].astype(str))
    obs.index = pd.Index([f"cell{i}" for i in range(len(obs))])
    var = pd.DataFrame(index=pd.Index([f"g{i}" for i in range(counts.shape[1])]) if genes is None else genes)
    values = tp.pp.log1p_per_10k(counts, obs["library_size"].to_numpy())
    return anndata.AnnData(values, obs=obs, var=var, layers={"counts": counts})
