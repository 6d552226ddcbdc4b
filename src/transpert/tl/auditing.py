"""How easily are these metrics fooled on these data, and is a prediction doing it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from transpert._arguments import check_arguments, check_number, check_share, refused
from transpert._matrices import as_dense
from transpert._seeds import sample_rows
from transpert.errors import GroupSizeError, OptionError, list_names, warn_user
from transpert.groups import Design
from transpert.metrics import Metric, resolve_metrics

from ._evaluation.cell_reader import CellReader, Data, Fetch, Matrix, check_readable, open_cells
from ._evaluation.designed_cells import DesignedCells, raise_a_tenth, with_zeros
from ._evaluation.options import EvaluationOptions, checked_options
from ._evaluation.plan import Plan, align, find_populations, wanted_populations
from ._evaluation.predictions import GivenPrediction, Prediction, seed_of
from ._evaluation.scales import check_one_scale
from ._populations import Populations, design_of_metadata, populations
from .evaluation import score_plan
from .paired import compare
from .score_summary import MEAN, tabulate

REPLICATE = "independent replicate"
NO_CHANGE = "no change, resampled controls"
CONTROL_MEAN = "control mean, constant cells"
PERTURBATION_MEAN = "perturbation mean, constant cells"
TRUE_MEAN = "true mean, constant cells"
TRUE_SHIFT = "true shift added to control cells"
DESIGNED = "true shift in a tenth of the control cells"
CONTROL_ZEROS = "control mean, zeros made by hand"
TRUE_ZEROS = "true mean, zeros made by hand"

# what each control knows of the perturbation it is said to predict
ROLES: dict[str, str] = {
    REPLICATE: "truth",
    NO_CHANGE: "no information",
    CONTROL_MEAN: "no information",
    PERTURBATION_MEAN: "other perturbations",
    TRUE_MEAN: "true mean, wrong cells",
    TRUE_SHIFT: "true mean, wrong cells",
    DESIGNED: "true mean, wrong cells",
    CONTROL_ZEROS: "no information",
    TRUE_ZEROS: "true mean, wrong cells",
}
# what is wrong with cells that neither their variance nor their zeros give away
_BY_DESIGN = {DESIGNED: "its shift in a tenth of the cells", TRUE_ZEROS: "zeros made by hand"}
_INTEGRITY = ("n_sig_ratio", "variance_ratio", "zero_fraction_gap")
_MIN_CELLS = 4  # a half of fewer has no spread


@dataclass(frozen=True, slots=True)
class AuditLimits:
    """When :func:`transpert.tl.audit` flags a metric or a prediction.

    Parameters
    ----------
    margin
        A control beats another if it is better by this share of the distance between no change and the replicate, and
        the interval of the differences over perturbations excludes 0.
    min_variance_ratio
        Below, the variance of a prediction has collapsed.
    max_zero_gap
        A prediction whose ``zero_fraction_gap`` is larger than that of the replicate by this has destroyed zeros.

    Raises
    ------
    transpert.errors.OptionError
        If one of them is out of range.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.tl.AuditLimits(margin=0.1).max_zero_gap
    0.1
    """

    margin: float = 0.05
    min_variance_ratio: float = 0.5
    max_zero_gap: float = 0.1

    def __post_init__(self) -> None:
        check_number(self.margin, name="margin", least=0)
        check_share(self.min_variance_ratio, name="min_variance_ratio")
        check_share(self.max_zero_gap, name="max_zero_gap")


def audit(
    pred: Data | Mapping[str, Data] | None,
    truth: Data,
    *,
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] = "default",
    layer: str | None = None,
    limits: AuditLimits | None = None,
    n_bootstrap: int = 1_000,
    options: EvaluationOptions | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Score predictions that are known to be worthless beside yours, and flag the metrics that they fool.

    Nine controls are made from the truth: an independent replicate (one half of the real cells; everything is scored
    against the other half), resampled control cells (the honest no-change), and cells that are all equal to the mean
    of the controls, to the mean of the *other* perturbations, or to the true mean; and control cells with the true
    shift added, negative values set to 0. Three are designed to deceive. In one, a tenth of the control cells carries
    the whole effect: means are right, ranks are not. The other two have the mean of the controls, or the true mean,
    and in every gene as many zeros as the control cells.

    Parameters
    ----------
    pred
        A prediction, or several by name, as for :func:`evaluate`; None to audit the metrics alone.
    truth
        The real cells, with controls; as for :func:`evaluate`.
    design, context_keys
        The columns of ``obs``, as for :func:`evaluate`.
    metrics
        Name of a panel or names of metrics; ``n_sig_ratio``, ``variance_ratio`` and ``zero_fraction_gap`` are added.
    layer
        Layer with log1p counts per 10k, in place of ``X``, in all objects.
    limits
        When something is flagged.
    n_bootstrap
        Resamples of the perturbations.
    options
        What is seldom changed, as for :func:`evaluate`; the real controls are the reference here.
    seed
        Seed of everything random.
    progress
        Show a progress bar.

    Returns
    -------
    One row a prediction and metric: ``prediction``, ``knows`` (what it knows of the truth; ``"?"`` for yours),
    ``metric``, ``value`` (mean over perturbations, against one half of the real cells), ``n``, ``n_undefined``,
    ``no_change`` and ``replicate`` (the values of these two), ``metric_flag`` and ``flag``. ``metric_flag`` is the same
    for all rows of a metric:

    - ``"rewards no information"``: control means, constant or with zeros made by hand, beat the honest no-change;
    - ``"blind to wrong cells"``: the true mean with wrong cells is at least as good as a replicate;
    - ``"sees no effect"``: a replicate is not better than no change.

    ``flag`` says what is wrong with the row: a control that fools the metric, or a prediction with collapsed variance
    or destroyed zeros under a metric that can be fooled by them.

    Raises
    ------
    transpert.errors.TranspertError
        As :func:`evaluate`.
    transpert.errors.GroupSizeError
        If no population has four cells.
    transpert.errors.OptionError
        If a metric is computed from raw counts: constant cells have none.

    Notes
    -----
    Mejia et al. 2025, Miller et al. 2025 and Vinas Torne et al. 2025 (Systema) show by such controls what scores mean.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=4, n_genes=80, n_cells=60)
    >>> table = tp.tl.audit(None, adata, metrics=["pearson_delta"], progress=False)
    >>> table[table["metric"] == "pearson_delta"]["metric_flag"].unique().tolist()
    ['blind to wrong cells']
    """
    check_arguments(locals())
    if limits is not None and not isinstance(limits, AuditLimits):
        raise refused("limits", limits, "Give transpert.tl.AuditLimits(...), or None.")
    options, limits = checked_options(options), limits or AuditLimits()
    chosen = _chosen(metrics)
    slots = {"layer": layer, "modality": options.modality}
    real = open_cells(truth, name="the truth", **slots)
    given = _open_all(pred, slots)
    first = next(iter(given.values()), real)
    design = design_of_metadata(first.metadata, first.obs.columns, design=design, context_keys=context_keys)
    observed = populations(real.obs, design, name="the truth")
    found = find_populations(given, design, need_controls=False)
    wanted = wanted_populations(found, observed, design) if given else list(observed)
    wanted = _populations_to_audit(wanted, observed)
    genes, _ = align(real, given, options.max_missing_genes)
    check_one_scale(real, observed, given, found, genes, wanted)
    real = real.with_genes(genes)
    controls, tested = _make_controls(real, observed, wanted, options.max_controls, seed)
    predictions: dict[str, Prediction] = {
        **controls,
        **{name: GivenPrediction(reader.with_genes(genes), found[name]) for name, reader in given.items()},
    }
    plan = Plan(
        real, tested, wanted, predictions, "real", options.max_controls, ceiling=False, with_counts=False, seed=seed
    )
    scored = score_plan(plan, chosen, client=options.client, progress=progress, title="Auditing populations")
    scores = tabulate(scored, chosen, list(predictions), [], n_bootstrap=0, seed=seed)
    return _flagged(scores, chosen, limits, n_bootstrap, seed)


