"""What was done to a cell: perturbations and their combinations, doses, times, directions and embeddings."""

from .chemistry import fingerprints
from .condition import CONTROL_CONDITION, Condition, parse_condition, parse_perturbation
from .embedding import Embedding
from .expression import coexpression, coexpression_of
from .ontology import gene_ontology
from .tables import as_embedding, combine
from .vocabulary import PerturbationVocabulary

__all__ = [
    "CONTROL_CONDITION",
    "Condition",
    "Embedding",
    "PerturbationVocabulary",
    "as_embedding",
    "coexpression",
    "coexpression_of",
    "combine",
    "fingerprints",
    "gene_ontology",
    "parse_condition",
    "parse_perturbation",
]
