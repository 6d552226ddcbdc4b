"""What else than predictions a study can score: how well cell types are told apart, and batches are mixed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from transpert.errors import OptionError, SplitError

TASKS: dict[str, tuple[str, ...]] = {
    "perturbation": (),
    "classification": ("accuracy", "micro_f1", "macro_f1"),
    "integration": ("nmi", "ari", "asw", "avg_bio"),
}
_FEWEST = 4  # cells of a type, two to learn from and two to predict


def halves(types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide cells, the same in all runs, into those from which types are learned and those whose types are predicted.

    Types of fewer than four cells are in neither.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(len(types))
    learned, told = np.zeros(len(types), dtype=bool), np.zeros(len(types), dtype=bool)
    for name in np.unique(types):
        rows = order[types[order] == name]
        if len(rows) >= _FEWEST:
            learned[rows[: len(rows) // 2]] = True
            told[rows[len(rows) // 2 :]] = True
    if len(np.unique(types[told])) < 2:
        raise SplitError("there is one cell type to tell", where="type_key", remedy="Name a column with several.")
    return learned, told


def classification(latent: np.ndarray, types: np.ndarray) -> dict[str, float]:
    """Score a logistic regression of types on a representation, learned from one half and tested on the other."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    learned, told = halves(types)
    scaled = StandardScaler().fit(latent[learned]).transform(latent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge
        fitted = LogisticRegression(max_iter=300).fit(scaled[learned], types[learned])
    return _agreement(types[told], fitted.predict(scaled[told]))


def _most_frequent(types: np.ndarray) -> dict[str, float]:
    """Score of naming the most frequent type, the floor of a classification."""
    learned, told = halves(types)
    names, counts = np.unique(types[learned], return_counts=True)
    return _agreement(types[told], np.full(int(told.sum()), names[np.argmax(counts)]))


def _agreement(real: np.ndarray, named: np.ndarray) -> dict[str, float]:
    """Accuracy and F1 scores, over all cells (micro) and over types (macro)."""
    from sklearn.metrics import accuracy_score, f1_score

    micro, macro = (float(f1_score(real, named, average=how, zero_division=0)) for how in ("micro", "macro"))
    return {"accuracy": float(accuracy_score(real, named)), "micro_f1": micro, "macro_f1": macro}


def integration(latent: np.ndarray, types: np.ndarray) -> dict[str, float]:
    """Score how well clusters are types (NMI, ARI), and how dense types are (ASW); AvgBIO is their mean."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

    points, codes = np.asarray(latent, dtype=np.float64), np.unique(types, return_inverse=True)[1]
    clusters = KMeans(int(codes.max()) + 1, n_init=10, random_state=0).fit_predict(points)
    found = {
        "nmi": float(normalized_mutual_info_score(codes, clusters)),
        "ari": float(adjusted_rand_score(codes, clusters)),
        "asw": (float(silhouette_score(points, codes)) + 1) / 2,
    }
    return {**found, "avg_bio": float(np.mean(list(found.values())))}


def floors(kind: str, types: np.ndarray) -> dict[str, float]:
    """Return what no data gives: the most frequent type, or clusters and distances that say nothing of types."""
    if kind == "classification":
        return _most_frequent(types)
    return {"nmi": 0.0, "ari": 0.0, "asw": 0.5, "avg_bio": 1 / 6}


def types_of(obs: pd.DataFrame, key: str | None, contexts: np.ndarray) -> np.ndarray:
    """Return the cell types, by default the contexts."""
    if key is None:
        return contexts
    if key not in obs:
        raise OptionError(f"there is no column {key!r}", where="type_key", remedy="Name a column of obs.")
    return obs[key].astype(str).to_numpy(dtype=object).astype(str)


def task_scores(kind: str, latent: np.ndarray, types: np.ndarray) -> list[dict[str, Any]]:
    """Return the scores of a representation as rows of a study."""
    scores = classification(latent, types) if kind == "classification" else integration(latent, types)
    return [{"context": "all", "perturbation": "all", "metric": name, "value": value} for name, value in scores.items()]
