"""Simple predictors behind the same five verbs as SCALE: the floor, the anchor and the ceiling."""

from .closed_form import (
    Additive,
    ContextMean,
    KernelTransport,
    MeanFoldChange,
    MeanShift,
    NearestPerturbation,
    RidgeTransport,
)
from .reference import NoChange, Replicate

BASELINES = {
    cls.__name__: cls
    for cls in (
        NoChange,
        MeanShift,
        ContextMean,
        MeanFoldChange,
        Additive,
        NearestPerturbation,
        RidgeTransport,
        KernelTransport,
    )
}

__all__ = [
    "BASELINES",
    "Additive",
    "ContextMean",
    "KernelTransport",
    "MeanFoldChange",
    "MeanShift",
    "NearestPerturbation",
    "NoChange",
    "Replicate",
    "RidgeTransport",
]
