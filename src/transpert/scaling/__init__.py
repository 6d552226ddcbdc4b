"""How much there is to learn, and how much of it so many cells teach: shares of effects, subsets, curves."""

from .curves import ScalingCurve, fit_curve, published_saturation
from .diversity import gini_simpson, shannon, vendi
from .ranking import approach_scores, gene_set_scores, retrieval, signature_scores
from .shares import COMPONENTS, Energies, HalvedEffects, effect_energies
from .subsets import balanced_order, sketch_order, spiked_order
from .suggestion import Similarity, choose_next, fit_similarity

__all__ = [
    "ScalingCurve",
    "effect_energies",
    "fit_curve",
    "published_saturation",
    "retrieval",
    "vendi",
]
