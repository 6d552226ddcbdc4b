"""How much there is to learn from a screen, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert import _keys
from transpert._anndata import check_writable, frame, modality_of, modality_to_write
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert._statistics import finite_mean, percentile_interval
from transpert.errors import OptionError, list_names, warn_user
from transpert.groups import Design
from transpert.groups.labels import label_codes
from transpert.metrics import resolve_metrics
from transpert.scaling import Energies, effect_energies
from transpert.scaling.shares import without_shared_errors

from ._evaluation.blocks import CEILING
from ._evaluation.cell_reader import open_cells
from ._evaluation.plan import Plan
from ._halves import halved_effects, large_populations, shared_errors
from ._populations import Populations, design_of, log_values, populations
from .evaluation import score_plan
from .score_summary import MEAN, tabulate

_LITTLE = 0.05  # of the signal; a baseline that lacks less than this is enough


@dataclass(frozen=True, slots=True, eq=False)
class EffectShares:
    """What the response of a screen consists of.

    Parameters
    ----------
    shares
        One row a part: ``energy`` (squared length of the effect in log1p, mean over populations), ``share`` of the
        response as it was measured, noise included, and ``ci_low`` and ``ci_high`` of the share. The parts are
        ``"conserved"`` (what a perturbation does in every context), ``"context"`` (what a context does whatever the
        perturbation), ``"interaction"`` and ``"noise"``, which sum to 1; ``"signal"`` is all but the noise, and
        ``"systematic"``, a part of what is conserved, is what every perturbation does.
    perturbations
        One row a perturbation: ``n_contexts``, ``signal``, ``noise``, ``conserved`` (energies), ``reliability`` (share
        of the signal in the response), ``conserved_share`` (of the signal), with ``ci_low`` and ``ci_high`` over
        contexts.
    expected
        Expected scores of a prediction, by what it knows: ``pearson_delta`` and ``mse_delta`` against these
        cells (correlation and mean squared error of the shift), and ``of_signal``, the share of the signal that it has.
        The last row is one half of the cells, scored against the other.
    ceilings
        Score of one half of the cells against the other on each metric that was named.
    text
        The same as a sentence or two.
    """

    shares: pd.DataFrame
    perturbations: pd.DataFrame
    expected: pd.DataFrame
    ceilings: pd.Series
    text: str


@as_annotated()
def effect_shares(
    adata: AnnData | MuData,
    *,
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    metrics: str | Sequence[str] | None = None,
    layer: str | None = None,
    modality: str | None = None,
    n_splits: int = 10,
    n_bootstrap: int = 200,
    level: float = 0.9,
    key_added: str = _keys.EFFECT_SHARES,
    seed: int = 0,
) -> EffectShares:
    """Split the response of a screen into what is conserved, belongs to contexts, to their interaction, and is noise.

    It says before any training how much there is to learn: which baseline is enough, whether a model of contexts can
    help, and what a perfect prediction would score. Every effect is measured twice, in halves of its cells and in
    halves of the controls: with the same controls, effects would agree even where there are none. What all
    perturbations of a context share counts only as far as it exceeds the error of their common controls.

    Parameters
    ----------
    adata
        Cells with controls of every context; log1p counts per 10k in ``X``.
    design
        The columns; by default what the object says, else ``"perturbation"`` and ``"control"``. Controls are weighted
        by batch where the design has a ``batch_key``.
    context_keys
        Columns that make a context, where no design is given.
    metrics
        Summaries or names of metrics whose ceilings are measured too, as in :func:`evaluate`; none by default.
    layer
        Layer with log1p counts per 10k, in place of ``X``.
    modality
        Modality of a MuData.
    n_splits
        How often halves are drawn; estimates are averaged.
    n_bootstrap
        Draws of contexts and perturbations for the intervals.
    level
        Coverage of the intervals.
    key_added
        Where in ``uns["transpert"]`` to write the tables.
    seed
        Seed of everything random.

    Returns
    -------
    The shares; their tables are also in ``uns["transpert"][key_added]``, and models that are set up with these cells
    repeat the text in their summary.

    Warns
    -----
    transpert.errors.AssumptionWarning
        If populations have too few cells, or perturbations were measured in one context alone and are left out.

    Raises
    ------
    transpert.errors.GroupSizeError
        If no population has four cells and four controls.
    transpert.errors.ControlError
        If a context has no controls.
    transpert.errors.CountsError
        If the values are not log1p counts per 10k.

    Notes
    -----
    With one context, what is conserved cannot be told from interaction, and with one perturbation the context not from
    interaction: such parts are NaN, or 0 and counted as interaction.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=4, n_perturbations=4, n_genes=80, n_cells=60)
    >>> found = tp.tl.effect_shares(adata, context_keys="context")
    >>> float(found.shares.loc[["conserved", "context", "interaction", "noise"], "share"].sum().round(6))
    1.0
    """
    _check(n_splits, n_bootstrap, level)
    written = modality_to_write(adata, modality)
    check_writable(written, key_added)
    cells = modality_of(adata, modality)
    if design is None:
        design = design_of(cells, context_keys=context_keys)
    values = log_values(cells, layer, where="the cells")
    found = populations(frame(cells.obs), design)
    wanted = _in_several_contexts(large_populations(found), found)
    batches = np.zeros(cells.n_obs, dtype=np.int64)
    if design.batch_key is not None:
        batches = np.asarray(label_codes(frame(cells.obs)[design.batch_key])[0], dtype=np.int64)
    measured = _measure(values, found, batches, wanted, n_splits, n_bootstrap, check_seed(seed))
    shares = _share_table(measured, level)
    perturbations = _perturbation_table(measured, level)
    expected = _expected(measured.energies, cells.n_vars)
    ceilings = _ceilings(cells, found, wanted, metrics, layer, seed)
    result = EffectShares(shares, perturbations, expected, ceilings, _summary(shares, expected))
    tables = {"shares": shares, "perturbations": perturbations, "expected": expected, "text": result.text}
    written.uns[_keys.UNS] = {**written.uns.get(_keys.UNS, {}), key_added: tables}
    return result


def _check(n_splits: int, n_bootstrap: int, level: float) -> None:
    """Check the options of an estimate."""
    if n_splits < 1 or n_bootstrap < 0:
        raise OptionError(f"n_splits is {n_splits}, n_bootstrap {n_bootstrap}", remedy="Give 1 or more, and 0 or more.")
    if not 0 < level < 1:
        raise OptionError(f"the level of an interval is {level!r}", remedy="Give a number between 0 and 1, like 0.9.")


def _in_several_contexts(wanted: list[tuple[str, str]], found: Populations) -> list[tuple[str, str]]:
    """Leave out what was measured in one context alone, unless all was."""
    counts: dict[str, int] = {}
    for _, label in wanted:
        counts[label] = counts.get(label, 0) + 1
    several = [key for key in wanted if counts[key[1]] > 1]
    if several and len(several) < len(wanted):
        single = [label for label, count in counts.items() if count == 1]
        warn_user(
            f"{len(single)} perturbations were measured in one context alone, which does not say what is conserved, "
            f"and are left out: {list_names(single)}."
        )
    return several or wanted


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Energies of the estimate (the first row) and of the draws of a bootstrap, and how often perturbations count."""

    energies: Energies
    weights: np.ndarray
    perturbations: np.ndarray
    n_contexts: np.ndarray


