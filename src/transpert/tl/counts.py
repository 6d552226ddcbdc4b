"""Counts for the predictions of any model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert import _keys, pp
from transpert._anndata import check_kind, frame
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert._seeds import sample_rows
from transpert.conditions import Condition, parse_perturbation
from transpert.conditions.labels import Controls
from transpert.conditions.written import label_text
from transpert.errors import (
    ControlError,
    MetricInputError,
    check_known,
    list_names,
    warn_user,
)
from transpert.groups import Design
from transpert.groups.table import written_values
from transpert.pp.alignment import align_to
from transpert.transport import ReadoutOptions, estimate_dispersion, group_statistics

from ._populations import design_of, log_values, populations

if TYPE_CHECKING:
    from transpert.model.cells.in_memory import Cells


@fill_docstring
def to_counts(
    pred: AnnData | pd.DataFrame,
    controls: AnnData,
    *,
    design: Design | None = None,
    perturbation_key: str | None = None,
    control: Controls | None = None,
    context_keys: str | Sequence[str] | None = None,
    counts_layer: str | None = _keys.COUNTS_LAYER,
    library_size_key: str | None = None,
    layer: str | None = None,
    include_controls: bool = True,
    seed: int = 0,
) -> AnnData:
    """Turn predicted cells or means of any model into realistic integer counts with the same means.

    Most models predict smooth log values. A rank test then finds nearly every gene significant, because the zeros
    and the noise of real cells are gone. Here the counts of the real control cells are thinned or added to until
    their mean log1p is the predicted one.

    Parameters
    ----------
    pred
        Predicted cells, log1p counts per 10k, labelled by perturbation and context; or predicted means, a table with
        one row a perturbation (in one context) and one column a gene.
    controls
        Real control cells of the same contexts, with raw counts; other cells are ignored.
    %(design)s
    %(own_columns)s
    counts_layer
        Layer of ``controls`` with raw counts; ``X`` where it does not exist.
    library_size_key
        Column of ``controls`` with library sizes.
    layer
        Layer of ``pred`` with log1p counts per 10k, in place of ``X``.
    include_controls
        Add the control cells to the result.
    seed
        Seed of the draw.

    Returns
    -------
    AnnData in the form that ``predict`` returns, with integers in ``layers["counts"]``, and with the perturbations,
    contexts, doses, times and directions of ``pred``. A population has as many cells as in ``pred``, made of as many
    control cells: with fewer, some are drawn; with more, every one is used equally often, up to one. A mean in a table
    becomes one cell for each control cell.

    Warns
    -----
    transpert.errors.AssumptionWarning
        If the controls lack genes of the prediction, which are left out.

    Raises
    ------
    transpert.errors.CountsError
        If the prediction is not log1p counts per 10k, or the controls have no counts.
    transpert.errors.GeneError
        If the prediction lacks genes of the controls.
    transpert.errors.ControlError
        If a predicted context has no controls.
    transpert.errors.OptionError
        If a column of the design has a name under which something else is written: ``source``, ``model``,
        ``control_id`` or ``library_size``; if cells come as something else, such as a path.

    Examples
    --------
    >>> import pandas as pd, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=20, n_cells=50)
    >>> means = pd.DataFrame(adata.X.mean(axis=0) + 0.1, index=["drug"], columns=adata.var_names)
    >>> tp.tl.to_counts(means, adata).layers["counts"].shape
    (100, 20)
    """
    check_arguments(locals())
    # models bring torch along, which takes seconds and memory that an evaluation does not need
    from transpert.model.cells.in_memory import DataSource, read_cells
    from transpert.model.prediction.assemble import Population, SetPrediction, assemble, read_out
    from transpert.model.prediction.requests import Request

    check_kind(pred, (AnnData, pd.DataFrame), name="the prediction", wanted="an AnnData, or a table of means")
    check_kind(controls, name="controls")
    reference = pred if isinstance(pred, AnnData) else controls
    design = design_of(
        reference,
        design=design,
        perturbation_key=perturbation_key,
        control=control,
        context_keys=context_keys,
    )
    design.check_not_written(_keys.PREDICTION_COLUMNS)
    own_design = _without_absent(design, controls)
    source = DataSource(own_design, counts_layer if counts_layer in controls.layers else None, library_size_key)
    cells = read_cells(controls, source)
    known = populations(cells.obs, own_design, need_controls=False)
    moved: list[Population] = []
    used: dict[str, Cells] = {}
    dispersion: dict[str, np.ndarray] = {}
    for context, condition, label, mean, size in _means(pred, design, list(cells.genes), layer, tuple(known.controls)):
        if context not in known.controls:
            raise ControlError(
                f"there are no control cells of {context!r}",
                where="controls",
                remedy=f"Give controls of every predicted context; there are those of {list_names(known.controls)}.",
            )
        if context not in used:
            used[context] = cells[known.controls[context]]
            dispersion[context] = _dispersion(used[context])
        values = {key: label_text(used[context].obs[key].iloc[0]) for key in design.context_keys}
        spelled = design.label_format.split(label)
        request = Request(context, values, condition, label, written_values(condition, spelled))
        own = _draw_cells(used[context], size, request.seed(seed))
        log, counts = read_out(
            own,
            SetPrediction(np.maximum(mean, 0)),
            kind="counts",
            options=ReadoutOptions(),
            dispersion=dispersion[context],
            seed=request.seed(seed),
        )
        moved.append(Population(log, counts, own, _keys.PREDICTED, request))
    if not moved:
        raise MetricInputError(
            "there is no perturbed population in the prediction",
            where=f"obs[{design.perturbation_key!r}]",
            remedy="Name the column and the label of controls in perturbation_key= and control=.",
        )
    if include_controls:
        for own in used.values():
            dense = np.asarray(pp.log1p_per_10k(own.counts, own.library_size).todense(), dtype=np.float32)
            moved.append(Population(dense, own.counts, own, _keys.CONTROL))
    return assemble(moved, design, model="to_counts")


def _draw_cells(cells: Cells, size: int | None, seed: int) -> Cells:
    """Return so many control cells: drawn without replacement, or every one equally often, up to one."""
    from transpert.model.cells.in_memory import repeated

    if size is None or size >= len(cells):
        return repeated(cells, size, seed)
    return cells[sample_rows(np.arange(len(cells)), size, seed)]


def _report_lacking(genes: Sequence[str], given: pd.Index) -> None:
    """Say once which predicted genes are left out, because the controls lack them."""
    lacking = given.difference(pd.Index(genes), sort=False)
    if len(lacking):
        warn_user(
            f"The controls lack {len(lacking)} of the {len(given)} genes of the prediction, which are left out: "
            f"{list_names(lacking)}."
        )


def _dispersion(cells: Cells) -> np.ndarray:
    codes = np.zeros(len(cells), dtype=int)
    return estimate_dispersion(group_statistics(cells.counts, cells.library_size, codes, 1))


def _without_absent(design: Design, controls: AnnData) -> Design:
    """Leave out the dose, time and direction columns that the control cells lack."""
    there = frame(controls.obs).columns
    absent: dict[str, Any] = {f"{kind}_key": None for kind, key in design.condition_keys.items() if key not in there}
    return replace(design, **absent)


def _means(
    pred: AnnData | pd.DataFrame, design: Design, genes: list[str], layer: str | None, contexts: tuple[str, ...]
) -> Iterator[tuple[str, Condition, str, np.ndarray, int | None]]:
    """Yield context, condition, spelling, predicted mean log1p and, if it has cells, their number, of populations."""
    if isinstance(pred, pd.DataFrame):
        check_known("gene", genes, pred.columns, where="the table of means")
        _report_lacking(genes, pred.columns.astype(str))
        pp.check_log1p(pred[genes].to_numpy(dtype=float), where="the table of means")
        for context in contexts:
            for label, row in pred[genes].iterrows():
                condition = Condition(parse_perturbation(str(label), control=design.label_format))
                yield context, condition, str(label), row.to_numpy(dtype=float), None
        return
    aligned, _ = align_to(pred, genes)
    _report_lacking(genes, pred.var_names.astype(str))
    values = log_values(aligned, layer, where="the prediction")
    found = populations(frame(aligned.obs), design, need_controls=False, name="the prediction")
    for (context, label), rows in found.cells.items():
        block = values[rows]
        mean = np.asarray(block.mean(axis=0) if sparse.issparse(block) else block.mean(axis=0, dtype=np.float64))
        yield context, found.conditions[label], found.spelling[label], mean.ravel(), len(rows)
