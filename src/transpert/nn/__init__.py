"""The network of SCALE, in torch alone."""

from .batch import ConditionBatch, NetworkSizes, SetBatch, Transported
from .components import GeneComponents
from .conditions import ConditionEncoder, EncodedCondition
from .coupling import couple
from .decoder import CellDecoder
from .draws import SetDraws
from .encoders import CellEncoder
from .flow import FlowField, endpoint_of, interpolate, start_of_path, velocity_of
from .losses import energy_distance, gaussian_mmd
from .network import TransportNetwork
from .options import (
    ConditionOptions,
    DecoderOptions,
    EncoderOptions,
    FlowOptions,
    LossOptions,
    NetworkOptions,
    SetOptions,
)
from .sets import SetEncoder

__all__ = [
    "ConditionOptions",
    "DecoderOptions",
    "EncoderOptions",
    "FlowOptions",
    "LossOptions",
    "NetworkOptions",
    "SetOptions",
    "TransportNetwork",
]
