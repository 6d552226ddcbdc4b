"""The network that predicts, as plain numbers for an exported predictor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from transpert.errors import OptionError
from transpert.nn import ConditionBatch, GeneComponents, TransportNetwork
from transpert.transport.exported_network import ExportedNetwork, NetworkShape

from .gene_selection import GeneSelection

_PARTS = ("cells.", "sets.", "field.", "decoder.", "input_mean", "input_scale", "gene_scale")


@torch.no_grad()
def plain_network(
    network: TransportNetwork,
    conditions: ConditionBatch,
    gates: Sequence[float],
    *,
    set_size: int,
    starts_moved: bool,
    components: GeneComponents | None,
    selection: GeneSelection | None,
) -> ExportedNetwork:
    """Return the network with its conditions encoded, one for each population, and its weight beside the anchor."""
    encoder, flow = network.options.encoder, network.options.flow
    if flow.prior != "control":
        raise OptionError(
            'with prior="gaussian" the networks draw noise in torch, which plain numbers cannot repeat',
            where="export",
            remedy="Save the model instead: model.save(...).",
        )
    network.eval()
    encoded = network.conditions(conditions)
    tokens = encoded.tokens if network.field.seed is None else network.field.seed(encoded.tokens)
    arrays = {name: value for name, value in network.state_dict().items() if name.startswith(_PARTS)}
    arrays = {name: value for name, value in arrays.items() if not name.startswith("field.seed.")}
    arrays |= {"tokens": tokens, "vector": encoded.vector, "strength": encoded.strength}
    if components is not None:
        arrays |= {f"components.{name}": value for name, value in components.state_dict().items()}
    plain = {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in arrays.items()}
    plain["gate"] = np.array(gates, dtype=np.float64)
    if selection is not None:
        plain["selected"] = selection.positions.astype(np.int64)
    shape = NetworkShape(
        set_size=set_size,
        encoder_tokens=encoder.n_tokens if encoder.kind == "llama" else 0,
        encoder_heads=(encoder.n_heads, encoder.n_key_heads),
        heads=(flow.n_heads, flow.n_key_heads),
        conditioning=network.options.conditions.conditioning,
        predict=flow.predict,
        conversion=flow.conversion,
        steps=flow.steps,
        starts_moved=starts_moved,
    )
    return ExportedNetwork(shape, plain)
