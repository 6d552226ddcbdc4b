"""Random numbers that belong to sets, so that it does not matter which process holds which set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SetDraws:
    """The random numbers of some of the sets of a step.

    Numbers are drawn for all sets of the step, and the rows of the sets at hand are taken. A set therefore meets the
    same numbers whether the step is computed at once, in several batches, or by several processes.

    Parameters
    ----------
    generator
        Source of the numbers of the whole step.
    n_sets
        Sets in the step.
    rows : (S,)
        The number of each set at hand within the step.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import SetDraws
    >>> from transpert.nn.draws import draw_uniform
    >>> like = torch.zeros(())
    >>> whole = draw_uniform((4,), torch.Generator().manual_seed(0), like)
    >>> part = draw_uniform((2,), SetDraws(torch.Generator().manual_seed(0), 4, torch.tensor([1, 3])), like)
    >>> torch.equal(part, whole[[1, 3]])
    True
    """

    generator: torch.Generator
    n_sets: int
    rows: Tensor


type DrawSource = torch.Generator | SetDraws | None


def draw_uniform(shape: tuple[int, ...], source: DrawSource, like: Tensor) -> Tensor:
    """Draw from [0, 1) for sets, ``shape`` = ``(S, ...)``, on the device of ``like``, at least in single precision."""
    return _draw(torch.rand, shape, source, like)


def draw_normal(shape: tuple[int, ...], source: DrawSource, like: Tensor) -> Tensor:
    """Draw from the standard normal distribution for sets, as :func:`draw_uniform`."""
    return _draw(torch.randn, shape, source, like)


def _draw(kind: Callable[..., Tensor], shape: tuple[int, ...], source: DrawSource, like: Tensor) -> Tensor:
    # half precision knows too few numbers between 0 and 1
    dtype = torch.promote_types(like.dtype, torch.float32) if like.is_floating_point() else torch.float32
    options = {"device": like.device, "dtype": dtype}
    if isinstance(source, SetDraws):
        return kind((source.n_sets, *shape[1:]), generator=source.generator, **options)[source.rows]
    return kind(shape, generator=source, **options)