def _measure(
    values: np.ndarray | sparse.csr_matrix,
    found: Populations,
    batches: np.ndarray,
    wanted: list[tuple[str, str]],
    n_splits: int,
    n_bootstrap: int,
    seed: int,
) -> _Measured:
    """Average the energies over several draws of halves."""
    contexts = np.unique([context for context, _ in wanted])
    perturbations, n_contexts = np.unique([label for _, label in wanted], return_counts=True)
    rng = np.random.default_rng(seed)
    weights = [
        np.vstack([np.ones(size), rng.multinomial(size, np.full(size, 1 / size), n_bootstrap)])
        for size in (len(contexts), len(perturbations))
    ]
    parts = []
    for _ in range(n_splits):
        effects = halved_effects(values, found, batches, wanted, rng)
        parts.append(effect_energies(effects, context_weights=weights[0], perturbation_weights=weights[1]))
    averaged = {name: np.mean([getattr(part, name) for part in parts], axis=0) for name in Energies.__slots__}
    within, systematic = shared_errors(values, found, batches, wanted, n_splits, rng)
    energies = without_shared_errors(Energies(**averaged), within=within, systematic=systematic)
    return _Measured(energies, weights[1], perturbations, n_contexts)


def _share_table(measured: _Measured, level: float) -> pd.DataFrame:
    """Shares of the whole screen, each with its interval."""
    e, v = measured.energies, measured.weights
    several = np.isfinite(e.conserved).any()
    used = v * np.isfinite(e.conserved if several else e.signal)
    signal, noise, conserved = (_weighted_mean(part, used) for part in (e.signal, e.noise, e.conserved))
    context = np.where(np.isfinite(e.within - e.systematic), e.within - e.systematic, 0.0 if several else np.nan)
    parts = {
        "conserved": conserved,
        "context": context,
        "interaction": signal - conserved - context,
        "noise": noise,
        "signal": signal,
        "systematic": e.systematic if several else e.within,
    }
    table = pd.DataFrame({"energy": {name: values[0] for name, values in parts.items()}})
    shares = {name: values / (signal + noise) for name, values in parts.items()}
    table["share"] = {name: values[0] for name, values in shares.items()}
    bounds = {name: _interval(values[1:], level) for name, values in shares.items()}
    table["ci_low"] = {name: low for name, (low, _) in bounds.items()}
    table["ci_high"] = {name: high for name, (_, high) in bounds.items()}
    return table.rename_axis("part")


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over perturbations of each draw, NaN where a draw has none."""
    total = weights.sum(axis=1)
    sums = np.where(weights > 0, np.nan_to_num(values) * weights, 0).sum(axis=1)
    known = np.isfinite(values).any(axis=1) & (total > 0)
    return np.divide(sums, total, out=np.full(len(values), np.nan), where=known)


def _interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Percentile interval of draws, NaN where there are too few."""
    draws = draws[np.isfinite(draws)]
    if len(draws) < 20:
        return float("nan"), float("nan")
    return percentile_interval(draws, level)


