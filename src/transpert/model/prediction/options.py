"""Rarely used options of a prediction, in memory and into a store."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from transpert._arguments import check_arguments, named_options
from transpert.errors import OptionError

from .unseen import Unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionOptions:
    """How cells are predicted; see :meth:`~transpert.model.PerturbationModel.predict`."""

    readout: str | None = None
    include_controls: bool = True
    max_missing_genes: float = 0.0
    unseen: Unseen = "error"

    def __post_init__(self) -> None:
        check_arguments(asdict(self))


@named_options()
@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions(PredictionOptions):
    """How a prediction is divided; see :meth:`~transpert.model.PerturbationModel.predict_to_store`."""

    cells_per_part: int | None = None
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        check_arguments(asdict(self))
        if self.rank >= self.world_size:
            raise OptionError(
                f"rank is {self.rank} of {self.world_size}",
                where="predict_to_store",
                remedy="Count processes from 0 to one less than world_size.",
            )
