"""The ensemble of networks as an scvi-tools module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, override

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor

from transpert.nn import NetworkOptions, NetworkSizes, SetBatch, SetDraws, TransportNetwork

# the number of a member and the rows of its sets, to their random numbers
type Draws = Callable[[int, Tensor], SetDraws]


class TransportModule(BaseModuleClass):
    """Networks trained side by side, each without the groups of one fold, the last on all groups."""

    def __init__(
        self, sizes: NetworkSizes, options: NetworkOptions, *, n_networks: int = 1, table: Tensor | None = None
    ) -> None:
        super().__init__()
        networks = torch.nn.ModuleList(TransportNetwork(sizes, options, table) for _ in range(n_networks))
        # a list of modules does not say in its type what they are
        self.networks = cast(Sequence[TransportNetwork], networks)

    @override
    def _get_inference_input(self, tensors: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        return {"states": tensors["states"]}

    @override
    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **kwargs: Any
    ) -> dict[str, Tensor]:
        return {"latent": inference_outputs["latent"]}

    @override
    def inference(self, states: Tensor) -> dict[str, Tensor]:
        """Return the latent states of sets, ``(S, N, d)``, of the last network, which has seen all groups."""
        return {"latent": self.networks[-1].encode(states)}

    @override
    def generative(self, latent: Tensor) -> dict[str, Tensor]:
        """Return decoded cells, ``(S, N, G)`` log1p counts per 10k."""
        return {"decoded": self.networks[-1].decode(latent)}

    @override
    def loss(
        self,
        batch: SetBatch,
        shown: Tensor,
        *,
        draws: Draws | None = None,
    ) -> LossOutput:
        """Return the mean loss of the networks on the sets they are to see.

        A network that is to see none of these sets runs on one of them without effect, so that all processes always
        run the same networks, and the optimiser treats a network alike however the sets are shared out. Where every
        network reads cells in components of its own, the batch has them side by side.
        """
        width = self.networks[0].sizes.n_genes
        side_by_side = batch.x0.shape[-1] > width
        chosen = [torch.nonzero(sets).flatten() for sets in shown.T]
        device = batch.x0.device
        share = torch.tensor([len(rows) for rows in chosen], device=device)
        n_sets = sum(map(len, chosen))
        if not n_sets:
            nothing = torch.zeros((), device=device, requires_grad=torch.is_grad_enabled())
            return LossOutput(loss=nothing, n_obs_minibatch=0)
        totals: dict[str, list[Tensor]] = {}
        for number, (network, rows) in enumerate(zip(self.networks, chosen, strict=True)):
            rows = (rows if len(rows) else torch.zeros(1, dtype=torch.long)).to(device)
            generator = None if draws is None else draws(number, rows)
            own = batch.columns(number * width, (number + 1) * width) if side_by_side else batch
            shown_sets = own if len(rows) == len(own.x0) else own[rows]
            for name, value in network.losses(shown_sets, generator=generator).items():
                totals.setdefault(name, []).append(value)
        # chosen by where, not by multiplying with 0, which would keep a NaN
        means = {
            name: torch.where(share > 0, torch.stack(values) * share / n_sets, 0.0).sum()
            for name, values in totals.items()
        }
        terms = {name: value.detach() for name, value in means.items() if name != "total"}
        return LossOutput(loss=means["total"], extra_metrics=terms, n_obs_minibatch=n_sets)