def _chosen(metrics: str | Sequence[str]) -> list[Metric]:
    chosen = resolve_metrics(metrics)
    names = [metric.name for metric in chosen]
    chosen += [metric for metric in resolve_metrics(_INTEGRITY) if metric.name not in names]
    counted = [metric.name for metric in chosen if metric.counts]
    if counted:
        raise OptionError(
            f"{list_names(counted)} are computed from raw counts, and constant cells have none",
            remedy="Name other metrics.",
        )
    return chosen


def _open_all(pred: Data | Mapping[str, Data] | None, slots: Mapping[str, str | None]) -> dict[str, CellReader]:
    if pred is None:
        return {}
    if not isinstance(pred, Mapping):
        check_readable(pred, name="the prediction", several=True)
        reader = open_cells(pred, name="the prediction", **slots)
        return {str(reader.metadata.get("model", "prediction")): reader}
    taken = [str(name) for name in pred if str(name) in ROLES]
    if taken:
        raise OptionError(f"a prediction is called {taken[0]!r}, as a control is", remedy="Rename it.")
    return {str(name): open_cells(data, name=f"prediction {name!r}", **slots) for name, data in pred.items()}


def _populations_to_audit(wanted: Sequence[tuple[str, str]], observed: Populations) -> list[tuple[str, str]]:
    small = [key for key in wanted if len(observed.cells[key]) < _MIN_CELLS]
    if len(small) == len(wanted):
        raise GroupSizeError(
            f"no population has {_MIN_CELLS} cells", where="the truth", remedy="An audit splits real cells into halves."
        )
    if small:
        names = list_names(" / ".join(key) for key in small)
        warn_user(f"{len(small)} populations have fewer than {_MIN_CELLS} cells and are left out: {names}.")
    left_out = set(small)
    return [key for key in wanted if key not in left_out]


