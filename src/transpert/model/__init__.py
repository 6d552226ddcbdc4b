"""Models behind one interface: SCALE and the baselines."""

from .base import PerturbationModel
from .baselines import (
    Additive,
    ContextMean,
    MeanFoldChange,
    MeanShift,
    NearestPerturbation,
    NoChange,
    Replicate,
    RidgeTransport,
)

__all__ = [
    "Additive",
    "ContextMean",
    "MeanFoldChange",
    "MeanShift",
    "NearestPerturbation",
    "NoChange",
    "PerturbationModel",
    "Replicate",
    "RidgeTransport",
]
