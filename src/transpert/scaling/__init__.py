"""How much there is to learn, and how much of it so many cells teach: shares of effects, subsets, curves."""

from .curves import ScalingCurve, fit_curve, published_saturation
from .diversity import gini_simpson, shannon, vendi
from .shares import COMPONENTS, Energies, HalvedEffects, effect_energies
from .subsets import balanced_order, sketch_order, spiked_order

__all__ = [
    "COMPONENTS",
    "Energies",
    "HalvedEffects",
    "ScalingCurve",
    "balanced_order",
    "effect_energies",
    "fit_curve",
    "gini_simpson",
    "published_saturation",
    "shannon",
    "sketch_order",
    "spiked_order",
    "vendi",
]
