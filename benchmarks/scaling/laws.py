"""Fits of curves whose law is known: ``python -m benchmarks.scaling.laws``."""

from __future__ import annotations

import numpy as np

from transpert.scaling import fit_curve, published_saturation

SIZES = np.unique(np.geomspace(20, 20_000, 10).round())
N_SEEDS, N_CONDITIONS = 5, 20
LAWS = {
    "power": {"best": 0.9, "amplitude": 0.6, "rate": 0.5},
    "steep": {"best": 0.8, "amplitude": 0.5, "rate": 1.0},
    "unreached": {"best": 0.9, "amplitude": 0.8, "rate": 0.15},
    "flat": {"best": 0.4, "amplitude": 0.0, "rate": 1.0},
}


def drawn(law: dict, seed: int, noise: float = 0.03) -> np.ndarray:
    """Scores of seeds and conditions; a condition is harder than another at every size."""
    rng = np.random.default_rng(seed)
    mean = law["best"] - law["amplitude"] * (SIZES / SIZES[0]) ** -law["rate"]
    harder = rng.normal(scale=0.1, size=N_CONDITIONS)
    run = rng.normal(scale=noise / 2, size=(len(SIZES), N_SEEDS, 1))
    return (
        mean[:, None, None]
        + harder
        - harder.mean()
        + run
        + rng.normal(scale=noise, size=(len(SIZES), N_SEEDS, N_CONDITIONS))
    )


def true_saturation(law: dict) -> float:
    mean = law["best"] - law["amplitude"] * (SIZES / SIZES[0]) ** -law["rate"]
    reached = mean >= 0.95 * law["best"]
    return float(SIZES[np.argmax(reached)]) if reached.any() else float("inf")


def steps_apart(one: float, other: float) -> float:
    if np.isinf(one) or np.isinf(other):
        return 0.0 if one == other else float("inf")
    return float(abs(np.searchsorted(SIZES, one) - np.searchsorted(SIZES, other)))


def judge(name: str, n_runs: int = 50) -> dict[str, float]:
    """Share of runs with the right kind, exponent and saturation point; the published one beside it."""
    law, rows = LAWS[name], []
    truth = true_saturation(law)
    for seed in range(n_runs):
        scores = drawn(law, seed)
        curve = fit_curve(SIZES, scores, n_bootstrap=300, seed=seed)
        low, high = np.quantile(curve.rate[1:], [0.05, 0.95]) if curve.kind == "power" else (np.nan, np.nan)
        published = published_saturation(SIZES, scores.mean(axis=2))
        rows.append(
            (
                curve.kind == "power",
                curve.kind == "constant",
                low <= law["rate"] <= high,
                steps_apart(curve.saturation()[0], truth) <= 1,
                np.isinf(curve.saturation()[0]),
                steps_apart(published, truth) <= 1,
                np.log10(published / truth) if np.isfinite(truth) else np.nan,
            )
        )
    names = ("power", "constant", "exponent", "saturation", "not_reached", "published", "published_log10_ratio")
    return dict(zip(names, np.mean(rows, axis=0).round(3).tolist(), strict=True))


def main() -> None:
    for name in LAWS:
        print(name, "true saturation", true_saturation(LAWS[name]), judge(name))


if __name__ == "__main__":
    main()
