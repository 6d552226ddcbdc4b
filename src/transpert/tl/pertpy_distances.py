"""How far predicted cells are from the observed ones, in the distances of pertpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert._anndata import frame
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert.errors import DependencyError, UnknownNameError
from transpert.groups import Design

from ._populations import design_of, populations
from .embed import embed_together

# those that compare cells or their means in a space; pertpy knows more
_USUAL = tuple(
    "edistance mmd wasserstein sym_kldiv t_test ks_test mahalanobis mean_pairwise euclidean mse mean_absolute_error "
    "pearson_distance cosine_distance classifier_proba".split()
)


@fill_docstring
def distances(
    pred: AnnData,
    truth: AnnData,
    *,
    metric: str = "edistance",
    design: Design | None = None,
    context_keys: str | Sequence[str] | None = None,
    n_components: int = 30,
    max_cells: int | None = 1_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure predicted and control cells against the observed ones, in any distance that pertpy knows.

    The space is that of :func:`embed_together`: principal components of the real cells, onto which the predicted ones
    are projected.

    Parameters
    ----------
    pred
        A prediction, log1p counts per 10k in ``X``.
    truth
        The real cells, log1p counts per 10k in ``X``.
    metric
        Name of a distance of ``pertpy.tools.Distance``: ``"edistance"``, ``"mmd"``, ``"sym_kldiv"``, ``"wasserstein"``
        (which needs the extra ``jax`` of pertpy), ...
    %(design)s
    %(own_context_keys)s
    n_components
        Of the principal components.
    max_cells
        Cells of each population that are compared, drawn at random; all if ``None``.
    seed
        Seed of the drawing.

    Returns
    -------
    One row a population: ``context``, ``perturbation``, ``predicted`` (distance from predicted to observed cells),
    ``control`` (from control to observed cells), and ``left``, their ratio: 0 if predicted cells are where the observed
    ones are, 1 if they are no nearer than control cells.

    Raises
    ------
    transpert.errors.UnknownNameError
        If pertpy has no such distance.
    transpert.errors.DependencyError
        If the distance needs a package that is not installed.
    transpert.errors.MetricInputError
        If no predicted population is in the truth.

    Notes
    -----
    pertpy counts the distance of a cell to itself, :func:`transpert.metrics.energy_distance` does not.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=50, n_cells=40)
    >>> pred = adata[adata.obs["perturbation"] == "P0"].copy()
    >>> bool(abs(tp.tl.distances(pred, adata, n_components=5)["left"].iloc[0]) < 1e-3)
    True
    """
    check_arguments(locals())
    distance = _distance(metric)
    together = embed_together(
        pred, truth, design=design, context_keys=context_keys, n_components=n_components, umap=False, seed=seed
    )
    design = design_of(pred, design=design, context_keys=context_keys)
    predicted = (together.obs[_keys.SOURCE] == _keys.PREDICTED).to_numpy()
    own, real = together[predicted], together[~predicted]
    moved = populations(frame(own.obs), design, need_controls=False).cells
    found = populations(frame(real.obs), design)
    rng = np.random.default_rng(seed)

    def cells(adata: AnnData, rows: np.ndarray) -> np.ndarray:
        chosen = rows if max_cells is None or len(rows) <= max_cells else rng.permutation(rows)[:max_cells]
        return np.asarray(adata.obsm[_keys.PCA][chosen], dtype=np.float64)

    table = []
    for key in [key for key in moved if key in found.cells]:
        observed = cells(real, found.cells[key])
        apart = _measure(distance, cells(own, moved[key]), observed, metric)
        before = _measure(distance, cells(real, found.controls[key[0]]), observed, metric)
        table.append((*key, apart, before, apart / before if before else float("nan")))
    return pd.DataFrame(table, columns=["context", "perturbation", "predicted", "control", "left"])


def _distance(metric: str) -> Any:
    """Make a distance of pertpy."""
    from pertpy.tools import Distance

    try:
        return Distance(metric)  # type: ignore[arg-type]  # which there are, it says itself
    except ValueError as error:
        raise UnknownNameError("distance", [metric], _USUAL, where="pertpy.tools.Distance") from error
    except ImportError as error:
        raise _missing(metric, error) from error


def _measure(distance: Any, x: np.ndarray, y: np.ndarray, metric: str) -> float:
    """Measure the distance of two sets of cells."""
    try:
        return float(distance(x, y))
    except ImportError as error:
        raise _missing(metric, error) from error


def _missing(metric: str, error: ImportError) -> DependencyError:
    """Name what is not installed."""
    return DependencyError(
        f"the distance {metric!r} needs more than pertpy", remedy=f"Install it: {' '.join(str(error).split())}"
    )
