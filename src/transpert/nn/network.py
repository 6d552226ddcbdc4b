"""The whole network: cells in, transported cells out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transpert.errors import OptionError

from .batch import ConditionBatch, NetworkSizes, SetBatch, Transported
from .comparison import Comparison, compare_decoded
from .conditions import ConditionEncoder, EncodedCondition
from .coupling import couple
from .decoder import CellDecoder
from .draws import DrawSource, draw_uniform
from .encoders import CellEncoder
from .flow import FlowField, endpoint_of, interpolate, start_of_path, velocity_of
from .options import NetworkOptions
from .sets import SetEncoder

# velocities of endpoints are not compared closer to the end of the path than this (Li and He, arXiv 2511.13720)
_CLOSEST_IN_LOSS = 0.05


class TransportNetwork(nn.Module):
    """Set-aware, endpoint-supervised conditional flow matching (SCALE; Chen et al. 2026, arXiv 2603.17380).

    Parameters
    ----------
    sizes
        Sizes that the data gives.
    options
        Options of all parts.
    perturbation_table : (n_perturbations, E)
        Fixed embeddings of the perturbations, row 0 zero; learned ones if ``None``.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import EncoderOptions, FlowOptions, NetworkOptions, NetworkSizes, TransportNetwork
    >>> options = NetworkOptions(EncoderOptions("mlp", width=16), flow=FlowOptions(depth=1))
    >>> network = TransportNetwork(NetworkSizes(n_inputs=5, n_genes=5, n_perturbations=3), options)
    >>> network.encode(torch.rand(2, 4, 5)).shape
    torch.Size([2, 4, 16])
    """

    input_mean: Tensor
    input_scale: Tensor
    gene_mean: Tensor
    gene_scale: Tensor

    def __init__(self, sizes: NetworkSizes, options: NetworkOptions, perturbation_table: Tensor | None = None) -> None:
        super().__init__()
        self.sizes, self.options = sizes, options
        width = options.encoder.width
        self.cells = CellEncoder(sizes.n_inputs, options.encoder)
        self.sets = SetEncoder(width, options.sets)
        self.conditions = ConditionEncoder(sizes, width, options.conditions, perturbation_table)
        self.field = FlowField(width, options.flow, options.conditions)
        self.decoder = CellDecoder(width, sizes.n_genes, options.decoder)
        self.register_buffer("input_mean", torch.zeros(sizes.n_inputs))
        self.register_buffer("input_scale", torch.ones(sizes.n_inputs))
        self.register_buffer("gene_mean", torch.zeros(sizes.n_genes))
        self.register_buffer("gene_scale", torch.ones(sizes.n_genes))
        self.reads_standardised = False

    @torch.no_grad()
    def set_statistics(self, inputs: tuple[Tensor, Tensor], genes: tuple[Tensor, Tensor]) -> None:
        """Store mean and standard deviation of the inputs and of the genes, as seen in the training cells."""
        constant = self.options.encoder.input_scale
        if constant is None:
            self.input_mean.copy_(inputs[0])
            self.input_scale.copy_(1 / inputs[1].clamp_min(0.05))
        else:
            self.input_scale.fill_(constant)
        self.gene_mean.copy_(genes[0])
        self.gene_scale.copy_(genes[1].clamp_min(0.05))
        # cells are then read as they are compared
        self.reads_standardised = constant is None and all(map(torch.equal, inputs, genes))

    # --- cells to latent states and back --------------------------------------------------------------------

    def encode(self, states: Tensor) -> Tensor:
        """Map cells ``(S, N, n_inputs)`` to latent states ``(S, N, d)``, which know their set."""
        return self.sets(self.encode_cells(states))

    def decode(self, latent: Tensor) -> Tensor:
        """Map latent states ``(..., d)`` to log1p counts per 10k ``(..., G)``."""
        return self.decoder(latent, self.gene_mean, self.gene_scale)

    # --- prediction -----------------------------------------------------------------------------------------

    def transport(
        self,
        states: Tensor,
        condition: ConditionBatch,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Transported:
        """Move control cells to where a condition takes them.

        Parameters
        ----------
        states : (S, N, n_inputs)
            Control cells.
        condition
            What is done to each set.
        steps
            Euler steps; those of the options by default.
        generator
            Source of the noise where the path starts in noise.

        Returns
        -------
        Latent states and decoded cells before and after. Where nothing is done they are the same.

        Raises
        ------
        transpert.errors.OptionError
            If ``steps`` is below 1.
        """
        if steps is not None and steps < 1:
            raise OptionError(f"steps is {steps}", remedy="Give a whole number of at least 1.")
        z0 = self.encode(states)
        z1 = self._move(z0, self._start(z0, generator), self._encode_condition(condition, generator), steps)
        return Transported(z0, z1, self.decode(z0), self.decode(z1))

    def encode_cells(self, states: Tensor) -> Tensor:
        """Map cells ``(..., n_inputs)`` to ``(..., d)``, every cell on its own: what does not depend on its set."""
        return self.cells((states - self.input_mean) * self.input_scale)

    def shift(
        self,
        cells: Tensor,
        condition: ConditionBatch,
        *,
        each_cell: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the change of every decoded cell ``(S, N, G)``, and its latent state after, ``(S, N, d)``.

        Like :meth:`transport`, for cells ``(S, N, d)`` that :meth:`encode_cells` has encoded, so that several
        conditions can share them; decodes only the change. Without ``each_cell`` it returns the mean change of all
        cells, ``(G,)``, which costs much less.
        """
        z0 = self.sets(cells)
        z1 = self._move(z0, self._start(z0, generator), self._encode_condition(condition, generator))
        if each_cell:
            return self.decoder.difference(z0, z1, self.gene_scale), z1
        return self.decoder.mean_difference(z0, z1[:, None], self.gene_scale)[0], z1

    def mean_shifts(
        self, cells: Tensor, conditions: ConditionBatch, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the mean change of the same cells under each of ``K`` conditions, ``(K, G)``.

        As :meth:`shift` without ``each_cell`` gives it for one after the other, at a fraction of the time: the sets are
        summarised once, and all conditions move them at once.
        """
        z0, n = self.sets(cells), len(conditions.batch)
        start = self._start(z0, generator)
        encoded = self._encode_condition(conditions, generator).repeated(len(z0))
        z1 = self._move(z0.repeat_interleave(n, dim=0), start.repeat_interleave(n, dim=0), encoded)
        return self.decoder.mean_difference(z0, z1.unflatten(0, (len(z0), n)), self.gene_scale)

    def _start(self, z0: Tensor, generator: torch.Generator | None) -> Tensor:
        return start_of_path(z0, self.options.flow.prior, generator)

    def _move(self, z0: Tensor, start: Tensor, encoded: EncodedCondition, steps: int | None = None) -> Tensor:
        """Follow the flow from latent control states to latent perturbed states, in steps of Euler."""
        flow = self.options.flow
        zt = start
        width = 1 / (steps or flow.steps)
        for step in range(steps or flow.steps):
            t = torch.full((len(start),), step * width, device=start.device, dtype=start.dtype)
            output = self.field(t, zt, encoded)
            zt = zt + width * velocity_of(output, flow.predict, flow.conversion, t, zt, start)
        return torch.where(encoded.strength[:, None, None] > 0, zt, z0)

    def _encode_condition(self, condition: ConditionBatch, generator: DrawSource) -> EncodedCondition:
        encoded = self.conditions(condition, generator=generator)
        if self.options.flow.prior == "control":
            return encoded
        # from noise the change carries the whole way to a cell, whatever the dose
        return dataclasses.replace(encoded, strength=(encoded.strength > 0).to(encoded.strength.dtype))

    # --- training -------------------------------------------------------------------------------------------

    def losses(self, batch: SetBatch, *, generator: DrawSource = None) -> dict[str, Tensor]:
        """Return the terms of the loss, each unweighted, and their weighted ``"total"``.

        Parameters
        ----------
        batch
            Control and perturbed sets.
        generator
            Source of the times, of the noise and of what is masked; dropout draws from the global one of torch.

        Returns
        -------
        Scalars by name.
        """
        flow, weights = self.options.flow, self.options.losses
        # decoded cells are compared in standard deviations of the genes, in which the decoder puts them out; what is
        # done to several populations is done to them at once: fewer and larger operations
        standardised = self._standardise(torch.cat([batch.x0, batch.x1]))
        if batch.state0 is not None and batch.state1 is not None:
            encoded_cells = self.encode_cells(torch.cat([batch.state0, batch.state1]))
        elif self.reads_standardised:
            encoded_cells = self.cells(standardised)
        else:
            encoded_cells = self.encode_cells(torch.cat([batch.x0, batch.x1]))
        z0, z1 = self.sets(encoded_cells).chunk(2)
        target = z1.detach() if weights.stop_gradient else z1
        partners = couple(z0, target, flow.coupling)
        target = target.gather(1, partners[..., None].expand_as(target))
        encoded = self._encode_condition(batch.condition, generator)
        start = start_of_path(z0, flow.prior, generator)
        t = draw_uniform((len(z0),), generator, z0)
        zt = interpolate(t, start, target)
        arrives = bool(weights.set_level or weights.mean_shift)
        if arrives:
            # a set also goes the whole way in one step, as transport does
            times, cells = torch.cat([t, torch.zeros_like(t)]), torch.cat([zt, start])
            output, step = self.field(times, cells, encoded.repeated(2)).chunk(2)
        else:
            output = self.field(t, zt, encoded)
        comparison = compare_decoded(self.decoder, standardised.chunk(2), kernels=bool(weights.reconstruction_mmd))
        latent = {"control": z0, "perturbed": z1}
        if weights.decoded_endpoint:
            latent["endpoint"] = endpoint_of(output, flow.predict, flow.conversion, t, zt, start)
        if arrives:
            zero = torch.zeros_like(t)
            latent["arrived"] = endpoint_of(step, flow.predict, flow.conversion, zero, start, start)
        decoded = dict(zip(latent, comparison.decode(*latent.values()), strict=True))
        terms = {"endpoint": self._endpoint_error(output, target, t, zt, start)}
        terms |= self._reconstruction_terms(comparison, (decoded["control"], decoded["perturbed"]))
        if weights.decoded_endpoint:
            terms["decoded_endpoint"] = comparison.squared_error(decoded["endpoint"], 1, partners)
        if arrives:
            terms |= self._set_terms(comparison, decoded["arrived"], decoded["control"])
        weighted = [getattr(weights, name) * value for name, value in terms.items()]
        terms["total"] = torch.stack(weighted).sum()
        return terms

    def _standardise(self, cells: Tensor) -> Tensor:
        return torch.addcmul(-self.gene_mean / self.gene_scale, cells, 1 / self.gene_scale)

    def _endpoint_error(self, output: Tensor, target: Tensor, t: Tensor, zt: Tensor, start: Tensor) -> Tensor:
        """Squared error of coupled cells in latent space, of endpoints or of velocities."""
        flow = self.options.flow
        if flow.loss == "x":
            predicted, true = endpoint_of(output, flow.predict, flow.conversion, t, zt, start), target
        elif flow.predict == "v":
            predicted, true = output, target - start
        else:
            # both through the same conversion, so that a perfect endpoint has no error where 1 - t is held up
            predicted, true = (
                velocity_of(end, "x", flow.conversion, t, zt, start, closest=_CLOSEST_IN_LOSS)
                for end in (output, target)
            )
        return functional.mse_loss(predicted, true)

    def _reconstruction_terms(self, comparison: Comparison, decoded: tuple[Any, Any]) -> dict[str, Tensor]:
        """Errors of control and perturbed cells that were encoded and decoded."""
        seen = list(enumerate(decoded))
        terms = {"reconstruction": _half_sum(comparison.squared_error(cells, number) for number, cells in seen)}
        if self.options.losses.reconstruction_mmd:
            terms["reconstruction_mmd"] = _half_sum(comparison.mmd(cells, number).mean() for number, cells in seen)
        return terms

    def _set_terms(self, comparison: Comparison, predicted: Any, decoded_control: Any) -> dict[str, Tensor]:
        """Errors of whole sets, which do not know which cell became which."""
        weights = self.options.losses
        terms: dict[str, Tensor] = {}
        if weights.set_level:
            terms["set_level"] = (comparison.energy(predicted, 1) / self.sizes.n_genes**0.5).mean()
        if weights.mean_shift:
            terms["mean_shift"] = comparison.mean_change(decoded_control, predicted).square().mean()
        return terms


def _half_sum(values: Iterable[Tensor]) -> Tensor:
    return 0.5 * torch.stack(list(values)).sum()
