"""Who is whose control: the groups of (context, batch, condition) and the matching of controls to them."""

from .design import Design
from .matching import ControlMatching, match_controls
from .table import Groups, make_groups

__all__ = [
    "Design",
    "Groups",
    "make_groups",
    "match_controls",
]
