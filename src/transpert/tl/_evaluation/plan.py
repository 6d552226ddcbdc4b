"""What is compared with what: populations and genes of the truth and of all predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from transpert import _keys
from transpert._anndata import predicted_cells
from transpert._seeds import sample_rows
from transpert.conditions.text import population_text
from transpert.errors import (
    ControlError,
    MetricInputError,
    OptionError,
    list_names,
    warn_user,
)
from transpert.groups import Design
from transpert.metrics import PANELS, Metric, Population, resolve_metrics
from transpert.pp.alignment import AlignmentReport, match_genes

from .._populations import Populations, populations
from .._rank_tests import VALUES_PER_BLOCK, portions
from .blocks import Block, Controls
from .cell_reader import CellReader
from .predictions import GivenPrediction, Prediction, baseline_names, seed_of

_BLOCKS_PER_THREAD = 4  # so that workers finish at about the same time


def wanted_populations(found: Mapping[str, Populations], truth: Populations, design: Design) -> list[tuple[str, str]]:
    """Return the populations that are predicted and real."""
    wanted: list[tuple[str, str]] | None = None
    for name, own in found.items():
        here = list(own)
        unknown = [population_text(*key) for key in here if key not in truth.cells]
        if unknown:
            swapped = set(truth).issubset(here)
            raise MetricInputError(
                f"{len(unknown)} predicted populations are not in the truth: {list_names(unknown)}",
                where=name,
                remedy="The truth has fewer populations than the prediction: are they swapped? It is (pred, truth)."
                if swapped
                else "Name the columns of context and perturbation, or predict what was observed.",
            )
        if wanted is not None and set(here) != set(wanted):
            other = [" / ".join(key) for key in sorted(set(here) ^ set(wanted))]
            raise MetricInputError(
                f"the predictions are of different populations: {list_names(other)}",
                where=name,
                remedy="Predict the same contexts and perturbations with every model.",
            )
        wanted = here
    if not wanted:
        raise MetricInputError(
            "there is no perturbed population in the prediction",
            where=f"obs[{design.perturbation_key!r}]",
            remedy="Name the column and the label of controls in perturbation_key= and control=.",
        )
    return wanted


def check_not_swapped(truth: CellReader, predictions: Mapping[str, CellReader]) -> None:
    """Refuse a prediction of this package as the truth of cells that nobody marked as predicted."""
    if predicted_cells(truth.obs).any() and not any(predicted_cells(r.obs).any() for r in predictions.values()):
        raise OptionError(
            "the truth has cells that a model predicted, and the prediction has none: they are swapped",
            where=f"obs[{_keys.SOURCE!r}]",
            remedy="The prediction comes first: (pred, truth).",
        )


def not_predicted(
    obs: pd.DataFrame, observed: Populations, wanted: Sequence[tuple[str, str]], split_key: str | None
) -> list[str]:
    """Return populations that only the truth has, and say so of those that no split keeps for training."""
    here = set(wanted)
    missing = [key for key in observed if key not in here]
    told = missing
    if split_key is not None and split_key in obs:
        held_out = (obs[split_key].astype(str) == _keys.TEST).to_numpy()
        told = [key for key in missing if held_out[observed.cells[key]].any()]
    if told:
        held = " held-out" if len(told) < len(missing) or split_key in obs else ""
        warn_user(
            f"{len(told)}{held} populations of the truth are not predicted, and not scored: "
            f"{list_names([population_text(*key) for key in told])}."
        )
    return [population_text(*key) for key in missing]


def align(
    truth: CellReader, predictions: Mapping[str, CellReader], max_missing: float
) -> tuple[pd.Index, dict[str, AlignmentReport]]:
    """Find the genes of the truth that every prediction has, and say once what did not fit."""
    reports = {name: _alignment(truth, prediction, max_missing) for name, prediction in predictions.items()}
    missing = {gene for report in reports.values() for gene in report.missing}
    unlike = {name: r for name, r in reports.items() if r.missing or r.extra or r.reordered}
    if unlike:
        told = "; ".join(f"{name}: {report}" for name, report in unlike.items())
        left = f"; all are scored on the {len(truth.genes) - len(missing)} genes they share" if missing else ""
        warn_user(f"Genes were aligned by name. {told}{left}.")
    return truth.genes[~truth.genes.isin(list(missing))], reports


def _alignment(truth: CellReader, prediction: CellReader, max_missing: float) -> AlignmentReport:
    """Find the genes of the truth in a prediction."""
    return match_genes(
        prediction.genes,
        truth.genes.to_numpy(),
        max_missing=max_missing,
        argument="max_missing_genes",
        where=f"var_names of {prediction.name}",
        cells=prediction.obs.index,
    )[1]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All that is needed to score predictions population by population."""

    truth: CellReader
    real: Populations
    wanted: list[tuple[str, str]]
    predictions: Mapping[str, Prediction]
    reference: str
    max_controls: int | None
    ceiling: bool
    with_counts: bool
    seed: int
    n_threads: int = 1

    def blocks(self) -> Iterator[tuple[Block, Controls]]:
        """Cut the populations into blocks, context by context; cells are read as blocks are asked for."""
        position = {gene: column for column, gene in enumerate(self.truth.genes)}
        by_context: dict[str, list[str]] = {}
        for context, label in self.wanted:
            by_context.setdefault(context, []).append(label)
        room = self._room()
        for context, labels in by_context.items():
            controls = self._controls(context)
            sizes = [len(self.real.cells[context, label]) for label in labels]
            for some in portions(labels, sizes, room):
                yield self._block(context, some, position), controls

    def _room(self) -> int:
        """How many real cells a block may have."""
        room = VALUES_PER_BLOCK // len(self.truth.genes)
        if self.n_threads == 1:
            return room
        total = sum(len(self.real.cells[key]) for key in self.wanted)
        return min(room, total // (self.n_threads * _BLOCKS_PER_THREAD))

    def _controls(self, context: str) -> Controls:
        seed = seed_of(self.seed, context)
        rows = sample_rows(self.real.controls[context], self.max_controls, seed)
        fetch = self.truth.fetch(rows, f"controls of {context}", with_counts=self.with_counts)
        real = Population(*fetch(), where=f"the real controls of {context}")
        predicted = {}
        if self.reference == "predicted":
            for name, prediction in self.predictions.items():
                own = prediction.controls(context, limit=self.max_controls, seed=seed, with_counts=self.with_counts)
                controls = Population(*own(), where=f"the controls of {name} in {context}")
                # many predictions bring the real controls along, whose tests and distances are known then
                predicted[name] = real if controls.same_as(real) else controls
        return Controls(real, predicted)

    def _block(self, context: str, labels: Sequence[str], position: Mapping[str, int]) -> Block:
        """Read the real and predicted cells of some populations of a context."""
        parts = [self.real.conditions[label].parts for label in labels]
        real = GivenPrediction(self.truth, self.real)
        # label by label, because baselines share the cells that they move
        by_label = [
            [prediction.cells(context, label, with_counts=self.with_counts) for prediction in self.predictions.values()]
            for label in labels
        ]
        predicted = dict(zip(self.predictions, zip(*by_label, strict=True), strict=True))
        return Block(
            context,
            tuple(labels),
            tuple(tuple(position[part] for part in names if part in position) for names in parts),
            tuple(real.cells(context, label, with_counts=self.with_counts) for label in labels),
            predicted,
            tuple(seed_of(self.seed, context, label) for label in labels) if self.ceiling else (),
        )


def without_counts(
    metrics: str | Sequence[str],
    baselines: str | Sequence[str] | None,
    truth: CellReader,
    predictions: Mapping[str, CellReader],
    counts_layer: str | None,
) -> tuple[list[Metric], list[str]]:
    """Return metrics and baselines, of panels and of ``"all"`` only those for which there are counts."""
    chosen, names = resolve_metrics(metrics), baseline_names(baselines)
    asking = [metric.name for metric in chosen if metric.counts]
    lacking = [reader.name for reader in (truth, *predictions.values()) if reader.counts is None]
    left_out = []
    if asking and lacking:
        if not isinstance(metrics, str) or metrics not in PANELS or len(asking) == len(chosen):
            raise MetricInputError(
                f"{list_names(asking)} are computed from raw counts, which {list_names(lacking)} lack",
                where=f"layers[{counts_layer!r}]",
                remedy=f"{_name_the_layer(truth)}, add it (tl.to_counts makes one for any prediction), or leave these "
                "metrics out.",
            )
        chosen = [metric for metric in chosen if not metric.counts]
        left_out.append(f"the metrics {list_names(asking)} ({list_names(lacking)} lack them)")
    if names and truth.counts is None:
        if baselines != "all":
            raise MetricInputError(
                f"{list_names(names)} are trained on raw counts, which the truth lacks",
                where=f"layers[{counts_layer!r}]",
                remedy=f"{_name_the_layer(truth)}, or leave these baselines out.",
            )
        left_out.append(f"the baselines {list_names(names)} (the truth lacks them)")
        names = []
    if left_out:
        warn_user(
            f"Left out, as there are no raw counts in layers[{counts_layer!r}]: {'; '.join(left_out)}. "
            f"{_name_the_layer(truth)} to have them."
        )
    return chosen, names


def _name_the_layer(truth: CellReader) -> str:
    """Say where raw counts may be."""
    there = f" (the truth has the layers {list_names(truth.layers)})" if truth.layers else ""
    return f"Name their layer in counts_layer={there}"


def find_populations(
    predictions: Mapping[str, CellReader], design: Design, *, need_controls: bool
) -> dict[str, Populations]:
    """Find the populations of every prediction."""
    found = {}
    for name, reader in predictions.items():
        try:
            found[name] = populations(reader.obs, design, need_controls=need_controls, name=reader.name)
        except ControlError as error:
            raise ControlError(
                error.what, where=name, remedy="Use reference='real', or predict with controls."
            ) from None
    return found
