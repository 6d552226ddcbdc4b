"""Real data sets cut down in many ways: fewer contexts, cells and genes, and another part held out each time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from .designs import Design
from .screens import CONTROL, Screen, assembled

_FILES = {"kang": "kang18.h5ad", "papalexi": "papalexi21.h5ad", "norman": "norman19_mcfaline23.h5ad"}
_EMBEDDING = "go_svd128_human.npz"
_ALIASES = {"MARCH8": "MARCHF8"}  # the name that the embedding has
_LIBRARY = {"kang": "n_counts_total", "papalexi": "n_counts_total", "norman": "ncounts"}
_LEFT_ASIDE = ("Eryth", "pDC", "Mk")  # too few cells to say what is right
_LEAST_CELLS, _MOST_CELLS = 20, 300
_SAME_EFFECT = ("IFNGR1", "JAK2", "STAT1")  # never split apart


def cut(asked: Design, folder: Path) -> Screen:
    """Cut a screen out of a real data set, as its design says."""
    rng = np.random.default_rng([19, asked.number])
    cells = _cells(asked.source, folder)
    return _CUTS[asked.kind](asked, cells, rng, folder)


@lru_cache(maxsize=3)
def _cells(source: str, folder: Path) -> anndata.AnnData:
    adata = anndata.read_h5ad(folder / _FILES[source])
    adata.obs = adata.obs.astype({name: str for name in adata.obs if adata.obs[name].dtype == "category"})
    adata.obs["library_size"] = adata.obs[_LIBRARY[source]].astype(float)
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    return adata


def _kang_types(asked: Design, cells: anndata.AnnData, rng: np.random.Generator, _: Path) -> Screen:
    obs = cells.obs.assign(context=cells.obs["cell_type"])
    types = [name for name in sorted(set(obs["context"])) if name not in _LEFT_ASIDE]
    kept = rng.permutation(types)[: 1 + int(rng.integers(2, len(types)))]
    return _without_context(asked, cells, obs[obs["context"].isin(kept)], kept[0], rng)


def _kang_donors(asked: Design, cells: anndata.AnnData, rng: np.random.Generator, _: Path) -> Screen:
    cell_type = ("CD14 Mono", "CD4 Naive T", "CD4 Memory T", "CD16 Mono", "B")[int(rng.integers(5))]
    obs = cells.obs[cells.obs["cell_type"] == cell_type]
    obs = obs.assign(context=obs["donor"])
    sizes = obs.groupby(["context", "perturbation"]).size().unstack(fill_value=0).min(axis=1)
    donors = sorted(sizes.index[sizes >= _LEAST_CELLS])
    kept = rng.permutation(donors)[: 1 + int(rng.integers(2, len(donors)))]
    return _without_context(asked, cells, obs[obs["context"].isin(kept)], kept[0], rng)


def _without_context(
    asked: Design, cells: anndata.AnnData, obs: pd.DataFrame, context: str, rng: np.random.Generator
) -> Screen:
    held = (obs["context"] == context) & (obs["perturbation"] != CONTROL)
    wanted = sorted(set(obs.loc[held, "perturbation"]))
    return _screen(asked, cells, obs, held, [(str(context), label) for label in wanted], rng)


def _papalexi_replicates(asked: Design, cells: anndata.AnnData, rng: np.random.Generator, _: Path) -> Screen:
    obs = cells.obs.assign(context=cells.obs["bio_rep"])
    names = sorted(set(obs["perturbation"]) - {CONTROL})
    names = list(rng.permutation(names)[: int(rng.integers(2, len(names) + 1))])
    obs = obs[obs["perturbation"].isin([CONTROL, *names])]
    replicate = str(rng.permutation(sorted(set(obs["context"])))[0])
    # a whole replicate, or some knock-outs in it
    asked_for = names if rng.random() < 0.5 else names[: max(len(names) // 3, 1)]
    held = (obs["context"] == replicate) & obs["perturbation"].isin(asked_for)
    sizes = obs[held].groupby("perturbation").size()
    wanted = [(replicate, str(name)) for name in sorted(sizes.index[sizes >= _LEAST_CELLS])[:4]]
    return _screen(asked, cells, obs, held, wanted, rng)


def _papalexi_genes(asked: Design, cells: anndata.AnnData, rng: np.random.Generator, folder: Path) -> Screen:
    obs = cells.obs.assign(context="THP-1")
    names = sorted(set(obs["perturbation"]) - {CONTROL})
    first = str(rng.permutation(names)[0])
    held_names = {first, *rng.permutation(names)[:2]}
    held_names |= set(_SAME_EFFECT) if held_names & set(_SAME_EFFECT) else set()
    held = obs["perturbation"].isin(held_names)
    sizes = obs[held].groupby("perturbation").size()
    wanted = [("THP-1", str(name)) for name in sorted(sizes.index[sizes >= _LEAST_CELLS])]
    with np.load(folder / _EMBEDDING) as stored:
        table = pd.DataFrame(stored["embedding"].astype(np.float32), index=stored["genes"].astype(str))
    vectors = table.loc[[_ALIASES.get(name, name) for name in names]].set_axis(names)
    return _screen(asked, cells, obs, held, wanted, rng, vectors)


def _norman(asked: Design, cells: anndata.AnnData, rng: np.random.Generator, _: Path) -> Screen:
    obs = cells.obs.assign(context=cells.obs["cell_type"])
    if rng.random() < 0.5:
        obs = obs[obs["dataset"] == "norman19"]
        singles = set(obs["perturbation"])
        doubles = sorted(name for name in singles if "+" in name and set(name.split("+")) <= singles)
        named = list(rng.permutation(doubles)[: int(rng.integers(2, len(doubles) + 1))])
        held = obs["perturbation"].isin(named)
        return _screen(asked, cells, obs, held, [("k562", str(name)) for name in sorted(named)], rng)
    obs = obs[obs["dataset"] != "norman19"]
    line = str(rng.permutation(sorted(set(obs["context"])))[0])
    here = obs[obs["context"] == line]
    sizes = here.groupby("perturbation").size()
    named = [name for name in rng.permutation(sorted(sizes.index[sizes >= _LEAST_CELLS])) if name != CONTROL][:3]
    held = (obs["context"] == line) & obs["perturbation"].isin(named)
    return _screen(asked, cells, obs, held, [(line, str(name)) for name in sorted(named)], rng)


_CUTS = {
    "Kang, cell types": _kang_types,
    "Kang, donors": _kang_donors,
    "Papalexi, replicates": _papalexi_replicates,
    "Papalexi, genes": _papalexi_genes,
    "Norman and McFaline": _norman,
}


def _screen(
    asked: Design,
    cells: anndata.AnnData,
    obs: pd.DataFrame,
    held: pd.Series,
    wanted: list[tuple[str, str]],
    rng: np.random.Generator,
    embeddings: pd.DataFrame | None = None,
) -> Screen:
    """Take some of the cells of each group and some of the genes; test groups stay whole up to a limit."""
    share = float(np.exp(rng.uniform(np.log(0.15), 0.0)))
    obs = obs.assign(split=np.where(held, "test", "train"))
    kept: list[np.ndarray] = []
    for (_, label, part), rows in obs.groupby(["context", "perturbation", "split"]).indices.items():
        limit = _MOST_CELLS if part == "test" or label == CONTROL else max(int(share * len(rows)), _LEAST_CELLS)
        if part == "train" and len(rows) < _LEAST_CELLS and label != CONTROL:
            continue
        kept.append(rng.permutation(rows)[: min(limit, _MOST_CELLS)])
    rows = np.sort(np.concatenate(kept))
    obs = obs.iloc[rows]
    counts = cells[obs.index].X
    seen = np.asarray((counts[(obs["split"] == "train").to_numpy()] > 0).sum(axis=0)).ravel() >= 3
    genes = np.flatnonzero(seen)
    genes = np.sort(rng.permutation(genes)[: max(asked.n_genes, 250)])
    columns = obs[["context", "perturbation", "split", "library_size"]].reset_index(drop=True)
    return Screen(
        assembled(counts[:, genes], columns, pd.Index(cells.var_names[genes].astype(str))), wanted, embeddings
    )
