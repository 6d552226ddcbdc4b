"""Blocks of populations scored here, or on the workers of a dask client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transpert.errors import DependencyError
from transpert.metrics import Comparison, Population, Summary, prepare, resolve_metrics, summarise, summary_needs

from .cell_reader import Fetch, Matrix

CEILING = "ceiling"
_MIN_HALVES = 4  # cells; below, a half has no spread
_JOBS_PER_THREAD = 2  # enough to keep workers busy, and few enough to fit into memory


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """Control cells of one context, shared by all its blocks."""

    real: Population
    predicted: Mapping[str, Population]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some populations of one context."""

    context: str
    labels: tuple[str, ...]
    targets: tuple[tuple[int, ...], ...]
    real: tuple[Fetch, ...]
    predicted: Mapping[str, tuple[Fetch, ...]]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of one model on one population."""

    model: str
    context: str
    label: str
    values: Mapping[str, float]
    summary: Summary | None


def score_block(block: Block, controls: Controls, metrics: Sequence[str]) -> list[Scored]:
    """Score every model, and the ceiling, on the populations of a block."""
    chosen = resolve_metrics(metrics)
    alone = [metric for metric in chosen if metric.level == "population"]
    needs = summary_needs(chosen)
    keys: list[tuple[str, str]] = []
    comparisons: list[Comparison | None] = []
    for number, label in enumerate(block.labels):
        labels: dict[str, Any] = {"perturbation": label, "context": block.context, "targets": block.targets[number]}
        values, counts = block.real[number]()
        real = Population(values, counts, where=f"the real cells of {block.context} / {label}")
        for model, fetches in block.predicted.items():
            cells = Population(*fetches[number](), where=f"{model}, {block.context} / {label}")
            keys.append((model, label))
            comparisons.append(Comparison(cells, real, controls.real, controls.predicted.get(model), **labels))
        if block.seeds:
            keys.append((CEILING, label))
            comparisons.append(_halves(values, counts, controls.real, block.seeds[number], labels))
    there = [comparison for comparison in comparisons if comparison is not None]
    prepare(there, chosen)
    scored = []
    for (model, label), comparison in zip(keys, comparisons, strict=True):
        if comparison is None:
            scored.append(Scored(model, block.context, label, {m.name: float("nan") for m in alone}, None))
            continue
        values = {metric.name: float(metric.function(comparison)) for metric in alone}
        scored.append(Scored(model, block.context, label, values, summarise(comparison, needs)))
    return scored


def _halves(
    values: Matrix, counts: Matrix | None, controls: Population, seed: int, labels: Mapping[str, Any]
) -> Comparison | None:
    """One half of the real cells as a prediction of the other."""
    n_cells = values.shape[0]
    if n_cells < _MIN_HALVES:
        return None
    cells = np.random.default_rng(seed).permutation(n_cells)
    one, other = (
        Population(values[rows], None if counts is None else counts[rows], where="a half of real cells")
        for rows in (np.sort(cells[: n_cells // 2]), np.sort(cells[n_cells // 2 :]))
    )
    return Comparison(one, other, controls, **labels)


def count_threads(client: Any | None) -> int:
    """Return the number of threads of the workers of a client; 1 without."""
    return 1 if client is None else max(sum(client.nthreads().values()), 1)


def run_blocks(
    blocks: Iterable[tuple[Block, Controls]], metrics: Sequence[str], client: Any | None
) -> Iterator[list[Scored]]:
    """Score blocks in turn, or on the workers of a client, as many at a time as these can hold."""
    if client is None:
        for block, controls in blocks:
            yield score_block(block, controls, metrics)
        return
    try:
        from distributed import as_completed
    except ImportError as error:
        raise DependencyError("client= needs dask", remedy="Install it with: pip install 'transpert[dask]'.") from error
    room = _JOBS_PER_THREAD * count_threads(client)
    running = as_completed()
    shared: tuple[Controls, Any] | None = None
    try:
        for block, controls in blocks:
            while running.count() >= room:
                yield next(running).result()
            if shared is None or shared[0] is not controls:
                shared = controls, client.scatter(controls, broadcast=True, hash=False)
            # the cells travel by themselves, and not inside the task
            cells = client.scatter(block, hash=False)
            running.add(client.submit(score_block, cells, shared[1], metrics, pure=False))
        while running.count():
            yield next(running).result()
    finally:
        client.cancel(list(running.futures))
