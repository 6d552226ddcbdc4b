"""Transport of cell populations under perturbation.

``import transpert as tp``; rooms and model classes are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "conditions",
    "data",
    "datasets",
    "errors",
    "groups",
    "metrics",
    "model",
    "nn",
    "pl",
    "pp",
    "scaling",
    "tl",
    "transport",
)
_MODELS = (
    "SCALE",
    "Additive",
    "ContextMean",
    "KernelTransport",
    "MeanFoldChange",
    "MeanShift",
    "NearestPerturbation",
    "NoChange",
    "Replicate",
    "RidgeTransport",
)

__all__ = [*_ROOMS, *_MODELS, "Design", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"transpert.{name}")
    if name == "Design":
        return import_module("transpert.groups").Design
    if name in _MODELS:
        return getattr(import_module("transpert.model"), name)
    raise AttributeError(f"module 'transpert' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