# --- the controls --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Constant:
    """Cells that are all the same."""

    means: Mapping[tuple[str, str], np.ndarray]
    sizes: Mapping[tuple[str, str], int]

    def cells(self, context: str, label: str, *, with_counts: bool) -> Fetch:
        mean, size = self.means[context, label], self.sizes[context, label]
        return partial(_repeated, mean.astype(np.float32), size)

    def controls(self, context: str, *, limit: int | None, seed: int, with_counts: bool) -> Fetch:
        raise OptionError("constant cells bring no controls", remedy="Choose reference='real'.")


@dataclass(frozen=True, slots=True, eq=False)
class _Shifted:
    """Control cells with a shift added."""

    cells_before: GivenPrediction
    shifts: Mapping[tuple[str, str], np.ndarray]

    def cells(self, context: str, label: str, *, with_counts: bool) -> Fetch:
        return partial(
            _shift_cells, self.cells_before.cells(context, label, with_counts=False), self.shifts[context, label]
        )

    def controls(self, context: str, *, limit: int | None, seed: int, with_counts: bool) -> Fetch:
        raise OptionError("shifted cells bring no controls", remedy="Choose reference='real'.")


def _repeated(mean: np.ndarray, size: int) -> tuple[Matrix, None]:
    return np.repeat(mean[None], size, axis=0), None


def _shift_cells(fetch: Fetch, shift: np.ndarray) -> tuple[Matrix, None]:
    return np.maximum(as_dense(fetch()[0], None) + shift.astype(np.float32), 0), None


