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
from .profiling import TrainingProfile, profile_training
from .scale.model import SCALE
from .scale.options import PRESETS, JoiningOptions, ScaleOptions, TrainingOptions
from .uncertainty.intervals import Uncertainty

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
    "TrainingOptions",
    "profile_training",
]
