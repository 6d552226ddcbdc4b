"""Rarely used options of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from transpert._arguments import check_names, check_whole, named_options, refused
from transpert._signatures import check_fields
from transpert.conditions import Embedding
from transpert.errors import OptionError

type Choice = Literal["random", "farthest", "inside", "outside"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "context": ("random", "farthest"),
    "dose": ("random", "inside", "outside"),
    "time": ("random", "inside", "outside"),
}
_PER_CLUSTER = 5  # perturbations, where nobody says how many clusters there are


@named_options()
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SplitOptions:
    """Rarely used options of :func:`transpert.pp.split`, which says what they mean."""

    choice: Choice = "random"
    seen_parts: int = 2
    known_perturbations: int = 0
    pathways: Mapping[str, Sequence[str]] | None = None
    vectors: Embedding | pd.DataFrame | None = None
    n_clusters: int | None = None
    batch_key: str | None = None
    dose_key: str | None = None
    time_key: str | None = None
    on_leak: Literal["report", "refuse"] = "report"

    def __post_init__(self) -> None:
        check_fields(self)
        check_whole(self.seen_parts, name="seen_parts", most=2)
        check_whole(self.known_perturbations, name="known_perturbations")
        check_whole(self.n_clusters, name="n_clusters", least=2, optional=True)
        for name, members in (self.pathways or {}).items():
            check_names(members, name=f"pathways[{name!r}]")

    def check_level(self, level: str | None) -> None:
        """Refuse options that mean nothing at a level."""
        allowed = _CHOICES.get(str(level), ("random",))
        if self.choice not in allowed:
            raise refused("choice", self.choice, f"With by={level!r} choose one of {', '.join(allowed)}.")
        misplaced = {
            "seen_parts": (self.seen_parts != 2, "combination"),
            "known_perturbations": (bool(self.known_perturbations), "context"),
            "pathways": (self.pathways is not None, "perturbation"),
            "vectors": (self.vectors is not None, "perturbation"),
        }
        for name, (given, needed) in misplaced.items():
            if given and level != needed and not (needed == "perturbation" and level == "both"):
                raise OptionError(
                    f"{name} means nothing with by={level!r}", remedy=f"Pass by={needed!r}, or leave it out."
                )
        for name in ("batch", "dose", "time"):
            if level == name and getattr(self, f"{name}_key") is None:
                raise OptionError(f"by={name!r} needs {name}_key", remedy=f"Name the column of obs: {name}_key='...'.")
        if self.pathways is not None and self.vectors is not None:
            raise OptionError("there are pathways and vectors", remedy="Give one of them.")

    def sets(self, perturbations: Sequence[str]) -> dict[str, list[str]] | None:
        """Return the sets of perturbations that are held out whole: pathways, or clusters of vectors."""
        if self.pathways is not None:
            known = set(perturbations)
            return {name: [member for member in members if member in known] for name, members in self.pathways.items()}
        return None if self.vectors is None else self._clusters(self.vectors, perturbations)

    def _clusters(self, vectors: Embedding | pd.DataFrame, perturbations: Sequence[str]) -> dict[str, list[str]]:
        """Cluster perturbations by their vectors, with Ward's method."""
        table = vectors if isinstance(vectors, Embedding) else Embedding.from_frame(vectors)
        names = sorted(perturbations)
        table.require(names, where="vectors")
        number = self.n_clusters or max(2, round(len(names) / _PER_CLUSTER))
        if len(names) < 2:
            return {"cluster 1": names}
        codes = fcluster(linkage(np.asarray(table.lookup(names), dtype=float), "ward"), number, "maxclust")
        return {f"cluster {code}": [names[i] for i in np.flatnonzero(codes == code)] for code in np.unique(codes)}

    def to_dict(self, perturbations: Sequence[str]) -> dict[str, Any]:
        """Return the options as plain data, clusters as the sets that they came to."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        sets = self.sets(perturbations)
        return {**plain, "pathways": sets, "vectors": None, "n_clusters": None}
