"""Screens of the size of real ones, from a seed: their annotation, and counts of which about a tenth are not zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

CONTROL = "control"
_VALUES_PER_BLOCK = 1 << 25


@dataclass(frozen=True, slots=True)
class Screen:
    """How a screen is laid out.

    Parameters
    ----------
    contexts, perturbations, doses, batches, genes
        How many there are; no doses or no batches with 0.
    cells, controls
        Cells of a group, and control cells of a context.
    held_out
        How many contexts, the last ones, are test data.
    unequal
        Spread of the sizes of the groups, the standard deviation of their logarithm.
    """

    contexts: int
    perturbations: int
    genes: int
    cells: int
    controls: int
    doses: int = 0
    batches: int = 0
    held_out: int = 0
    unequal: float = 0.0

    def short(self) -> Screen:
        """Return the same layout, small enough for every run of the tests."""
        return replace(
            self,
            genes=self.genes // 10,
            perturbations=max(self.perturbations // 10, 4),
            controls=max(self.controls // 4, 40),
            batches=min(self.batches, 8),
        )


SCREENS = {
    # one line, whole transcriptome: 60,000 cells
    "a": Screen(1, 150, 18_080, 346, 8_000),
    # a pooled screen in four lines and 48 batches: 158,400 cells
    "b": Screen(4, 800, 6_000, 45, 3_600, batches=48),
    # drugs in three doses in twenty lines, four of which are held out: 148,000 cells
    "c": Screen(20, 60, 4_000, 40, 200, doses=3, held_out=4),
    # cytokines in eighteen types of twelve donors, very unequal: about 200,000 cells
    "d": Screen(18, 40, 3_000, 150, 5_000, batches=12, held_out=2, unequal=1.0),
}


def design_keys(screen: Screen) -> dict[str, str]:
    """Return the arguments of a set-up that name the columns."""
    keys = {"perturbation_key": "perturbation", "context_keys": "context", "control": CONTROL}
    keys |= {"dose_key": "dose"} if screen.doses else {}
    keys |= {"batch_key": "batch"} if screen.batches else {}
    return keys | ({"split_key": "split"} if screen.held_out else {})


def annotate(screen: Screen, rng: np.random.Generator) -> pd.DataFrame:
    """Return the annotation of the cells, in the order in which they are measured: shuffled."""
    rows = []
    for context in range(screen.contexts):
        rows.append((context, -1, np.nan, screen.controls))
        for perturbation in range(screen.perturbations):
            for dose in 10.0 ** np.arange(screen.doses) if screen.doses else [np.nan]:
                size = screen.cells * np.exp(rng.normal(-(screen.unequal**2) / 2, screen.unequal))
                rows.append((context, perturbation, dose, max(int(round(size)), 2)))
    groups = pd.DataFrame(rows, columns=["context", "perturbation", "dose", "size"])
    obs = groups.loc[rng.permutation(np.repeat(groups.index, groups["size"]))].drop(columns="size")
    is_test = (obs["context"] >= screen.contexts - screen.held_out) & (obs["perturbation"] >= 0)
    obs["split"] = pd.Categorical(np.where(is_test, "test", "train"))
    if screen.batches:
        obs["batch"] = pd.Categorical([f"batch_{i}" for i in rng.integers(0, screen.batches, len(obs))])
    names = [CONTROL, *(f"P{i}" for i in range(screen.perturbations))]
    obs["perturbation"] = pd.Categorical.from_codes(obs["perturbation"] + 1, names)
    obs["context"] = pd.Categorical.from_codes(obs["context"], [f"line_{i}" for i in range(screen.contexts)])
    obs = obs if screen.doses else obs.drop(columns="dose")
    return obs.set_axis([f"cell{i}" for i in range(len(obs))])


def make_screen(screen: Screen, seed: int = 0) -> ad.AnnData:
    """Return the cells with counts in ``X``; perturbations, and they by context, change a part of the genes."""
    rng = np.random.default_rng(seed)
    obs = annotate(screen, rng)
    context, perturbation = obs["context"].cat.codes.to_numpy(), obs["perturbation"].cat.codes.to_numpy()
    base = rng.normal(-4.2, 2.2, screen.genes) + 0.4 * rng.normal(size=(screen.contexts, screen.genes))
    effect = _sparse_normal(rng, (screen.perturbations + 1, screen.genes), 0.05, 0.8)
    effect[0] = 0
    depth = np.exp(rng.normal(0, 0.3, len(obs)))
    own = _sparse_normal(rng, (screen.contexts, screen.genes), 0.3, 0.5)
    step = max(_VALUES_PER_BLOCK // screen.genes, 1)
    blocks = []
    for start in range(0, len(obs), step):
        rows = slice(start, start + step)
        logs = base[context[rows]] + effect[perturbation[rows]] * (1 + own[context[rows]])
        rate = (np.exp(np.minimum(logs, 4.0)) * depth[rows, None]).astype(np.float32)
        there = rng.random(rate.shape, dtype=np.float32) < -np.expm1(-rate)
        block = sparse.csr_matrix(there, dtype=np.float32)
        block.data = 1 + rng.poisson(rate[there] / 2).astype(np.float32)
        blocks.append(block)
    adata = ad.AnnData(
        sparse.vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=[f"P{i}" for i in range(screen.genes)])
    )
    adata.obs["library_size"] = np.asarray(adata.X.sum(axis=1)).ravel()
    return adata


def _sparse_normal(rng: np.random.Generator, shape: tuple[int, int], share: float, scale: float) -> np.ndarray:
    """Normal numbers of which all but a share are 0."""
    return (rng.normal(0, scale, shape) * (rng.random(shape) < share)).astype(np.float32)


def read_screen(name: str, folder: Path, *, short: bool = False, seed: int = 0) -> tuple[Screen, ad.AnnData]:
    """Return a screen, which is made once and then read from the folder."""
    screen = SCREENS[name].short() if short else SCREENS[name]
    path = folder / f"{name}{'-short' if short else ''}-{seed}.h5ad"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_screen(screen, seed).write_h5ad(path)
    return screen, ad.read_h5ad(path)
