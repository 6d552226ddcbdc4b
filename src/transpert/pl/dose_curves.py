"""Fold changes of genes over the dose, observed and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy import sparse
from scipy.stats import norm

from transpert._amounts import written_amount
from transpert._anndata import check_kind, frame
from transpert._arguments import check_arguments, check_text, check_whole, name_list
from transpert._docstrings import fill_docstring
from transpert._matrices import as_dense
from transpert._statistics import mean_and_error
from transpert.conditions.written import label_texts
from transpert.errors import ConditionError, ControlError, OptionError, UnknownNameError, check_known, list_names
from transpert.groups import Design
from transpert.groups.table import context_labels
from transpert.pp.alignment import align_to
from transpert.tl._populations import check_labels, design_of, log_values

from ._style import FAINT, MUTED, finish, legend_beside, make_axes, styles

_INTERVAL = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """Mean counts per 10k and their standard errors, doses x genes, at ascending doses."""

    doses: np.ndarray
    mean: np.ndarray
    error: np.ndarray


@fill_docstring
def dose_response(
    pred: AnnData,
    truth: AnnData,
    *,
    perturbation: str | None = None,
    context: str | None = None,
    genes: str | Sequence[str] | int = 4,
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    pseudo_rate: float = 0.05,
    layer: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Axes | Figure | None:
    """Plot log2 fold changes of genes against the dose: observed points with intervals, predicted lines.

    Intervals are of 95 %, from the standard errors of both means (delta method).

    Parameters
    ----------
    pred
        Predicted cells at one or more doses, log1p counts per 10k in ``X``; the doses may be others than the observed,
        but at one time and in one direction: the observed cells of that time and direction are drawn.
    truth
        The real cells with controls, log1p counts per 10k in ``X``. Its controls are the reference of both.
    perturbation, context
        Which ones; the first of the prediction by default.
    genes
        Which ones, or how many: those with the largest observed fold change at any dose.
    %(design)s
    %(own_context_keys)s
    pseudo_rate
        Counts per 10k that are added before the logarithm is taken.
    %(log_layer)s
    %(drawing)s

    Raises
    ------
    transpert.errors.UnknownNameError
        If there is no such perturbation, context, gene or column.
    transpert.errors.OptionError
        If nothing says which column holds the dose, doses are not positive numbers, or the prediction is of several
        times or directions or of none that was observed.
    transpert.errors.ConditionError
        If a label is missing in some cells, or a time is not a number.
    transpert.errors.ControlError
        If the context has no control cells.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=50, n_cells=40, doses=(0.1, 1.0, 10.0))
    >>> design = tp.Design(dose_key="dose")
    >>> axes = tp.pl.dose_response(adata, adata, design=design, genes=["gene_3", "gene_7"], show=False)
    >>> axes.get_xlabel(), axes.get_title()
    ('dose', 'P0 in all')
    """
    check_arguments(locals(), but=("genes",))
    for data, name in ((pred, "the prediction"), (truth, "the truth")):
        check_kind(data, name=name)
    design = design_of(
        pred,
        design=design,
        context_keys=context_keys,
    )
    dose_key = design.dose_key
    if dose_key is None:
        raise OptionError(
            "nothing says which column holds the dose",
            where="dose_response",
            remedy="Give design=tp.Design(..., dose_key=...).",
        )
    pred, _ = align_to(pred, list(truth.var_names))
    obs, real_obs = frame(pred.obs), frame(truth.obs)
    for table, where in ((obs, "the prediction"), (real_obs, "the truth")):
        check_known("column", design.condition_keys.values(), table, where=f"obs of {where}")
        check_labels(table, (design.perturbation_key,), name=where, label_format=design.label_format)
        check_labels(table, design.context_keys, name=where)
    contexts = context_labels(obs, design)
    labels = label_texts(obs[design.perturbation_key]).to_numpy()
    treated = ~design.control_cells(obs)
    context = _choose("context", context, contexts[treated])
    perturbation = _choose("perturbation", perturbation, labels[treated & (contexts == context)])
    observed_values = log_values(truth, layer, where="the truth")
    there = context_labels(real_obs, design) == context
    names = label_texts(real_obs[design.perturbation_key]).to_numpy()
    controls = np.flatnonzero(there & design.control_cells(real_obs))
    if not len(controls):
        raise ControlError(
            f"there are no control cells of {context!r}",
            where="the truth",
            remedy="Give a truth with control cells of this context.",
        )
    rows = np.flatnonzero((contexts == context) & (labels == perturbation))
    real_rows = _of_same_time_and_direction(
        real_obs, np.flatnonzero(there & (names == perturbation)), obs, rows, design
    )
    real = _curve(observed_values, real_rows, real_obs[dose_key], "the truth")
    predicted = _curve(log_values(pred, layer, where="the prediction"), rows, obs[dose_key], "the prediction")
    reference, reference_error = _moments(observed_values[controls])
    base = np.log2(reference + pseudo_rate)
    folds = np.log2(real.mean + pseudo_rate) - base
    chosen = _genes(genes, folds, truth.var_names)
    figure, axes = make_axes(ax, (6.4, 4.0))
    axes.axhline(0, color=FAINT, linewidth=1, zorder=0)
    # of a logarithm the standard error is relative; that of the controls adds to it
    relative = real.error / (real.mean + pseudo_rate), reference_error / (reference + pseudo_rate)
    widths = norm.ppf(0.5 + _INTERVAL / 2) / np.log(2) * np.hypot(*relative)
    for gene, (colour, marker) in styles(list(truth.var_names[chosen])).items():
        i = truth.var_names.get_loc(gene)
        axes.errorbar(
            real.doses,
            folds[:, i],
            yerr=widths[:, i],
            fmt=marker,
            color=colour,
            markersize=5.5,
            linewidth=1.2,
            label=gene,
            zorder=3,
        )
        line = np.log2(predicted.mean[:, i] + pseudo_rate) - base[i]
        axes.plot(predicted.doses, line, color=colour, linewidth=1.6, marker="." if len(line) == 1 else None, zorder=2)
    axes.plot([], [], color=MUTED, marker="o", linestyle="", label="observed, 95 % interval")
    axes.plot([], [], color=MUTED, linewidth=1.6, label="predicted")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel=dose_key, ylabel="log2 fold change against controls", title=f"{perturbation} in {context}")
    axes.spines[["top", "right"]].set_visible(False)
    legend_beside(axes, own=ax is None)
    return finish(figure, axes, own=ax is None, show=show, return_fig=return_fig)


def _choose(kind: str, name: str | None, labels: np.ndarray) -> str:
    """Return the name if it is among the labels; the first of these by default."""
    known = sorted(set(labels))
    check_text(name, name=kind, optional=True)
    if name is None and known:
        return known[0]
    if name is None or name not in known:
        raise UnknownNameError(kind, [str(name)], known, where="the prediction")
    return name


def _of_same_time_and_direction(
    real_obs: pd.DataFrame, real_rows: np.ndarray, obs: pd.DataFrame, rows: np.ndarray, design: Design
) -> np.ndarray:
    """Observed cells of the one time and direction that the predicted cells have."""
    for kind, key in design.condition_keys.items():
        if kind == "dose":
            continue
        own, known = (_levels(frame[key].iloc[of], kind) for frame, of in ((obs, rows), (real_obs, real_rows)))
        found = np.unique(own)
        if len(found) > 1:
            raise OptionError(
                f"the prediction is of several {kind}s: {list_names(found)}",
                where=f"obs[{key!r}]",
                remedy="Draw one after the other: give the cells of one of them alone.",
            )
        if len(real_rows) and not np.isin(found, known).any():
            raise OptionError(
                f"no observed cell of this perturbation and context has the {kind} {list_names(found)} of the "
                f"prediction, but {list_names(np.unique(known))}",
                where=f"obs[{key!r}] of the truth",
                remedy=f"Predict one of these {kind}s.",
            )
        real_rows = real_rows[np.isin(known, found)]
    return real_rows


def _levels(column: pd.Series, kind: str) -> np.ndarray:
    """Times or directions as text, the same however a number is written; none is ``"none"``."""
    missing = column.isna().to_numpy()
    if kind == "direction":
        return np.where(missing, "none", column.astype(str).to_numpy())
    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    unread = numbers.isna().to_numpy() & ~missing
    if unread.any():
        raise ConditionError(
            f"the time {str(column[unread].iloc[0])!r} is not a number",
            where=f"obs[{column.name!r}]",
            remedy="Write the times as numbers, in one unit.",
        )
    return np.array(["none" if lacks else written_amount(value) for lacks, value in zip(missing, numbers, strict=True)])


def _genes(genes: str | Sequence[str] | int, folds: np.ndarray, known: pd.Index) -> np.ndarray:
    if not isinstance(genes, str | Sequence):
        n_genes = check_whole(genes, name="genes", least=1)
        return np.argsort(-np.abs(folds).max(axis=0), kind="stable")[:n_genes]
    names = name_list(genes)
    check_known("gene", names, known, where="var_names of the truth")
    return known.get_indexer(pd.Index(names))


def _curve(values: np.ndarray | sparse.csr_matrix, rows: np.ndarray, column: pd.Series, where: str) -> _Curve:
    """Mean rates of some cells at each of their doses."""
    doses = pd.to_numeric(column.iloc[rows].astype(str), errors="coerce").to_numpy(dtype=float)
    if not len(rows) or not np.all(np.isfinite(doses) & (doses > 0)):
        raise OptionError(
            f"{len(rows)} cells of this perturbation and context, of which "
            f"{int(np.sum(~(np.isfinite(doses) & (doses > 0))))} have a dose that is not a positive number",
            where=f"obs[{column.name!r}] of {where}",
            remedy="Draw a single perturbation that is given at several doses.",
        )
    levels = np.unique(doses)
    moments = [_moments(values[rows[doses == dose]]) for dose in levels]
    return _Curve(levels, np.stack([mean for mean, _ in moments]), np.stack([error for _, error in moments]))


def _moments(cells: np.ndarray | sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean counts per 10k of every gene and its standard error, from log1p values."""
    mean, squared_error = mean_and_error(np.expm1(as_dense(cells)))
    return mean, np.sqrt(squared_error)
