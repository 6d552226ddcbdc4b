"""The whole network: cells in, transported cells out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .batch import ConditionBatch, NetworkSizes, SetBatch, Transported
from .blocks import mlp
from .conditions import ConditionEncoder
from .coupling import couple
from .encoders import CellEncoder
from .flow import FlowField, endpoint_of, interpolate, start_of_path, velocity_of
from .losses import energy_distance, gaussian_mmd
from .options import NetworkOptions
from .sets import SetEncoder
from .solvers import solve

__all__ = ["TransportNetwork"]


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

    def __init__(self, sizes: NetworkSizes, options: NetworkOptions, perturbation_table: Tensor | None = None) -> None:
        super().__init__()
        self.sizes, self.options = sizes, options
        width = options.encoder.width
        self.cells = CellEncoder(sizes.n_inputs, options.encoder)
        self.sets = SetEncoder(width, options.sets)
        self.conditions = ConditionEncoder(sizes, width, options.conditions, perturbation_table)
        self.field = FlowField(width, options.flow, options.conditions)
        self.decoder = mlp(width, 2 * width, sizes.n_genes)
        self.register_buffer("input_mean", torch.zeros(sizes.n_inputs))
        self.register_buffer("input_scale", torch.ones(sizes.n_inputs))
        self.register_buffer("gene_mean", torch.zeros(sizes.n_genes))
        self.register_buffer("gene_scale", torch.ones(sizes.n_genes))

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

    # --- cells to latent states and back --------------------------------------------------------------------

    def encode(self, states: Tensor) -> Tensor:
        """Map cells ``(S, N, n_inputs)`` to latent states ``(S, N, d)`` that know their set."""
        return self.sets(self.cells((states - self.input_mean) * self.input_scale))

    def decode(self, latent: Tensor) -> Tensor:
        """Map latent states ``(..., d)`` to log1p counts per 10k ``(..., G)``."""
        return self.gene_mean + self.gene_scale * self.decoder(latent)

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
            Steps of the solver; those of the options by default.
        generator
            Source of the noise where the path starts in noise.

        Returns
        -------
        Latent states and decoded cells before and after. Where nothing is done they are the same.
        """
        flow = self.options.flow
        z0 = self.encode(states)
        tokens, vector = self.conditions(condition)
        moves = (~condition.is_control).to(z0.dtype)
        start = start_of_path(z0, flow.prior, generator)
        n_steps = steps or flow.steps

        def velocity(t: Tensor, zt: Tensor) -> Tensor:
            output = self.field(t, zt, tokens, vector, moves)
            return velocity_of(output, flow.predict, flow.conversion, t, zt, start)

        z1 = solve(velocity, start, steps=n_steps, solver=flow.solver)
        z1 = torch.where(moves[:, None, None] > 0, z1, z0)
        return Transported(z0, z1, self.decode(z0), self.decode(z1))

    # --- training -------------------------------------------------------------------------------------------

    def losses(self, batch: SetBatch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the terms of the loss, each unweighted, and their weighted ``"total"``.

        Parameters
        ----------
        batch
            Control and perturbed sets.
        generator
            Source of the times and of the noise.

        Returns
        -------
        Scalars by name.
        """
        flow, weights = self.options.flow, self.options.losses
        states = (batch.x0, batch.x1) if batch.state0 is None else (batch.state0, batch.state1)
        z0, z1 = self.encode(states[0]), self.encode(states[1])  # type: ignore[arg-type]
        target = z1.detach() if weights.stop_gradient else z1
        partners = couple(z0, target, flow.coupling)[..., None]
        target = target.gather(1, partners.expand_as(target))
        paired = batch.x1.gather(1, partners.expand(-1, -1, batch.x1.shape[-1]))
        tokens, vector = self.conditions(batch.condition)
        moves = (~batch.condition.is_control).to(z0.dtype)
        start = start_of_path(z0, flow.prior, generator)
        t = torch.rand(len(z0), generator=generator, device=z0.device, dtype=z0.dtype)
        zt = interpolate(t, start, target)
        output = self.field(t, zt, tokens, vector, moves)
        endpoint = endpoint_of(output, flow.predict, flow.conversion, t, zt, start)
        terms: dict[str, Tensor] = {}
        if flow.loss == "x":
            terms["endpoint"] = (endpoint - target).square().mean()
        else:
            velocity = velocity_of(output, flow.predict, flow.conversion, t, zt, start)
            # near the end of the path the velocity of an endpoint is a quotient of two small numbers
            weight = (1 - t).square()[:, None, None] if flow.conversion == "jit" else 1.0
            terms["endpoint"] = (weight * (velocity - (target - start)).square()).mean()
        reconstructed = self.decode(z0), self.decode(z1)
        terms["reconstruction"] = 0.5 * sum(
            self._error(decoded, truth) for decoded, truth in zip(reconstructed, (batch.x0, batch.x1), strict=True)
        )
        if weights.reconstruction_mmd:
            terms["reconstruction_mmd"] = gaussian_mmd(self._scaled(reconstructed[1]), self._scaled(batch.x1)).mean()
        self._predicted_terms(terms, batch, z0, start, tokens, vector, moves, endpoint, paired, reconstructed[0])
        weighted = [getattr(weights, name) * value for name, value in terms.items()]
        terms["total"] = torch.stack(weighted).sum()
        return terms

    def _predicted_terms(
        self,
        terms: dict[str, Tensor],
        batch: SetBatch,
        z0: Tensor,
        start: Tensor,
        tokens: Tensor,
        vector: Tensor,
        moves: Tensor,
        endpoint: Tensor,
        paired: Tensor,
        decoded_control: Tensor,
    ) -> None:
        """Add the terms on decoded predictions: of coupled cells from time t, of whole sets from time 0."""
        flow, weights = self.options.flow, self.options.losses
        if weights.decoded_endpoint:
            terms["decoded_endpoint"] = self._error(self.decode(endpoint), paired)
        if not (weights.set_level or weights.mean_shift):
            return
        # as in prediction with one step: from the control cells, all the way
        zero = torch.zeros(len(z0), device=z0.device, dtype=z0.dtype)
        arrival = endpoint_of(
            self.field(zero, start, tokens, vector, moves), flow.predict, flow.conversion, zero, start, start
        )
        predicted = self.decode(arrival)
        if weights.set_level:
            distance = energy_distance if weights.set_kernel == "energy" else gaussian_mmd
            n_genes = batch.x1.shape[-1]
            scale = n_genes**0.5 if weights.set_kernel == "energy" else 1.0
            terms["set_level"] = (distance(self._scaled(predicted), self._scaled(batch.x1)) / scale).mean()
        if weights.mean_shift:
            shift = (predicted - decoded_control).mean(dim=1)
            truth = (batch.x1 - batch.x0).mean(dim=1)
            terms["mean_shift"] = ((shift - truth) / self.gene_scale).square().mean()

    def _scaled(self, cells: Tensor) -> Tensor:
        return (cells - self.gene_mean) / self.gene_scale

    def _error(self, predicted: Tensor, truth: Tensor) -> Tensor:
        return ((predicted - truth) / self.gene_scale).square().mean()
