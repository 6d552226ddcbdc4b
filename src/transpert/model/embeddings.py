"""The embeddings of a model: what a user gives, checked against the data, and as a table for the network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from transpert.conditions import Embedding, PerturbationVocabulary, as_embedding, coexpression_of
from transpert.conditions.controls import control_cells
from transpert.errors import OptionError
from transpert.groups.table import context_labels

from .cells import Cells, DataSource
from .requests import Request
from .store_input import StoredCells

__all__ = [
    "EmbeddingLike",
    "check_perturbations",
    "embedding_arrays",
    "embedding_from_arrays",
    "network_table",
    "resolve_embedding",
]

EmbeddingLike = Embedding | pd.DataFrame | str | Iterable[Embedding | pd.DataFrame | str] | None

_COEXPRESSION = "coexpression"


def resolve_embedding(
    embeddings: EmbeddingLike, cells: Cells | StoredCells | None, source: DataSource
) -> Embedding | None:
    """Make an embedding of what a user gives.

    Parameters
    ----------
    embeddings
        An embedding, a DataFrame, ``"coexpression"``, several of these, or ``None``.
    cells
        The cells of the model; ``None`` if it is being loaded without.
    source
        Their design.

    Returns
    -------
    The embedding, or ``None``.

    Raises
    ------
    transpert.errors.TranspertError
        If a table is not one, or ``embeddings`` is another string.
    """
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
    controls = cells[np.flatnonzero(control_cells(labels, control=source.design.control))]
    groups = context_labels(controls.obs, source.design)
    return coexpression_of(controls.counts, controls.library_size, groups, cells.genes)


def check_perturbations(
    requests: Iterable[Request], vocabulary: PerturbationVocabulary, embedding: Embedding | None
) -> None:
    """Raise unless every perturbation asked for is in the data or has a vector.

    Raises
    ------
    transpert.errors.UnknownNameError
        If one is neither; all such names are listed, with the nearest known ones.
    """
    if embedding is None:
        vocabulary.require(request.label for request in requests)
        return
    parts = {part for request in requests for part in request.condition.parts}
    embedding.require(parts - set(vocabulary.parts), where=f"perturbations; {embedding.source}")


def network_table(embedding: Embedding, known: Iterable[str]) -> Tensor:
    """Return the vectors of all names as the network sees them, ``(1 + P, E)``; row 0 is no perturbation.

    Parameters
    ----------
    embedding
        The embedding.
    known
        The perturbations of the data. Every table is centred on them and scaled so that a vector of theirs has as
        much variance as it has dimensions, whatever the units of the table.
    """
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
