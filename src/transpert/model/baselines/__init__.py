"""Simple predictors behind the same five verbs as SCALE: the floor, the anchor and the ceiling."""

import sys

from .additive import Additive
from .anchors import KernelTransport, RidgeTransport
from .context_mean import ContextMean
from .mean_fold_change import MeanFoldChange
from .mean_shift import MeanShift
from .nearest import NearestPerturbation
from .reference import NoChange, Replicate
from .registry import find_baselines

BASELINES = find_baselines(sys.modules[__name__])
