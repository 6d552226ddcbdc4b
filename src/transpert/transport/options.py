"""Options of the anchor and of the read-out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal, Self

from transpert._arguments import check_choice, check_number, named_options
from transpert._schema import DAMAGED, checked
from transpert._signatures import check_fields
from transpert.errors import ModelFileError, OptionError

from .dependence import Dependence

EffectSpace = Literal["log_fold", "log1p"]
# numbers of components and penalties that are tried, by kind of anchor
_TRIED: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "kernel": ((2, 4, 8), (0.02, 0.1, 0.4)),
    "ridge": ((8,), (0.05, 0.15, 0.5)),
}


@named_options()
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
        check_fields(self)
        check_choice(self.kind, Literal["counts", "expected"], name="kind")
        check_number(self.tolerance, name="tolerance", least=0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return asdict(self)


@named_options()
@dataclass(frozen=True, slots=True)
class AnchorOptions:
    """How the closed-form anchor predicts the mean effect of a condition in a context.

    Parameters
    ----------
    kind
        How an effect depends on the control profile of the context: ``"kernel"``, contexts whose controls are alike
        answer alike; ``"ridge"``, linearly; ``"mean"``, not at all.
    spaces
        Spaces of effects that are stacked, with weights from left-out groups.
    pseudo_rate
        Counts per 10k that are added before taking a log fold change.
    n_components
        Numbers of principal components of the control profiles to choose from, by leaving one context out; by default
        2, 4 and 8 for a kernel, 8 for a ridge.
    penalties
        Penalties to choose from, likewise; by default .02, .1 and .4 for a kernel, .05, .15 and .5 for a ridge.
    widths
        Widths of the kernel to choose from, likewise, relative to the median distance of two contexts; a wide one is
        all but linear.
    shrinkage
        How strongly predicted effects are shrunk by their sampling error; 0 means not at all.
    """

    kind: Literal["kernel", "ridge", "mean"] = "kernel"
    spaces: tuple[EffectSpace, ...] = ("log_fold", "log1p")
    pseudo_rate: float = 0.02
    n_components: tuple[int, ...] | None = None
    penalties: tuple[float, ...] | None = None
    widths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    shrinkage: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice(self.kind, Literal["kernel", "ridge", "mean"], name="kind")
        for name, lowest in (("spaces", None), ("n_components", 1), ("penalties", 1e-6), ("widths", 1e-3)):
            values = getattr(self, name)
            if values is None and name in ("n_components", "penalties"):
                continue  # those of the kind, which may yet be replaced by another
            object.__setattr__(self, name, tuple(values))
            if not getattr(self, name):
                raise OptionError(
                    f"{name} needs at least one value",
                    where="AnchorOptions",
                    remedy="Give a tuple with one value or more.",
                )
            for value in values:
                if lowest is None:
                    check_choice(value, EffectSpace, name=name)
                else:
                    check_number(value, name=name, least=lowest)
        check_number(self.pseudo_rate, name="pseudo_rate", least=1e-4, most=100)
        check_number(self.shrinkage, name="shrinkage", least=0)

    def dependences(self) -> list[Dependence]:
        """Return the dependences on the context to choose from; none for ``"mean"``."""
        if self.kind == "mean":
            return []
        n_components, penalties = _TRIED[self.kind]
        widths = self.widths if self.kind == "kernel" else (None,)
        tried = product(self.n_components or n_components, self.penalties or penalties, widths)
        return [Dependence(n, penalty, width) for n, penalty, width in tried]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make options from what :meth:`to_dict` returned."""
        return checked(values, cls, ModelFileError, cls.__name__, DAMAGED)
