"""Data: an embedded real set, loaders of public ones, and a simulator with known truth."""

from .kang import kang18
from .public import PUBLIC_SETS, PublicSet, kang18_full, norman19, papalexi21, read_public, replogle22, sciplex3
from .simulation import SimulationOptions, simulate, true_effects

__all__ = [
    "PUBLIC_SETS",
    "kang18",
    "kang18_full",
    "norman19",
    "papalexi21",
    "read_public",
    "replogle22",
    "sciplex3",
    "simulate",
    "true_effects",
]
