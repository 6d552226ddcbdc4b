"""Small screens, simulated and real, in the form that both the oracles and our metrics take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert import metrics

CONTROL = "control"


@dataclass(frozen=True, eq=False)
class Screen:
    """Counts of real and predicted cells; a perturbation is named after the gene it acts on."""

    labels: np.ndarray
    genes: list[str]
    real: np.ndarray
    predicted: np.ndarray

    @property
    def perturbations(self) -> list[str]:
        return sorted(set(self.labels) - {CONTROL})

    @staticmethod
    def log1p(counts: np.ndarray, dtype: type = np.float64) -> np.ndarray:
        return np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4).astype(dtype)

    def adata(self, values: np.ndarray, make: Callable) -> anndata.AnnData:
        obs = pd.DataFrame({"target": self.labels}, index=pd.RangeIndex(len(self.labels)).astype(str))
        return anndata.AnnData(make(values), obs=obs, var=pd.DataFrame(index=self.genes))

    def population(self, counts: np.ndarray, label: str, make: Callable, dtype: type = np.float64):
        cells = counts[self.labels == label]
        return metrics.Population(make(self.log1p(cells, dtype)), make(cells.astype(np.float64)))

    def comparisons(self, make: Callable, *, reference: str, dtype: type = np.float64) -> list[metrics.Comparison]:
        controls = self.population(self.real, CONTROL, make, dtype)
        other = self.population(self.predicted, CONTROL, make, dtype) if reference == "predicted" else None
        return [
            metrics.Comparison(
                self.population(self.predicted, name, make, dtype),
                self.population(self.real, name, make, dtype),
                controls,
                other,
                name,
                targets=(self.genes.index(name),),
            )
            for name in self.perturbations
        ]


def simulated_screen(seed: int = 0, *, n_perturbations: int = 6, n_cells: int = 40, n_genes: int = 120) -> Screen:
    rng = np.random.default_rng(seed)
    labels = np.repeat([CONTROL, *(f"g{p}" for p in range(n_perturbations))], [80] + [n_cells] * n_perturbations)
    base, effects = rng.lognormal(0.5, 1.3, n_genes), np.zeros((n_perturbations, n_genes))
    for p in range(n_perturbations):
        moved = rng.choice(n_genes, rng.integers(3, 40), replace=False)
        effects[p, moved] = rng.normal(0, 1.0, len(moved))
        effects[p, p] = -2.0
    guess = 0.7 * effects + rng.normal(0, 0.2, effects.shape)

    def draw(shifts: np.ndarray) -> np.ndarray:
        rates = base * np.exp(np.vstack([np.zeros(n_genes), shifts]))
        mean = np.repeat(rates, [80] + [n_cells] * n_perturbations, axis=0) * rng.lognormal(0, 0.3, (len(labels), 1))
        return rng.negative_binomial(2, 2 / (2 + mean))

    real, predicted = draw(effects), draw(guess)
    # one gene that no control has, one that no perturbed cell has, one that nothing has
    real[labels == CONTROL, 50] = predicted[labels == CONTROL, 51] = 0
    real[labels != CONTROL, 52] = 0
    real[:, 53] = predicted[:, 53] = 0
    return Screen(labels, [f"g{gene}" for gene in range(n_genes)], real, predicted)


def kang_screen() -> Screen:
    """Stimulated cells of five types against unstimulated monocytes; other cells of each type are the prediction."""
    adata = tp.datasets.kang18()
    rng = np.random.default_rng(0)
    counts = adata.layers["counts"]
    genes = np.sort(np.argsort(-np.asarray(counts.mean(axis=0)).ravel())[:250])
    types, stimulated = adata.obs["cell_type"].to_numpy(str), adata.obs["perturbation"].to_numpy(str) == "IFNB"
    groups = {CONTROL: (types == "CD14 Mono") & ~stimulated}
    names = [str(gene) for gene in adata.var_names[genes]]
    for gene, kind in zip(names[:5], ["CD14 Mono", "CD16 Mono", "DC", "B", "NK"], strict=True):
        groups[gene] = (types == kind) & stimulated
    halves = ([], [])
    for keep in groups.values():
        chosen = rng.permutation(np.flatnonzero(keep))[:90]
        halves[0].append(chosen[:45])
        halves[1].append(chosen[45:])
    real, predicted = (counts[np.concatenate(half)][:, genes].toarray() for half in halves)
    return Screen(np.repeat(list(groups), 45), names, real, predicted)


@pytest.fixture(scope="session", params=[simulated_screen, kang_screen], ids=["random", "real"])
def any_screen(request: pytest.FixtureRequest) -> Screen:
    return request.param()


@pytest.fixture(scope="session")
def random_screen() -> Screen:
    return simulated_screen()
