"""Simple predictors behind the same five verbs as SCALE: the floor, the anchor and the ceiling."""

from .closed_form import Additive, ContextMean, MeanFoldChange, MeanShift, NearestPerturbation, RidgeTransport
from .reference import NoChange, Replicate

__all__ = [
    "Additive",
    "ContextMean",
    "MeanFoldChange",
    "MeanShift",
    "NearestPerturbation",
    "NoChange",
    "Replicate",
    "RidgeTransport",
]
