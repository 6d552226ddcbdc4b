"""Options of the anchor and of the read-out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from transpert.errors import OptionError, list_names

__all__ = ["AnchorOptions", "EffectSpace", "ReadoutOptions"]

EffectSpace = Literal["log_fold", "log1p"]


def _check_choice(name: str, value: object, choices: object) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise OptionError(f"{name} is {value!r}", remedy=f"Choose one of {list_names(allowed)}.")


def _check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    if not low <= value <= high:
        raise OptionError(f"{name} is {value}", remedy=f"Give a number from {low:g} to {high:g}.")


@dataclass(frozen=True, slots=True)
class ReadoutOptions:
    """How a predicted mean becomes cells.

    Parameters
    ----------
    kind
        ``"counts"`` draws integers, ``"expected"`` gives smooth rates.
    tolerance
        Genes whose mean log1p is to change by no more than this are not touched.
    """

    kind: Literal["counts", "expected"] = "counts"
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, Literal["counts", "expected"])
        _check_range("tolerance", self.tolerance, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make options from what :meth:`to_dict` returned."""
        return cls(**values)


@dataclass(frozen=True, slots=True)
class AnchorOptions:
    """How the closed-form anchor predicts the mean effect of a condition in a context.

    Parameters
    ----------
    kind
        ``"ridge"`` predicts how an effect depends on the context from the control profile of the context; ``"mean"``
        takes the same effect everywhere.
    spaces
        Spaces of effects that are stacked, with weights from left-out groups.
    pseudo_rate
        Counts per 10k that are added before taking a log fold change.
    n_components
        Principal components of the control profiles that the ridge sees.
    penalties
        Ridge penalties to choose from, by leaving one context out.
    shrinkage
        How strongly predicted effects are shrunk by their sampling error; 0 means not at all.
    """

    kind: Literal["ridge", "mean"] = "ridge"
    spaces: tuple[EffectSpace, ...] = ("log_fold", "log1p")
    pseudo_rate: float = 0.02
    n_components: int = 8
    penalties: tuple[float, ...] = (0.05, 0.15, 0.5)
    shrinkage: float = 1.0

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, Literal["ridge", "mean"])
        object.__setattr__(self, "spaces", tuple(self.spaces))
        object.__setattr__(self, "penalties", tuple(self.penalties))
        if not self.spaces or not self.penalties:
            raise OptionError("spaces and penalties need at least one value each", where="AnchorOptions")
        for space in self.spaces:
            _check_choice("spaces", space, EffectSpace)
        _check_range("pseudo_rate", self.pseudo_rate, 1e-4, 100)
        _check_range("n_components", self.n_components, 1)
        _check_range("shrinkage", self.shrinkage, 0)
        for penalty in self.penalties:
            _check_range("penalties", penalty, 1e-6)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return {**asdict(self), "spaces": list(self.spaces), "penalties": list(self.penalties)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make options from what :meth:`to_dict` returned."""
        return cls(**values)
