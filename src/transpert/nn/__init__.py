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
from .solvers import solve

__all__ = [
    "CellDecoder",
    "CellEncoder",
    "ConditionBatch",
    "ConditionEncoder",
    "ConditionOptions",
    "DecoderOptions",
    "EncodedCondition",
    "EncoderOptions",
    "FlowField",
    "FlowOptions",
    "GeneComponents",
    "LossOptions",
    "NetworkOptions",
    "NetworkSizes",
    "SetBatch",
    "SetDraws",
    "SetEncoder",
    "SetOptions",
    "TransportNetwork",
    "Transported",
    "couple",
    "endpoint_of",
    "energy_distance",
    "gaussian_mmd",
    "interpolate",
    "solve",
    "start_of_path",
    "velocity_of",
]
