"""How much there is to learn, and how much of it so many cells teach: shares of effects, subsets, curves."""

from .shares import COMPONENTS, Energies, HalvedEffects, effect_energies

__all__ = ["COMPONENTS", "Energies", "HalvedEffects", "effect_energies"]
