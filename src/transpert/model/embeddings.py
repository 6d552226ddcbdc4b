"""The embeddings of a model: what a user gives, checked against the data, and as a table for the network."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from transpert.conditions import Embedding, PerturbationVocabulary, as_embedding, coexpression_of
from transpert.errors import OptionError, warn_user
from transpert.groups.table import context_labels
from transpert.transport import Anchor
from transpert.transport.perturbation_ridge import FEWEST_PERTURBATIONS

from .cells.in_memory import Cells, DataSource
from .cells.open import StoredCells
from .prediction.requests import Request

EmbeddingLike = Embedding | pd.DataFrame | str | Iterable[Embedding | pd.DataFrame | str] | None

_COEXPRESSION = "coexpression"


def resolve_embedding(
    embeddings: EmbeddingLike, cells: Cells | StoredCells | None, source: DataSource
) -> Embedding | None:
    """Make an embedding of what a user gives."""
    tables = list(embeddings) if isinstance(embeddings, list | tuple) else [embeddings]
    words = [table for table in tables if isinstance(table, str)]
    if not words:
        return as_embedding(embeddings)  # type: ignore[arg-type]
    if set(words) != {_COEXPRESSION}:
        raise OptionError(
            f"embeddings is {embeddings!r}",
            remedy=f"Give an Embedding, a DataFrame, {_COEXPRESSION!r}, or several of them.",
        )
    if cells is None:
        return None  # what was made when the model was trained is saved with it
    made = [_of_controls(cells, source) if isinstance(table, str) else table for table in tables]
    return as_embedding(made)  # type: ignore[arg-type]


def _of_controls(cells: Cells | StoredCells, source: DataSource) -> Embedding:
    """Co-expression in the control cells."""
    labels = cells.obs[source.design.perturbation_key]
    controls = cells[np.flatnonzero(source.design.label_format.control_cells(labels))]
    groups = context_labels(controls.obs, source.design)
    return coexpression_of(controls.counts, controls.library_size, groups, cells.genes)


def check_perturbations(
    requests: Iterable[Request],
    vocabulary: PerturbationVocabulary,
    embedding: Embedding | None,
    also_known: Collection[str] = (),
) -> None:
    """Raise unless every perturbation asked for is in the data, has a vector, or is known otherwise."""
    known = {*vocabulary.parts, *also_known}
    asked = [request for request in requests if not known.issuperset(request.condition.parts)]
    if embedding is None:
        vocabulary.require(request.label for request in asked)
        return
    parts = {part for request in asked for part in request.condition.parts}
    embedding.require(parts - known, where=f"perturbations; {embedding.source}")


def warn_of_unused(anchor: Anchor, embedding: Embedding | None) -> None:
    """Report that embeddings are not used by an anchor that had too few perturbations to learn what they tell."""
    if embedding is None or anchor.ridge is not None:
        return
    measured = {condition.parts for condition in anchor.table.conditions if len(condition.parts) == 1}
    warn_user(
        f"The anchor does not use the embeddings: the training data has {len(measured)} single perturbations, and at "
        f"least {FEWEST_PERTURBATIONS} are needed to learn how effects follow them. Single perturbations that were not "
        "measured get the mean effect of their context from it, whatever their vectors are."
    )


def network_table(embedding: Embedding, known: Iterable[str]) -> Tensor:
    """Return the vectors of all names as the network sees them, ``(1 + P, E)``; row 0 is no perturbation."""
    rows = embedding.lookup(known).astype(np.float64)
    values = embedding.values.astype(np.float64) - rows.mean(axis=0)
    variance, start = rows.var(axis=0), 0
    for width in embedding.blocks:
        scale = np.sqrt(variance[start : start + width].mean())
        values[:, start : start + width] /= scale or 1.0
        start += width
    return torch.from_numpy(np.vstack([np.zeros((1, values.shape[1])), values]).astype(np.float32))


def embedding_arrays(embedding: Embedding | None) -> tuple[dict, dict[str, np.ndarray]]:
    """Return an embedding as plain data and arrays, to be saved."""
    if embedding is None:
        return {}, {}
    plain = {"names": list(embedding.names), "source": embedding.source, "blocks": list(embedding.blocks)}
    return {"embedding": plain}, {"embedding": embedding.values}


def embedding_from_arrays(plain: dict, arrays: dict[str, np.ndarray]) -> Embedding | None:
    """Make an embedding from what :func:`embedding_arrays` returned."""
    if "embedding" not in plain:
        return None
    kept = plain["embedding"]
    return Embedding(tuple(kept["names"]), arrays.pop("embedding"), kept["source"], tuple(kept["blocks"]))
