"""Models behind one interface: SCALE and the baselines."""

from .base import PerturbationModel
from .baselines import (
    BASELINES,
    Additive,
    ContextMean,
    KernelTransport,
    MeanFoldChange,
    MeanShift,
    NearestPerturbation,
    NoChange,
    Replicate,
    RidgeTransport,
)
from .options import PRESETS, JoiningOptions, ScaleOptions, TrainingOptions
from .profiling import TrainingProfile, profile_training
from .scale import SCALE
from .uncertainty import Uncertainty

__all__ = [
    "BASELINES",
    "PRESETS",
    "SCALE",
    "Additive",
    "ContextMean",
    "JoiningOptions",
    "KernelTransport",
    "MeanFoldChange",
    "MeanShift",
    "NearestPerturbation",
    "NoChange",
    "PerturbationModel",
    "Replicate",
    "RidgeTransport",
    "ScaleOptions",
    "TrainingOptions",
    "TrainingProfile",
    "Uncertainty",
    "profile_training",
]
