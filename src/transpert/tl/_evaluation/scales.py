"""Whether the truth, its counts and the predictions are values on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._anndata import are_of_prediction, predicted_cells
from transpert._counts import library_sizes
from transpert._scale import (
    CONTINUOUS,
    check_same_scale,
    evenly_spread_rows,
    form_of,
    mismatch,
    proportion,
    sizes_behind,
    unlike_counts,
)
from transpert.errors import CountsError, warn_user
from transpert.groups import Design

from .._populations import Populations
from .cell_reader import CellReader

_ALIKE = 2.0  # a perturbation does not change the total over all genes more than this
_MOST = 1.02  # of the total, that rounding makes
_REMEDY = (
    "Normalise the truth as the model did: truth.X = tp.pp.log1p_per_10k(counts, library_size), with the library sizes "
    "the model was trained with"
)


def library_column(given: str | None, predictions: Iterable[CellReader], truth: CellReader) -> str | None:
    """Return the column of library sizes: the one that is asked for, else what a prediction was made with."""
    if given is not None:
        return given
    said = [str(reader.metadata[_keys.LIBRARY_KEY]) for reader in predictions if _keys.LIBRARY_KEY in reader.metadata]
    return next((key for key in said if key in truth.obs), None)


def check_scale_of_truth(truth: CellReader, design: Design, library_size_key: str | None) -> None:
    """Refuse a truth whose values were made with other library sizes than baselines are trained with."""
    rows = evenly_spread_rows(len(truth.obs))
    values, counts = truth.peek(rows)
    assert truth.counts is not None and counts is not None
    obs = truth.obs.iloc[rows]
    sizes = library_sizes(counts)
    key = library_size_key or (None if _keys.LIBRARY_SIZE in design.columns else _keys.LIBRARY_SIZE)
    if key in obs and pd.api.types.is_numeric_dtype(obs[key].dtype):
        sizes = obs[key].to_numpy(dtype=float)
    where = f"{truth.values.where} of {truth.name}"
    share = check_same_scale(values, counts, sizes, obs, where=where, counts_in=truth.counts.where)
    what = unlike_counts(values, share)
    if what is not None and CONTINUOUS not in what:  # which is reported of a truth without counts, too
        warn_user(
            f"The values of {truth.name} ({truth.values.where}) are {what} in {truth.counts.where}, of which baselines "
            "and metrics of counts are made. Make the values of the counts: adata.X = tp.pp.log1p_per_10k(counts, "
            "library_size)."
        )


def check_form(truth: CellReader, predictions: Iterable[CellReader]) -> None:
    """Refuse values that are another transformation than log1p, or of another total; report a truth without counts."""
    for reader in (truth, *predictions):
        rows = evenly_spread_rows(len(reader.obs))
        values = reader.peek(rows)[0]
        form = form_of(values)
        where = f"{reader.values.where} of {reader.name}"
        if form not in (None, "log1p", CONTINUOUS):
            raise CountsError(f"the values are {form} of counts, not log1p", where=where, remedy=f"{_REMEDY}.")
        if reader is not truth or are_of_prediction(reader.obs.columns):
            continue  # predictions may be means, and have more counts than the cells that they were made of
        if form == CONTINUOUS:
            warn_user(
                f"The values of {reader.name} ({reader.values.where}) are log1p of no counts: they look denoised, "
                "corrected or averaged, so that scores compare with something that was never measured. Give measured "
                "cells: adata.X = tp.pp.log1p_per_10k(counts, library_size)."
            )
        with np.errstate(over="ignore"):
            total = float(np.median(np.asarray(np.expm1(values).sum(axis=1))))
        if form == "log1p" and total > _MOST * _keys.SCALE_FACTOR:
            raise CountsError(
                f"the genes at hand add up to {total:,.4g} per cell before the logarithm, which is more than 10,000",
                where=where,
                remedy=f"{_REMEDY}.",
            )


def check_one_scale(
    truth: CellReader,
    observed: Populations,
    predictions: Mapping[str, CellReader],
    found: Mapping[str, Populations],
    genes: pd.Index,
    wanted: Sequence[tuple[str, str]],
) -> None:
    """Refuse predictions whose values are on another scale than those of the truth."""
    unique = ~truth.obs.index.duplicated(keep=False)
    names = pd.Index(truth.obs.index.astype(str)).where(unique, "")
    shared_truth = truth.with_genes(genes)
    for name, reader in predictions.items():
        own = reader.with_genes(genes)
        if not _controls_agree(shared_truth, observed, names, own, found[name]):
            _check_library_sizes(truth, names, reader)
            _compare_totals(shared_truth, observed, own, found[name], wanted)


def _controls_agree(
    truth: CellReader, observed: Populations, names: pd.Index, pred: CellReader, found: Populations
) -> bool:
    """Compare the control cells that both sides have; False where there are none."""
    rows = np.sort(np.concatenate([*found.controls.values(), np.empty(0, dtype=int)]).astype(int))
    ours = are_of_prediction(pred.obs.columns)
    origin = (pred.obs[_keys.CONTROL_ID] if ours else pred.obs.index.to_series()).astype(str).to_numpy()[rows]
    at = names.get_indexer_for(origin) if names.is_unique else _first_positions(names, origin)
    real = np.sort(np.concatenate([*observed.controls.values(), np.empty(0, dtype=int)]).astype(int))
    both = np.flatnonzero(np.isin(at, real))
    if not len(both):
        return False
    both = both[evenly_spread_rows(len(both))]
    ratio = proportion(pred.peek(rows[both])[0], truth.peek(at[both])[0])
    same = np.isfinite(ratio)
    if not same.any():
        return False  # other cells that have the same names
    apart = mismatch(np.ones(same.sum()), ratio[same])
    if apart is not None:
        raise CountsError(
            f"control cells that the truth has too have {1 / apart.given:.3g} times its values there, before the "
            f"logarithm ({apart.n_cells} of {apart.n_looked_at} cells looked at)",
            where=pred.name,
            remedy=f"{_REMEDY}{_library_size_note(pred)}.",
        )
    return True


def _first_positions(names: pd.Index, wanted: np.ndarray) -> np.ndarray:
    """Return where names stand, -1 for none; what stands there more than once is called ``""``."""
    position = {name: number for number, name in enumerate(names) if name}
    return np.array([position.get(name, -1) for name in wanted], dtype=int)


def _library_size_note(pred: CellReader) -> str:
    """Say where a prediction of this package has its library sizes."""
    key = pred.metadata.get(_keys.LIBRARY_KEY)
    return f" (obs[{key!r}])" if key is not None else ""


def _check_library_sizes(truth: CellReader, names: pd.Index, pred: CellReader) -> None:
    """Compare what predicted cells were normalised by with what the truth has for the controls they were made of."""
    if truth.counts is None or not are_of_prediction(pred.obs.columns) or _keys.LIBRARY_SIZE not in pred.obs:
        return
    rows = np.flatnonzero(predicted_cells(pred.obs))
    at = _first_positions(names, pred.obs[_keys.CONTROL_ID].astype(str).to_numpy()[rows])
    rows, at = rows[at >= 0], at[at >= 0]
    if not len(rows):
        return
    chosen = evenly_spread_rows(len(rows))
    behind = sizes_behind(*truth.peek(at[chosen]))
    apart = mismatch(behind, pred.obs[_keys.LIBRARY_SIZE].to_numpy(dtype=float)[rows[chosen]])
    if apart is not None:
        raise CountsError(
            f"the control cells that it was made of have other library sizes in the truth: by the values there {apart}",
            where=pred.name,
            remedy=f"{_REMEDY}{_library_size_note(pred)}.",
        )


def _compare_totals(
    truth: CellReader,
    observed: Populations,
    pred: CellReader,
    found: Populations,
    wanted: Sequence[tuple[str, str]],
) -> None:
    """Say that the totals of predicted and real cells have nothing to do with each other."""
    typical = []
    for reader, own in ((pred, found), (truth, observed)):
        rows = np.sort(np.concatenate([own.cells[key] for key in wanted]))
        values = reader.peek(rows[evenly_spread_rows(len(rows))])[0]
        with np.errstate(over="ignore"):
            typical.append(float(np.median(np.asarray(np.expm1(values).sum(axis=1)))))
    if min(typical) > 0 and not 1 / _ALIKE < typical[0] / typical[1] < _ALIKE:
        warn_user(
            f"The cells of {pred.name} have {typical[0] / typical[1]:.2g} times the total of real cells, before the "
            "logarithm. If they were normalised otherwise, scores say nothing: both are to be log1p counts per 10k, "
            "by the same library sizes."
        )
