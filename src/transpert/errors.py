"""The errors and warnings of transpert.

Every error says what is wrong, where it was seen, and what to do about it. Each class also derives from
the built-in exception a caller would expect, so that ``except ValueError`` keeps working.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ._spelling import nearest_spelling

__all__ = [
    "AssumptionWarning",
    "BackedDataError",
    "CellError",
    "CheckpointError",
    "ConditionError",
    "ControlError",
    "CountsError",
    "DependencyError",
    "DownloadError",
    "GeneError",
    "GroupSizeError",
    "MetricInputError",
    "ModelFileError",
    "NotTrainedError",
    "OptionError",
    "ProcessError",
    "SplitError",
    "StoreError",
    "TrainingError",
    "TranspertError",
    "UnknownNameError",
    "UnknownOptionError",
]


# warnings name the line of the user that led to them, and no file below this folder
OURS = (str(Path(__file__).parent),)
# names of columns that scvi-tools and this package make for themselves; nobody means them
_PRIVATE = ("_scvi", "_transpert")


class AssumptionWarning(UserWarning):
    """Something was not said and therefore assumed; the message says what."""


class TranspertError(Exception):
    """Base class of all errors of transpert.

    Parameters
    ----------
    what
        What is wrong, as a sentence without its full stop.
    where
        The slot, file, gene or group in which it was seen.
    remedy
        What the user can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        message = what + (f" (in {where})" if where else "") + "."
        super().__init__(message + (f" {remedy}" if remedy else ""))

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class OptionError(TranspertError, ValueError):
    """An option is out of range."""


class CountsError(TranspertError, ValueError):
    """Values are not what they are said to be: counts, counts per 10k, or log1p of them."""


class ConditionError(TranspertError, ValueError):
    """A condition (perturbation, dose, time, context) cannot be read or is contradictory."""


class ControlError(TranspertError, ValueError):
    """Control cells are missing, or the control label does not exist."""


class GroupSizeError(TranspertError, ValueError):
    """A group of cells is too small for the computation."""


class GeneError(TranspertError, ValueError):
    """Genes are missing, duplicated, or cannot be aligned by name."""


class CellError(TranspertError, ValueError):
    """Cells cannot be told apart by name."""


class SplitError(TranspertError, ValueError):
    """A split is impossible, empty, or leaks."""


class MetricInputError(TranspertError, ValueError):
    """A metric was given arrays it is not defined on."""


class NotTrainedError(TranspertError, RuntimeError):
    """A model was asked for something that only a trained model has."""


class TrainingError(TranspertError, RuntimeError):
    """Training failed, for example because a loss is not finite."""


class ModelFileError(TranspertError, OSError):
    """A folder or file is not a saved model, or of another version."""


class ProcessError(TrainingError):
    """One of several processes that train together is gone, or does not answer."""


class CheckpointError(TranspertError, OSError):
    """A checkpoint of a training cannot be written, is damaged, or belongs to another training."""


class StoreError(TranspertError, OSError):
    """A store of cells on disk is damaged, incomplete or does not fit."""


class BackedDataError(TranspertError, ValueError):
    """A backed AnnData was given where cells are read in arbitrary order."""


class DownloadError(TranspertError, OSError):
    """A public data set could not be fetched or has another checksum."""


class DependencyError(TranspertError, ImportError):
    """An optional dependency is not installed."""


class UnknownNameError(TranspertError, KeyError):
    """A name (perturbation, context, gene, metric ...) is not known; the message offers what it may misspell.

    Parameters
    ----------
    kind
        What the name should have been, for example ``"perturbation"``.
    names
        The unknown names.
    known
        The names that would have been accepted; columns that scvi-tools and this package make for themselves are not
        offered.
    where
        The slot or argument in which the names were given.
    remedy
        What to do; defaults to the known name that is spelled nearly so, or a list.
    """

    def __init__(
        self,
        kind: str,
        names: Iterable[str],
        known: Iterable[str],
        *,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.kind, self.names = kind, tuple(map(str, names))
        self.known = tuple(name for name in map(str, known) if not name.startswith(_PRIVATE))
        if remedy is None:
            known_ones = f"Known: {list_names(self.known)}." if self.known else f"There is no {kind} to choose from."
            remedy = self._nearest() or known_ones
        super().__init__(f"unknown {kind}: {list_names(self.names)}", where=where, remedy=remedy)

    def _nearest(self) -> str:
        """Ask for the known names that are spelled nearly so; nothing where none is."""
        near = {name: close for name in self.names if (close := self._find(name, self.known)) is not None}
        if len(self.names) == 1 and near:
            return f"Did you mean {near[self.names[0]]!r}?"
        hints = [f"{name!r} may be {close!r}" for name, close in near.items()]
        return f"Did you mean: {list_names(hints, quote=False)}?" if hints else ""

    @staticmethod
    def _find(name: str, known: tuple[str, ...]) -> str | None:
        """Return the name of which another is a misspelling, and no other gene, drug or population."""
        return nearest_spelling(name, known)


class UnknownOptionError(UnknownNameError, TypeError):
    """A function has no option of this name; the message offers the nearest one."""

    @staticmethod
    def _find(name: str, known: tuple[str, ...]) -> str | None:
        """Return the nearest option, however far: there are few, and none can be taken for another gene."""
        return next(iter(get_close_matches(name, known, n=1, cutoff=0.5)), None)


def warn_user(text: str) -> None:
    """Report what was assumed, with the line of the user that led to it."""
    warnings.warn(text, AssumptionWarning, skip_file_prefixes=OURS)


def check_known(kind: str, names: Iterable[Any], known: Collection[Any], *, where: str | None = None) -> None:
    """Raise :class:`UnknownNameError` unless all names are known."""
    unknown = [name for name in names if name not in known]
    if unknown:
        offered = sorted(known) if isinstance(known, set | frozenset) else known
        raise UnknownNameError(kind, unknown, offered, where=where)


def list_names(names: Iterable[object], *, limit: int = 8, quote: bool = True) -> str:
    """Write names as a comma-separated list that stays readable when there are thousands.

    Parameters
    ----------
    names
        The names, written as text.
    limit
        How many are written out; of the others it is said how many there are.
    quote
        Put each in quotes.

    Returns
    -------
    The list as text.

    Examples
    --------
    >>> list_names(["B", "NK"])
    "'B', 'NK'"
    """
    names = list(names)
    shown = [repr(str(name)) if quote else str(name) for name in names[:limit]]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(shown) + more