def _perturbation_table(measured: _Measured, level: float) -> pd.DataFrame:
    """The parts of every perturbation, the strongest first."""
    e = measured.energies
    table = pd.DataFrame(
        {
            "n_contexts": measured.n_contexts,
            "signal": e.signal[0],
            "noise": e.noise[0],
            "conserved": e.conserved[0],
            "reliability": e.signal[0] / (e.signal[0] + e.noise[0]),
        },
        index=pd.Index(measured.perturbations, name="perturbation"),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(e.signal > 0, e.conserved / e.signal, np.nan)
    table["conserved_share"] = shares[0]
    bounds = [_interval(draws, level) for draws in shares[1:].T]
    table["ci_low"], table["ci_high"] = [low for low, _ in bounds], [high for _, high in bounds]
    return table.sort_values("signal", ascending=False)


def _expected(e: Energies, n_genes: int) -> pd.DataFrame:
    """What a prediction would score that knows some parts of the effects and nothing else."""
    signal, noise = np.maximum(e.signal[0], 0), e.noise[0]
    context = np.nan_to_num(e.within[0] - e.systematic[0])
    known = {
        "nothing (NoChange)": np.zeros_like(signal),
        "the mean of the context (ContextMean)": np.full_like(signal, e.within[0]),
        "the mean of the perturbation (MeanShift)": e.conserved[0],
        "both main effects": e.conserved[0] + context,
        "the true effect": signal,
    }
    rows = []
    for name, part in known.items():
        part = np.clip(part, 0, signal)
        correlation, error = _root_ratio(part, signal + noise), signal - part + noise
        rows.append((name, finite_mean(correlation), finite_mean(error), _share_of(part, signal)))
    halves = _root_ratio(signal, signal + 2 * noise) ** 2
    rows.append(("half of the cells (Replicate)", finite_mean(halves), finite_mean(4 * noise), 1.0))
    table = pd.DataFrame(rows, columns=["knows", "pearson_delta", "mse_delta", "of_signal"]).set_index("knows")
    table["mse_delta"] /= n_genes
    return table


def _root_ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Square root of a ratio of energies, which is a correlation; NaN where there is no response."""
    return np.sqrt(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def _share_of(part: np.ndarray, signal: np.ndarray) -> float:
    """Share of the signal that is in a part."""
    return float(part.sum() / signal.sum()) if signal.sum() > 0 and np.isfinite(part).all() else float("nan")


def _ceilings(
    adata: AnnData,
    found: Populations,
    wanted: list[tuple[str, str]],
    metrics: str | Sequence[str] | None,
    layer: str | None,
    seed: int,
) -> pd.Series:
    """Score one half of the cells against the other on each metric."""
    if metrics is None:
        return pd.Series(dtype=float, name="ceiling")
    chosen = [metric for metric in resolve_metrics(metrics) if not metric.counts]
    reader = open_cells(adata, name="the cells", layer=layer, counts_layer=None, modality=None)
    plan = Plan(reader, found, wanted, {}, "real", None, ceiling=True, with_counts=False, seed=seed)
    scores = tabulate(
        score_plan(plan, chosen, client=None, progress=False), chosen, [CEILING], [], n_bootstrap=0, seed=seed
    )
    return scores[scores["context"] == MEAN].set_index("metric")["value"].rename("ceiling")


def _summary(shares: pd.DataFrame, expected: pd.DataFrame) -> str:
    """Say what the shares mean for the choice of a model."""
    share, low = shares["share"], shares["ci_low"]
    if not share["signal"] > 0 or low["signal"] <= 0:
        return "The response of this screen cannot be told from noise: no model can be told from no change."
    said = f"{max(share['noise'], 0):.0%} of the measured response is noise"
    if not np.isfinite(share["conserved"]):
        common = max(share["systematic"], 0) / share["signal"]
        return (
            f"{said}; of the rest, {common:.0%} is what all perturbations do alike. One context does not say what is "
            "conserved."
        )
    parts = {name: max(share[name], 0) / share["signal"] for name in ("conserved", "context", "interaction")}
    said += (
        f"; of the rest, {parts['conserved']:.0%} is what a perturbation does in every context, {parts['context']:.0%} "
        f"what a context does whatever the perturbation, and {parts['interaction']:.0%} their interaction. "
    )
    delta = expected["pearson_delta"].to_dict()
    if shares.loc["interaction", "ci_high"] <= _LITTLE * share["signal"]:
        enough = "MeanShift" if parts["context"] <= _LITTLE else "the sum of both main effects"
        return f"{said}{enough} is enough: there is little else to learn."
    if low["interaction"] <= 0:
        return f"{said}The interval of the interaction includes 0: a model of contexts may or may not help."
    return (
        f"{said}Main effects alone correlate with the response at about {delta['both main effects']:.2f}, "
        f"the true effect at {delta['the true effect']:.2f}: "
        "a model of how effects depend on the context can help."
    )
