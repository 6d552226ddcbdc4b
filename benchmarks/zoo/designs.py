"""What a screen of the zoo looks like: drawn from its number, over ranges wider than any data set that was tuned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Source = Literal["simulated", "profiles", "kang", "papalexi", "norman"]
Novelty = Literal["context", "pair", "perturbation", "combination", "dose"]
Half = Literal["chosen", "unseen"]

N_SCREENS = 360
# every kind as often as it stands here, and evenly in both halves
KINDS = (
    *["context, 2 to 5"] * 3,
    *["context, 6 to 12"] * 2,
    "context, 13 to 40",
    *["pair"] * 2,
    "unseen perturbation",
    "combination",
    "dose",
    "no effect",
    *["Kang, cell types"] * 2,
    "Kang, donors",
    "Papalexi, replicates",
    "Papalexi, genes",
    "Norman and McFaline",
)
REAL: dict[str, tuple[Source, Novelty]] = {
    "Kang, cell types": ("kang", "context"),
    "Kang, donors": ("kang", "context"),
    "Papalexi, replicates": ("papalexi", "pair"),
    "Papalexi, genes": ("papalexi", "perturbation"),
    "Norman and McFaline": ("norman", "pair"),
}
# contexts and perturbations of each kind, smallest and largest
_CONTEXTS = {"context, 2 to 5": (2, 5), "context, 6 to 12": (6, 12), "context, 13 to 40": (13, 40), "pair": (2, 12)}
_PERTURBATIONS = {"pair": (3, 24), "unseen perturbation": (8, 200), "combination": (4, 10), "dose": (1, 6)}
_NOVELTIES: dict[str, Novelty] = {
    "pair": "pair",
    "unseen perturbation": "perturbation",
    "combination": "combination",
    "dose": "dose",
}
# more cells than this in a screen tell no more, and take long
_MOST_CELLS = 10_000


@dataclass(frozen=True, slots=True)
class Design:
    """One screen.

    Parameters
    ----------
    number
        Its number in the zoo, and the seed of everything in it.
    kind
        Kind of design; regret is reported by it.
    source
        Where the cells come from: ``"simulated"``, ``"profiles"`` (simulated on real control profiles), or a data set.
    novelty
        What about the populations to predict was never measured.
    n_contexts
        Contexts with perturbed training cells.
    n_perturbations, n_genes
        Sizes.
    n_cells
        Median number of cells in a training group.
    unequal
        Standard deviation of its logarithm over groups.
    depth
        Library sizes of treated cells relative to those of controls.
    n_batches, batch_effect
        Batches, and the standard deviation of their log rates.
    effect, moved
        Standard deviation of the log fold change of a gene that moves, and the share of genes that do.
    shared
        Share of the variance of an effect that is the same in all contexts.
    follows
        Share of the rest that follows the programmes of the control cells; what is left is private to a context.
    linear
        Whether it follows them linearly.
    induced
        Share of the rising genes that are induced to a level of their own, whatever they were at.
    systematic
        Size of what all perturbations do alike, relative to ``effect``.
    embedding
        Whether embeddings are given, and tell anything.
    interaction
        Size of what a pair does beyond the sum of its parts, relative to the sum.
    """

    number: int
    kind: str
    source: Source
    novelty: Novelty
    n_contexts: int
    n_perturbations: int
    n_genes: int
    n_cells: int
    unequal: float
    depth: float
    n_batches: int
    batch_effect: float
    effect: float
    moved: float
    shared: float
    follows: float
    linear: bool
    induced: float
    systematic: float
    embedding: Literal["none", "telling", "useless"]
    interaction: float

    @property
    def half(self) -> Half:
        """Defaults are chosen on even numbers; odd ones are looked at once, at the end."""
        return "unseen" if self.number % 2 else "chosen"


def design(number: int) -> Design:
    """Draw a screen of the zoo.

    Examples
    --------
    >>> design(0) == design(0), design(0).half, design(1).half
    (True, 'chosen', 'unseen')
    """
    rng = np.random.default_rng([17, number])
    kind = KINDS[(number // 2) % len(KINDS)]
    source, novelty = REAL.get(kind, (("simulated", "profiles")[(number // 2) // len(KINDS) % 2], None))
    novelty = novelty or _NOVELTIES.get(kind, "context")
    few = 0.3 < rng.random()
    n_contexts = _between(rng, *_CONTEXTS.get(kind, (1, 6) if novelty != "context" else (2, 8)))
    n_perturbations = _between(rng, *_PERTURBATIONS.get(kind, (1, 4) if few else (4, 16)), geometric=True)
    n_genes = _between(rng, 300, 2_000 if source == "profiles" else 5_000, geometric=True)
    # a tenth of the screens is as large as any; the others stay where three hundred of them take minutes
    n_genes = n_genes if rng.random() < 0.1 else min(n_genes, 1_000)
    wanted = _between(rng, 10, 400, geometric=True)
    n_groups = (n_contexts + 1) * (n_perturbations + 2)
    nothing = kind == "no effect"
    return Design(
        number=number,
        kind=kind,
        source=source,
        novelty=novelty,
        n_contexts=n_contexts,
        n_perturbations=n_perturbations,
        n_genes=n_genes,
        n_cells=int(np.clip(wanted, 10, max(_MOST_CELLS // n_groups, 10))),
        unequal=float(rng.uniform(0, 0.8)),
        depth=float(np.exp(rng.uniform(-0.5, 0.5))) if rng.random() < 0.4 else 1.0,
        n_batches=int(rng.integers(2, 4)) if rng.random() < 0.3 else 1,
        batch_effect=float(rng.uniform(0.05, 0.3)),
        effect=0.0 if nothing else float(np.exp(rng.uniform(np.log(0.2), np.log(1.5)))),
        moved=float(np.exp(rng.uniform(np.log(0.01), np.log(0.4)))),
        shared=float(rng.uniform(0.1, 1.0)),
        follows=float(rng.uniform(0.0, 1.0)),
        linear=bool(rng.random() < 0.5),
        induced=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.4 else 0.0,
        systematic=float(rng.uniform(0.0, 1.5)) if rng.random() < 0.5 else 0.0,
        embedding=("telling", "useless")[int(rng.random() < 0.3)] if novelty == "perturbation" else "none",
        interaction=float(rng.uniform(-0.5, 0.5)) if rng.random() < 0.5 else 0.0,
    )


def _between(rng: np.random.Generator, low: int, high: int, *, geometric: bool = False) -> int:
    """A whole number between two others, both included."""
    if geometric:
        return int(np.clip(np.floor(np.exp(rng.uniform(np.log(low), np.log(high + 1)))), low, high))
    return int(rng.integers(low, high + 1))
