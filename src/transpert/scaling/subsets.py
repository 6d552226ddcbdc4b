"""Orders in which cells are added, whose beginnings are nested subsets."""

from __future__ import annotations

import numpy as np

from transpert._signatures import as_annotated
from transpert.errors import OptionError


@as_annotated(labels="labels N")
def balanced_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order cells so that every beginning has as many of each label as there are.

    A label whose cells are used up is whole, and the others fill its place.

    Parameters
    ----------
    labels : (N,)
        Cell types, or perturbations.
    rng
        Draws the cells of a label, and the order of labels in each round.

    Returns
    -------
    Positions ``(N,)``.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import balanced_order
    >>> order = balanced_order(np.array(["a"] * 90 + ["b"] * 10), np.random.default_rng(0))
    >>> int((order[:20] >= 90).sum())
    10
    """
    _, codes = np.unique(labels, return_inverse=True)
    shuffled = rng.permutation(len(codes))
    by_label = shuffled[np.argsort(codes[shuffled], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])[:-1]
    turn = np.arange(len(codes)) - starts[codes[by_label]]
    return by_label[np.lexsort((rng.random(len(codes)), turn))]


@as_annotated(points="finite N d")
def sketch_order(points: np.ndarray, rng: np.random.Generator, *, boxes: float = 0.01) -> np.ndarray:
    """Order cells by geometric sketching: equal boxes that cover the cells are drawn from in turn.

    Rare states, which fill boxes of their own, come as early as common ones.

    Parameters
    ----------
    points : (N, d)
        Cells in a space, for example that of principal components.
    rng
        Draws a cell of each box in turn.
    boxes
        Number of boxes, as a share of the cells.

    Returns
    -------
    Positions ``(N,)``.

    Raises
    ------
    transpert.errors.OptionError
        If ``boxes`` is not above 0 and up to 1.

    Notes
    -----
    Hie et al. (2019), "Geometric sketching compactly summarizes the single-cell transcriptomic landscape", Cell Systems
    8:483. Written independently; the package geosketch needs fbpca, which does not install on every Python that this
    one does.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import sketch_order
    >>> points = np.r_[np.zeros((99, 2)), [[5.0, 5.0]]]
    >>> 99 in sketch_order(points, np.random.default_rng(0), boxes=0.02)[:2]
    True
    """
    if not 0 < boxes <= 1:
        raise OptionError(f"boxes is {boxes}", where="sketch_order", remedy="Give a share above 0 and up to 1.")
    if 0 in points.shape:
        raise OptionError("there are no points", where="points", remedy="Give at least one cell in one dimension.")
    wanted = max(1, round(boxes * len(points)))
    low = np.min(points, axis=0)
    extent = float(np.max(points - low)) or 1.0
    short, long = 0.0, extent * 1.001
    codes = np.zeros(len(points), dtype=np.int64)
    for _ in range(40):  # the side of a box, by bisection
        side = (short + long) / 2
        found, number = np.unique(np.floor((points - low) / side).astype(np.int64), axis=0, return_inverse=True)
        if len(found) >= wanted:
            codes, short = number.ravel(), side
            if len(found) == wanted:
                break
        else:
            long = side
    return balanced_order(codes, rng)


@as_annotated(own="positions N", other="positions M")
def spiked_order(own: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Replace a share of an order by cells of another data set, evenly from the beginning.

    Parameters
    ----------
    own, other
        Orders of the cells of the two data sets.
    share
        How many of every beginning are of the other one, for example 0.1 or 0.5.

    Returns
    -------
    As many positions as ``own`` has; fewer if the other data set is too small.

    Raises
    ------
    transpert.errors.OptionError
        If the share is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import spiked_order
    >>> spiked_order(np.arange(6), np.arange(100, 106), 0.5).tolist()
    [0, 100, 1, 101, 2, 102]
    """
    if not 0 < share < 1:
        raise OptionError(f"share is {share}", where="spiked_order", remedy="Give a number between 0 and 1.")
    n = min(len(own), int(len(other) / share))
    replaced = np.diff(np.floor(np.arange(n + 1) * share + 1e-9)) > 0
    order = np.empty(n, dtype=np.int64)
    order[replaced] = other[: np.count_nonzero(replaced)]
    order[~replaced] = own[: np.count_nonzero(~replaced)]
    return order
