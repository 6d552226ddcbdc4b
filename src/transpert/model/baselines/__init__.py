"""Simple predictors behind the same five verbs as SCALE: the floor, the anchor and the ceiling."""

from .closed_form import Additive, ContextMean, MeanFoldChange, MeanShift, NearestPerturbation, RidgeTransport
from .reference import NoChange, Replicate

BASELINES = {
    cls.__name__: cls
    for cls in (NoChange, MeanShift, ContextMean, MeanFoldChange, Additive, NearestPerturbation, RidgeTransport)
}

__all__ = [
    "BASELINES",
    "Additive",
    "ContextMean",
    "MeanFoldChange",
    "MeanShift",
    "NearestPerturbation",
    "NoChange",
    "Replicate",
    "RidgeTransport",
]
