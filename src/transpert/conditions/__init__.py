"""What was done to a cell: perturbations and their combinations, doses, times, directions and embeddings."""

from .condition import Condition, parse_condition, parse_perturbation
from .embeddings.chemistry import fingerprints
from .embeddings.coexpression import coexpression, coexpression_of
from .embeddings.combine import as_embedding, combine
from .embeddings.embedding import Embedding
from .embeddings.gene_ontology import gene_ontology
from .vocabulary import PerturbationVocabulary

__all__ = [
    "Condition",
    "Embedding",
    "PerturbationVocabulary",
    "coexpression",
    "combine",
    "fingerprints",
    "gene_ontology",
    "parse_condition",
    "parse_perturbation",
]
