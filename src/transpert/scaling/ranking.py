"""How well an effect serves what is desired, and how good a ranking was."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from transpert._arguments import check_whole
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

_TINY = 1e-12


@as_annotated(effects="... G", signature="G")
def signature_scores(effects: np.ndarray, signature: np.ndarray) -> np.ndarray:
    """Pearson correlation of effects with a signature.

    Parameters
    ----------
    effects : (..., G)
        Log fold changes.
    signature : (G,)
        Desired log fold changes.

    Returns
    -------
    ``(...)``, from -1 to 1; 0 for an effect that is the same for all genes, such as none.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import signature_scores
    >>> signature_scores(np.array([[2.0, 0.0, -2.0], [0.0, 0.0, 0.0]]), np.array([1.0, 0.0, -1.0])).round(6).tolist()
    [1.0, 0.0]
    """
    centred = effects - effects.mean(axis=-1, keepdims=True)
    wanted = signature - signature.mean()
    lengths = np.linalg.norm(centred, axis=-1) * np.linalg.norm(wanted)
    return np.divide(centred @ wanted, lengths, out=np.zeros(centred.shape[:-1]), where=lengths > _TINY)


@as_annotated(effects="... G", before="G", target="G")
def approach_scores(effects: np.ndarray, before: np.ndarray, target: np.ndarray, pseudo_rate: float) -> np.ndarray:
    """How much of the way from the controls to a target population an effect makes.

    Parameters
    ----------
    effects : (..., G)
        Natural-log fold changes of the mean counts per 10k.
    before, target : (G,)
        Mean log1p counts per 10k of the controls and of the target.
    pseudo_rate
        Counts per 10k that were added before the logarithms of the effects were taken.

    Returns
    -------
    ``(...)``: 1 minus the distance to the target after the effect, over the distance before; 1 is there, 0 no nearer,
    and negative farther away.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import approach_scores
    >>> approach_scores(np.zeros((1, 2)), np.zeros(2), np.ones(2), 0.05).tolist()
    [0.0]
    """
    rate = np.exp(effects) * (np.expm1(before) + pseudo_rate) - pseudo_rate
    after = np.log1p(np.maximum(rate, 0))
    apart = np.linalg.norm(target - before)
    return 1 - np.linalg.norm(after - target, axis=-1) / max(apart, _TINY)


@as_annotated(effects="... G", members="G")
def gene_set_scores(effects: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Mean effect on the genes of a set, less the mean effect on the others.

    Parameters
    ----------
    effects : (..., G)
        Log fold changes.
    members : (G,)
        Which genes are in the set.

    Returns
    -------
    ``(...)``, a log fold change.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.scaling import gene_set_scores
    >>> gene_set_scores(np.array([[1.0, 0.0]]), np.array([True, False])).tolist()
    [1.0]
    """
    return effects[..., members].mean(axis=-1) - effects[..., ~members].mean(axis=-1)


@as_annotated()
def retrieval(ranked: Sequence[str], relevant: Collection[str], *, at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Say how early a ranking has what was found to be right.

    Parameters
    ----------
    ranked
        Names, the best first; those about which nothing is said come last.
    relevant
        The right ones.
    at
        Lengths of the list for hit rates.

    Returns
    -------
    ``hit_rate_K`` (share of the first K that are right), ``recall_K``, ``enrichment_K`` (hit rate over that of chance)
    and ``auc`` (chance that a right one stands before a wrong one).

    Raises
    ------
    transpert.errors.MetricInputError
        If none, or all, of the names are right.

    Examples
    --------
    >>> from transpert.scaling import retrieval
    >>> found = retrieval(["a", "b", "c", "d"], {"a", "c"}, at=[2])
    >>> found["hit_rate_2"], found["enrichment_2"], found["auc"]
    (0.5, 1.0, 0.75)
    """
    right = np.array([name in relevant for name in ranked])
    if not 0 < right.sum() < len(right):
        raise MetricInputError(
            f"{int(right.sum())} of {len(right)} ranked names are right, which judges no ranking",
            remedy="Rank some names that are right, and some that are not.",
        )
    for k in at:
        check_whole(k, name="at", least=1)
    found: dict[str, float] = {}
    for k in at:
        hits = float(right[:k].sum())
        length = min(k, len(right))
        found |= {f"hit_rate_{k}": hits / length, f"recall_{k}": hits / float(right.sum())}
        found[f"enrichment_{k}"] = hits / length / float(right.mean())
    ranks = np.flatnonzero(right) + 1
    wrong_after = (~right).sum() - (ranks - np.arange(1, len(ranks) + 1))
    found["auc"] = float(wrong_after.sum() / (len(ranks) * (~right).sum()))
    return found