def _make_controls(
    truth: CellReader,
    observed: Populations,
    wanted: Sequence[tuple[str, str]],
    max_controls: int | None,
    seed: int,
) -> tuple[dict[str, Prediction], Populations]:
    """Make the controls, and the half of the truth that they are scored against."""
    # the same for a population whichever others there are
    draws = {key: np.random.default_rng(seed_of(seed, *key)) for key in wanted}
    halves = {key: np.array_split(draws[key].permutation(observed.cells[key]), 2) for key in wanted}
    replicate = replace(observed, cells={key: np.sort(half) for key, (half, _) in halves.items()})
    tested = replace(observed, cells={key: np.sort(half) for key, (_, half) in halves.items()})
    resampled = replace(
        observed,
        cells={key: _drawn(observed.controls[key[0]], len(tested.cells[key]), draws[key]) for key in wanted},
    )
    contexts = list(dict.fromkeys(context for context, _ in wanted))
    control_mean = {
        context: _mean(
            truth.read(
                sample_rows(observed.controls[context], max_controls, seed_of(seed, context)), f"controls of {context}"
            )
        )
        for context in contexts
    }
    seen, true = (
        {key: _mean(truth.read(part.cells[key], f"population {' / '.join(key)}")) for key in wanted}
        for part in (replicate, tested)
    )
    sizes = {key: len(rows) for key, rows in tested.cells.items()}
    made: dict[str, Prediction] = {
        REPLICATE: GivenPrediction(truth, replicate),
        NO_CHANGE: GivenPrediction(truth, resampled),
        CONTROL_MEAN: _Constant({key: control_mean[key[0]] for key in wanted}, sizes),
        TRUE_MEAN: _Constant(true, sizes),
        TRUE_SHIFT: _Shifted(
            GivenPrediction(truth, resampled), {key: true[key] - control_mean[key[0]] for key in wanted}
        ),
    }
    before = GivenPrediction(truth, resampled)
    made[DESIGNED] = DesignedCells(before, true, raise_a_tenth, seed)
    made[CONTROL_ZEROS] = DesignedCells(before, {key: control_mean[key[0]] for key in wanted}, with_zeros, seed)
    made[TRUE_ZEROS] = DesignedCells(before, true, with_zeros, seed)
    others = _means_of_others(seen)
    if len(others) == len(wanted):
        made[PERTURBATION_MEAN] = _Constant(others, sizes)
    return {name: made[name] for name in ROLES if name in made}, tested


