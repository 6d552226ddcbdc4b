"""Choosing perturbations against random and most-distant choice, on screens of known truth.

``python -m benchmarks.scaling.suggestions [SEEDS]``: 20 screens (or ``200-249``) whose embeddings tell of the effects,
and the same shuffled. Pathways are of unequal size, as in a genome: a few large ones, and many perturbations that stand
alone.
``python -m benchmarks.scaling.suggestions PAPALEXI.h5ad GO.npz``: the same question of a real screen, in retrospect.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from scipy.spatial.distance import cdist

import transpert as tp
from transpert.scaling import choose_next, fit_similarity

N, START, GENES, DIMENSION = 120, 8, 100, 12
STEPS = np.arange(4, 61, 4)


def screen(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and effects: perturbations of a pathway are alike, and effects follow the vectors but for a tenth."""
    rng = np.random.default_rng(seed)
    sizes = rng.zipf(1.6, size=400).clip(1, 30)
    pathway = np.repeat(np.arange(400), sizes)[:N]
    vectors = rng.normal(size=(400, DIMENSION))[pathway] + 0.25 * rng.normal(size=(N, DIMENSION))
    readings = rng.normal(size=(DIMENSION, GENES)) / np.sqrt(DIMENSION)
    hidden = np.tanh(vectors @ readings)
    return vectors, np.sqrt(0.9) * hidden + np.sqrt(0.1) * hidden.std() * rng.normal(size=(N, GENES))


def error_left(vectors: np.ndarray, effects: np.ndarray, known: np.ndarray) -> float:
    """Error over the whole screen: what was measured is known, the rest is predicted from it."""
    similarity = fit_similarity(vectors, known, effects[known])
    rest = np.setdiff1d(np.arange(len(vectors)), known)
    own = (
        similarity.covariance[np.ix_(known, known)] + similarity.noise * np.eye(len(known)) + 1e-9 * np.eye(len(known))
    )
    mean = effects[known].mean(axis=0)
    predicted = mean
    if similarity.kind != "unrelated":
        predicted = mean + similarity.covariance[np.ix_(rest, known)] @ np.linalg.solve(own, effects[known] - mean)
    return float(((effects[rest] - predicted) ** 2).sum() / ((effects - effects.mean(axis=0)) ** 2).sum())


def distant(vectors: np.ndarray, known: np.ndarray, n: int) -> np.ndarray:
    chosen = list(known)
    for _ in range(n):
        apart = cdist(vectors, vectors[chosen]).min(axis=1)
        chosen.append(int(np.argmax(apart)))
    return np.array(chosen)


def curves(seed: int, *, shuffled: bool, n_random: int = 8) -> dict[str, np.ndarray]:
    """Error after so many more perturbations, by way of choosing."""
    vectors, effects = screen(seed)
    rng = np.random.default_rng(1_000 + seed)
    if shuffled:
        vectors = vectors[rng.permutation(N)]
    start = rng.permutation(N)[:START]
    found: dict[str, list[float]] = {"suggest": [], "distant": [], "random": []}
    orders = [np.concatenate([start, rng.permutation(np.setdiff1d(np.arange(N), start))]) for _ in range(n_random)]
    similarity = fit_similarity(vectors, start, effects[start])
    chosen, _ = choose_next(similarity, start, np.arange(N), int(STEPS[-1]), rng)
    far = distant(vectors, start, int(STEPS[-1]))
    for step in STEPS:
        found["suggest"].append(error_left(vectors, effects, np.concatenate([start, chosen[:step]])))
        found["distant"].append(error_left(vectors, effects, far[: START + step]))
        found["random"].append(np.mean([error_left(vectors, effects, order[: START + step]) for order in orders]))
    return {name: np.array(values) for name, values in found.items()}


def needed(curve: np.ndarray, error: float) -> float:
    """How many perturbations reach an error, between steps on a line."""
    return float(np.interp(-error, -np.minimum.accumulate(curve), STEPS))


def share_needed(found: dict[str, np.ndarray], name: str, at: int = 40) -> float:
    """Perturbations that a way of choosing needs for the error of so many random ones, as a share of these."""
    target = found["random"][np.searchsorted(STEPS, at)]
    return needed(found[name], target) / at


def retrospective(path: str, vectors_path: str, n_starts: int = 200, n_start: int = 8, n_more: int = 5) -> None:
    """Compare what is left unknown of Papalexi et al. after suggested knock-outs and after random ones."""
    from benchmarks.scaling.targets import read

    effects = tp.tl.effects(read(path))
    names = [str(name).split(": ")[-1] for name in effects]
    table = tp.conditions.Embedding.from_npz(vectors_path).to_frame().rename(index={"MARCHF8": "MARCH8"})
    vectors, measured = table.loc[names].to_numpy(dtype=float), effects.to_numpy(dtype=float).T
    gains, kinds = [], []
    for seed in range(n_starts):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(names))
        start = order[:n_start]
        similarity = fit_similarity(vectors, start, measured[start])
        kinds.append(similarity.kind)
        chosen, _ = choose_next(similarity, start, np.arange(len(names)), n_more, rng)
        ways = (np.concatenate([start, chosen]), order[: n_start + n_more])
        gains.append(np.subtract(*(error_left(vectors, measured, known) for known in ways[::-1])))
    low, high = np.quantile(np.random.default_rng(0).choice(gains, size=(2_000, n_starts)).mean(axis=1), [0.025, 0.975])
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    print(f"{len(names)} knock-outs, {n_more} after {n_start}, kernels {counts}")
    print(f"error lower by {np.mean(gains):.4f} ({low:.4f}, {high:.4f}) than after random ones")


def main(seeds: str = "0-19") -> None:
    first, last = map(int, seeds.split("-"))
    for shuffled in (False, True):
        all_curves = [curves(seed, shuffled=shuffled) for seed in range(first, last + 1)]
        for name in ("suggest", "distant"):
            shares = [share_needed(found, name) for found in all_curves]
            gain = [np.mean(found["random"] - found[name]) for found in all_curves]
            draws = np.random.default_rng(0).choice(shares, size=(2_000, len(shares))).mean(axis=1)
            low, high = np.quantile(draws, [0.025, 0.975])
            spread = np.std(gain) / np.sqrt(len(gain))
            print(
                f"shuffled {shuffled}, {name}: needs {np.mean(shares):.2f} ({low:.2f}, {high:.2f}) of the "
                f"perturbations of random choice; error lower by {np.mean(gain):.4f} +- {1.96 * spread:.4f}"
            )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    retrospective(*sys.argv[1:]) if len(sys.argv) > 2 else main(*sys.argv[1:])
