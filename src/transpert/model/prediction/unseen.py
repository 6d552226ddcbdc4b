"""Perturbations of which a trained model knows nothing: it can only give them the mean of the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from transpert.conditions import Embedding
from transpert.errors import ConditionError, OptionError, list_names

from .requests import Request

type Unseen = Literal["error", "mean"]


def unseen_parts(
    requests: Sequence[Request], trained: Collection[str] | None, embedding: Embedding | None
) -> list[str]:
    """Return the perturbations that were neither trained on nor have a vector; none where that is not known."""
    if trained is None or embedding is not None:
        return []
    return sorted({part for request in requests for part in request.condition.parts} - set(trained))


def check_seen(unseen: Sequence[str], choice: Unseen) -> None:
    """Raise for perturbations that were not trained on, unless they are to be predicted as the mean of the others."""
    if not isinstance(choice, str) or choice not in ("error", "mean"):
        raise OptionError(f"unseen is {choice!r}", remedy="Choose 'error' or 'mean'.")
    if unseen and choice == "error":
        raise ConditionError(
            f"{list_names(unseen)} were not trained on, and have neither an embedding nor evidence that counts",
            where="perturbations",
            remedy="Train a model with embeddings= or evidence=, or pass unseen='mean' for the mean of the others.",
        )
