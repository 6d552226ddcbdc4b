"""Decoded cells beside true ones: either all genes are written out, or the inner products of the cells are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .decoder import CellDecoder
from .losses import energy_distance, energy_of_distances, gaussian_mmd, root_of_squares

# with so many genes for each unit of the layer before them, products of units cost less than genes
_GENES_PER_UNIT = 4


class Comparison(Protocol):
    """What the losses ask about decoded cells, standardised, and the control (0) and perturbed (1) cells of a batch.

    ``decode`` maps each of several latent states ``(S, N, d)`` to whatever the other methods take.
    """

    def decode(self, *latent: Tensor) -> Sequence[Any]:
        """Decode several populations at once."""

    def squared_error(self, decoded: Any, population: int, partners: Tensor | None = None) -> Tensor:
        """Mean squared difference from the cells of a population, or from the ones of them numbered ``(S, N)``."""

    def energy(self, decoded: Any, population: int) -> Tensor:
        """Energy distance from a population, ``(S,)``."""

    def mmd(self, decoded: Any, population: int) -> Tensor:
        """Maximum mean discrepancy from a population, ``(S,)``."""

    def mean_change(self, before: Any, after: Any) -> Tensor:
        """Change of the mean of decoded cells minus that of the true ones, ``(S, G)``."""


def compare_decoded(decoder: CellDecoder, true: Sequence[Tensor], *, kernels: bool) -> Comparison:
    """Return the cheaper way to compare with control and perturbed cells, standardised."""
    narrow = _GENES_PER_UNIT * decoder.last.in_features <= decoder.last.out_features
    # products of half precision would leave nothing of the difference of two cells
    single = not torch.is_autocast_enabled(true[0].device.type)
    return InnerProducts(decoder, true) if narrow and single and not kernels else WrittenCells(decoder, true)


class WrittenCells:
    """Decode every gene of every cell."""

    def __init__(self, decoder: CellDecoder, true: Sequence[Tensor]) -> None:
        self._decoder, self._true = decoder, true

    def decode(self, *latent: Tensor) -> Sequence[Tensor]:
        """Return all genes, ``(S, N, G)``, standardised."""
        return self._decoder.standardised(torch.cat(latent)).chunk(len(latent))

    def squared_error(self, decoded: Tensor, population: int, partners: Tensor | None = None) -> Tensor:
        """As :class:`Comparison` says."""
        true = self._true[population]
        if partners is not None:
            true = true.gather(1, partners[..., None].expand_as(true))
        return functional.mse_loss(decoded, true)

    def energy(self, decoded: Tensor, population: int) -> Tensor:
        """As :class:`Comparison` says."""
        return energy_distance(decoded, self._true[population])

    def mmd(self, decoded: Tensor, population: int) -> Tensor:
        """As :class:`Comparison` says."""
        return gaussian_mmd(decoded, self._true[population])

    def mean_change(self, before: Tensor, after: Tensor) -> Tensor:
        """As :class:`Comparison` says."""
        first, last, *true = (cells.mean(dim=1) for cells in (before, after, *self._true))
        return (last - first) - (true[1] - true[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Products:
    """Decoded cells as the units before the genes, with what they give."""

    units: Tensor
    images: Tensor
    squares: Tensor


class _Gram(torch.autograd.Function):
    """Inner products of the columns of a matrix, whose symmetry halves the backward pass."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(matrix)
        return matrix.T @ matrix

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (matrix,) = ctx.saved_tensors
        return matrix @ (gradient + gradient.T)


class InnerProducts:
    r"""Compare by inner products of cells, without decoding a gene.

    With weights ``W`` of the last layer, a decoded cell ``W h`` and a true one ``y`` have the squared distance
    :math:`h^T (W^T W) h - 2 h^T (W^T y) + y^T y`. The losses are functions of such distances, so that the last layer
    is needed once a true cell instead of four times a pair, and the backward pass saves as much.
    """

    def __init__(self, decoder: CellDecoder, true: Sequence[Tensor]) -> None:
        self._decoder, self._true = decoder, true
        self._weight = torch.cat([decoder.last.weight, decoder.last.bias[:, None]], dim=1)
        self._gram = _Gram.apply(self._weight)
        self._projected = tuple(cells @ self._weight for cells in true)
        self._squares = tuple(cells.square().sum(dim=-1) for cells in true)

    def decode(self, *latent: Tensor) -> Sequence[_Products]:
        """Return what is needed of the cells."""
        units = functional.pad(self._decoder.units(torch.cat(latent)), (0, 1), value=1.0)
        images = units @ self._gram
        squares = (units * images).sum(dim=-1)
        parts = (values.chunk(len(latent)) for values in (units, images, squares))
        return [_Products(*of_one) for of_one in zip(*parts, strict=True)]

    def squared_error(self, decoded: _Products, population: int, partners: Tensor | None = None) -> Tensor:
        """As :class:`Comparison` says."""
        projected, squares = self._projected[population], self._squares[population]
        if partners is not None:
            projected = projected.gather(1, partners[..., None].expand_as(projected))
            squares = squares.gather(1, partners)
        errors = decoded.squares - 2 * (decoded.units * projected).sum(dim=-1) + squares
        return errors.mean() / len(self._weight)

    def energy(self, decoded: _Products, population: int) -> Tensor:
        """As :class:`Comparison` says."""
        true, squares = self._true[population], self._squares[population]
        between = decoded.units @ self._projected[population].transpose(-1, -2)
        within = decoded.images @ decoded.units.transpose(-1, -2)
        return energy_of_distances(
            root_of_squares(decoded.squares, squares, between),
            root_of_squares(decoded.squares, decoded.squares, within),
            root_of_squares(squares, squares, true @ true.transpose(-1, -2)),
        )

    def mmd(self, decoded: _Products, population: int) -> Tensor:
        """As :class:`Comparison` says."""
        cells = decoded.units @ self._weight.T
        return gaussian_mmd(cells, self._true[population])

    def mean_change(self, before: _Products, after: _Products) -> Tensor:
        """As :class:`Comparison` says."""
        first, last = (cells.units.mean(dim=1) for cells in (before, after))
        start, end = (cells.mean(dim=1) for cells in self._true)
        return (last - first) @ self._weight.T - (end - start)
