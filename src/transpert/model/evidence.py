"""Effects of other screens that a user gives a model, checked against its data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from transpert.errors import NotTrainedError, OptionError
from transpert.transport import Anchor, Evidence

from .base import PerturbationModel

EvidenceLike = Evidence | PerturbationModel | Iterable[Evidence | PerturbationModel] | None


def resolve_evidence(given: EvidenceLike) -> tuple[Evidence, ...]:
    """Make evidence of what a user gives: evidence itself, trained models of other screens, or several of either."""
    if given is None:
        return ()
    sources = list(given) if isinstance(given, list | tuple) else [given]
    return tuple(_of_one(source, number) for number, source in enumerate(sources))


def _of_one(source: object, number: int) -> Evidence:
    """Make evidence of one source."""
    if isinstance(source, Evidence):
        return source
    if not isinstance(source, PerturbationModel):
        raise OptionError(
            f"evidence holds a {type(source).__name__}",
            where="evidence",
            remedy="Give tp.transport.Evidence, a trained model of another screen, or a list of them.",
        )
    anchor = getattr(source, "anchor", None)
    if not source.is_trained_ or not isinstance(anchor, Anchor):
        raise NotTrainedError(
            f"the {type(source).__name__} given as evidence has measured no effects",
            where="evidence",
            remedy="Train a KernelTransport on the other screen and give that.",
        )
    if "log_fold" not in anchor.effects:
        raise OptionError(
            f"the {type(source).__name__} given as evidence has no log fold changes",
            where="evidence",
            remedy="Train a KernelTransport on the other screen and give that.",
        )
    contexts = tuple(map(str, anchor.table.contexts))
    genes = tuple(map(str, source.genes))
    measured = anchor.effects["log_fold"], anchor.variances["log_fold"]
    name, profiles = f"screen {number + 1}", np.asarray(anchor.table.profiles)
    return Evidence(anchor.table.conditions, contexts, genes, *measured, name, profiles)


def aligned_evidence(given: Sequence[Evidence], genes: Iterable[str]) -> tuple[Evidence, ...]:
    """Return evidence with the genes of a model, in its order."""
    return tuple(source.of_genes(genes) for source in given)
