"""What SCALE is meant to reach, and whether the results so far show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .results import Result
from .summary import ANCHOR, FLOOR, LINEAR, OURS, Scores, Value, favourable, not_worse

HOLDS, MISSED, OPEN = "holds", "missed", "not measured"
PEERS = ("STATE", "CellFlow", "scGen", "scVI")
BASELINES = (
    "NoChange", "MeanShift", "MeanShiftCounts", "ContextMean", "MeanFoldChange", "Additive", "NearestPerturbation",
    "RidgeTransport", "KernelTransport",
)  # fmt: skip
# what all perturbations have in common, shrunken and read out as counts: SCALE's anchor without what the embeddings say
MEAN_EFFECT = "RidgeTransport-no-embedding"
MAIN = ("pearson_delta", "overlap_at_n", "energy_distance")
_NORMALISED_AT_LEAST = 0.5
_SIGNIFICANT_RATIO = (0.67, 1.5)
_COMBINATION_OVERLAP = 0.8
_GATE_OPEN, _GATE_CLOSED = 0.1, 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """A target and what was seen."""

    text: str
    verdict: str
    seen: str


def targets(scores: dict[str, Scores], results: list[Result]) -> list[Target]:
    """Check every target that the results can speak to."""
    checks: list[Callable[[], list[Target]]] = [
        lambda: _best_everywhere(scores),
        lambda: _unseen_type(scores.get("kang_unseen_type")),
        lambda: _combination(scores.get("norman_combination")),
        lambda: _gates(scores, results),
        lambda: _unseen_gene(scores.get("papalexi_unseen_gene")),
        lambda: _unseen_perturbation(scores),
        lambda: _paper(results),
    ]
    return [target for check in checks for target in check()]


def _best_everywhere(scores: dict[str, Scores]) -> list[Target]:
    found = []
    for task, table in scores.items():
        for metric in MAIN:
            text = f"{task}: SCALE is the best on {metric}, or not distinguishable from it"
            if OURS not in table.methods:
                found.append(Target(text, OPEN, "SCALE has not been run"))
                continue
            best = table.best(metric, [name for name in table.methods if name in (*BASELINES, *PEERS, OURS)])
            if best is None:
                found.append(Target(text, OPEN, "the metric is not defined (nothing is really significant)"))
            elif best == OURS:
                found.append(Target(text, HOLDS, "SCALE is the best"))
            else:
                gap = table.difference(OURS, best, metric)
                known = gap is not None and np.isfinite(gap.low)
                verdict = OPEN if not known else HOLDS if not_worse(metric, gap) else MISSED
                found.append(Target(text, verdict, f"best: {best}; SCALE minus it {_text(gap)}"))
    return found


def _unseen_type(table: Scores | None) -> list[Target]:
    if table is None or OURS not in table.methods:
        return [Target("unseen cell type", OPEN, "SCALE has not been run")]
    found = []
    for metric in MAIN[:2]:
        value = table.normalised(OURS, metric)
        verdict = OPEN if np.isnan(value) else HOLDS if value >= _NORMALISED_AT_LEAST else MISSED
        found.append(
            Target(f"unseen cell type: normalised {metric} >= {_NORMALISED_AT_LEAST}", verdict, f"{value:.2f}")
        )
    ratio = table.value(OURS, "n_sig_ratio")
    low, high = _SIGNIFICANT_RATIO
    inside = ratio is not None and low <= ratio.mean <= high
    found.append(Target(f"unseen cell type: n_sig_ratio in {low}-{high}", HOLDS if inside else MISSED, _text(ratio)))
    for other in (FLOOR, *PEERS[:3]):
        for metric in MAIN:
            text = f"unseen cell type: better than {other} on {metric}, interval without 0"
            found.append(_better(table, other, metric, text))
    for metric in ("energy_distance", "mmd_pca"):
        for other in BASELINES:
            text = f"unseen cell type: nearer to the truth than {other} in {metric}, interval without 0"
            found.append(_better(table, other, metric, text))
    return found


def _combination(table: Scores | None) -> list[Target]:
    texts = (
        f"combinations: DE overlap >= {_COMBINATION_OVERLAP}",
        "combinations: PDCorr not below the additive shift's",
    )
    if table is None or OURS not in table.methods:
        return [Target(text, OPEN, "SCALE has not been run") for text in texts]
    overlap = table.value(OURS, "overlap_at_n")
    gap = table.difference(OURS, "Additive", "pearson_delta")
    return [
        Target(texts[0], HOLDS if overlap.mean >= _COMBINATION_OVERLAP else MISSED, _text(overlap)),
        Target(texts[1], HOLDS if gap is not None and gap.mean >= 0 else MISSED, f"SCALE minus additive {_text(gap)}"),
    ]


def _gates(scores: dict[str, Scores], results: list[Result]) -> list[Target]:
    found = []
    for task, opens in (("simulated_nonlinear", True), ("simulated_nonlinear_200", True), ("simulated_linear", False)):
        gates = [
            r.details["gate"] for r in results if r.run.task == task and r.run.method == OURS and r.status == "done"
        ]
        text = f"{task}: the gate {'opens' if opens else 'closes'}"
        if not gates:
            found.append(Target(text, OPEN, "SCALE has not been run"))
            continue
        right = min(gates) > _GATE_OPEN if opens else max(gates) < _GATE_CLOSED
        found.append(Target(text, HOLDS if right else MISSED, f"gate {', '.join(f'{gate:.2f}' for gate in gates)}"))
        for metric in MAIN:
            if opens:
                for other in (LINEAR, ANCHOR):
                    found.append(_better(scores[task], other, metric, f"{task}: better than {other} on {metric}"))
                continue
            gap = scores[task].difference(OURS, ANCHOR, metric)
            verdict = OPEN if gap is None else MISSED if gap.excludes_zero else HOLDS
            found.append(Target(f"{task}: as good as its anchor on {metric}", verdict, _text(gap)))
    return found


def _unseen_gene(table: Scores | None) -> list[Target]:
    text = "unseen gene: not below the mean over perturbations in PDCorr"
    if table is None or OURS not in table.methods:
        return [Target(text, OPEN, "SCALE has not been run")]
    gap = table.difference(OURS, FLOOR, "pearson_delta")
    if gap is None:
        return [Target(text, OPEN, "the mean has not been run")]
    return [Target(text, HOLDS if not_worse("pearson_delta", gap) else MISSED, f"SCALE minus mean {_text(gap)}")]


def _unseen_perturbation(scores: dict[str, Scores]) -> list[Target]:
    """Screens whose effects follow the embeddings: a gain over the mean, which goes with the right embeddings."""
    found = []
    for task, gains in (
        ("simulated_unseen_100", True),
        ("simulated_unseen_1000", True),
        ("simulated_unseen_100_shuffled", False),
    ):
        table = scores.get(task)
        for metric in (*MAIN[:2], "discrimination_score_cosine"):
            what = "better than" if gains else "no better than"
            text = f"{task}: {what} the mean over perturbations on {metric}"
            if table is None or OURS not in table.methods:
                found.append(Target(text, OPEN, "SCALE has not been run"))
                continue
            gap = table.difference(OURS, MEAN_EFFECT, metric)
            if gap is None or not np.isfinite(gap.low):
                found.append(Target(text, OPEN, "the mean has not been run, or its score is not defined"))
                continue
            verdict = HOLDS if favourable(metric, gap) == gains else MISSED
            found.append(Target(text, verdict, f"difference {_text(gap)}"))
    return found


def _paper(results: list[Result]) -> list[Target]:
    text = "the preset paper trains stably on Kang"
    runs = [r for r in results if r.run.method == "SCALE-paper" and r.run.task == "kang_unseen_type"]
    if not runs:
        return [Target(text, OPEN, "it has not been run")]
    done = sum(run.status == "done" for run in runs)
    return [
        Target(text, HOLDS if done == len(runs) else MISSED, f"{done} of {len(runs)} runs ended with finite losses")
    ]


def _better(table: Scores, other: str, metric: str, text: str) -> Target:
    gap = table.difference(OURS, other, metric)
    if gap is None or not np.isfinite(gap.low):
        return Target(text, OPEN, f"{other} has been run on fewer than two of the populations")
    return Target(text, HOLDS if favourable(metric, gap) else MISSED, f"difference {_text(gap)}")


def _text(value: Value | None) -> str:
    if value is None:
        return "not measured"
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f}, {value.n} populations)"