def _drawn(rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows, with replacement only where there are too few."""
    return rng.choice(rows, size, replace=size > len(rows))


def _mean(cells: Matrix) -> np.ndarray:
    exact = cells.astype(np.float64) if sparse.issparse(cells) else np.asarray(cells, dtype=np.float64)
    return np.asarray(exact.mean(axis=0)).ravel()


def _means_of_others(means: Mapping[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """The mean over the other perturbations of the context, where there are any."""
    totals: dict[str, np.ndarray] = {}
    numbers: dict[str, int] = {}
    for (context, _), mean in means.items():
        totals[context] = totals.get(context, 0) + mean
        numbers[context] = numbers.get(context, 0) + 1
    return {
        (context, label): (totals[context] - mean) / (numbers[context] - 1)
        for (context, label), mean in means.items()
        if numbers[context] > 1
    }


# --- the flags -----------------------------------------------------------------------------------------------


def _flagged(
    scores: pd.DataFrame, metrics: Sequence[Metric], limits: AuditLimits, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Add the flags of metrics and of predictions to a table of scores."""
    means = scores[scores["context"] == MEAN].rename(columns={"model": "prediction"})
    table = means[["prediction", "metric", "value", "n", "n_undefined"]].reset_index(drop=True)
    table.insert(1, "knows", table["prediction"].map(ROLES).fillna("?"))
    for name, control in (("no_change", NO_CHANGE), ("replicate", REPLICATE)):
        known = table[table["prediction"] == control].set_index("metric")["value"]
        table[name] = table["metric"].map(known)
    spoiled = _spoiled(table, limits)
    beaten = _beaten(scores, metrics, table, spoiled, limits, n_bootstrap, seed)
    table["metric_flag"] = table["metric"].map(beaten.metric_flags).fillna("")
    table["flag"] = [
        beaten.rows.get((row["prediction"], row["metric"]), "")
        or (spoiled.get(row["prediction"], "") if row["metric_flag"] and row["knows"] == "?" else "")
        for row in table.to_dict("records")
    ]
    return table


@dataclass(frozen=True, slots=True)
class _Beaten:
    """The controls that score as well as predictions, by metric."""

    metric_flags: dict[str, str]
    rows: dict[tuple[str, str], str]


def _beaten(
    scores: pd.DataFrame,
    metrics: Sequence[Metric],
    table: pd.DataFrame,
    spoiled: Mapping[str, str],
    limits: AuditLimits,
    n_bootstrap: int,
    seed: int,
) -> _Beaten:
    """Compare each control with no change, and with the replicate, on each metric."""
    metric_flags: dict[str, str] = {}
    rows: dict[tuple[str, str], str] = {}
    values = table.pivot(index="metric", columns="prediction", values="value").to_dict("index")
    for metric in metrics:
        # a count, a ratio that is best at one, or a test of the cells is what fooling is recognised by, and no score
        if metric.direction not in ("higher", "lower") or metric.family == "integrity":
            continue
        reached = values[metric.name]
        span = abs(reached[REPLICATE] - reached[NO_CHANGE])
        sign = 1 if metric.direction == "higher" else -1

        def gain(
            one: str, other: str, *, metric: Metric = metric, reached: dict = reached, sign: int = sign
        ) -> tuple[float, float]:
            if metric.per == "context" and metric.level == "prediction":
                difference = sign * (reached[one] - reached[other])
                return difference, difference
            paired = compare(scores, one, other, metrics=[metric.name], n_bootstrap=max(n_bootstrap, 1), seed=seed)
            return (paired["gain"].item(), paired["ci_low"].item()) if len(paired) else (np.nan, np.nan)

        flags = []
        mean, low = gain(REPLICATE, NO_CHANGE)
        if np.isfinite(mean) and not (mean > 0 and low > 0):
            flags.append("sees no effect")
        for empty in (CONTROL_MEAN, CONTROL_ZEROS):
            mean, low = gain(empty, NO_CHANGE)
            if mean > limits.margin * span and low > 0:
                flags.append("rewards no information")
                rows[empty, metric.name] = "beats no change without information"
        for wrong in (TRUE_MEAN, TRUE_SHIFT, DESIGNED, TRUE_ZEROS):
            fault = "; ".join(filter(None, (_BY_DESIGN.get(wrong, ""), spoiled[wrong])))
            mean, _ = gain(REPLICATE, wrong)
            if fault and mean <= limits.margin * span:
                rows[wrong, metric.name] = f"as good as a replicate, with {fault}"
                flags.append("blind to wrong cells")
        if flags:
            metric_flags[metric.name] = "; ".join(dict.fromkeys(flags))
    return _Beaten(metric_flags, rows)


def _spoiled(table: pd.DataFrame, limits: AuditLimits) -> dict[str, str]:
    """What is wrong with the cells of each prediction."""
    values = table.pivot(index="prediction", columns="metric", values="value").to_dict("index")
    gap = limits.max_zero_gap + values[REPLICATE]["zero_fraction_gap"]
    said = {}
    for name, row in values.items():
        wrong = []
        if row["variance_ratio"] < limits.min_variance_ratio:
            wrong.append(f"collapsed variance (ratio {row['variance_ratio']:.2f})")
        if row["zero_fraction_gap"] > gap:
            wrong.append(f"destroyed zeros (gap {row['zero_fraction_gap']:.2f})")
        said[str(name)] = "; ".join(wrong)
    return said
