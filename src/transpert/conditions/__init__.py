"""What was done to a cell: perturbations and their combinations, doses and times."""

from .condition import CONTROL_CONDITION, Condition, parse_condition, parse_perturbation
from .vocabulary import PerturbationVocabulary

__all__ = ["CONTROL_CONDITION", "Condition", "PerturbationVocabulary", "parse_condition", "parse_perturbation"]
