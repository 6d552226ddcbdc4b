"""Options of SCALE and the presets, which are sets of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from transpert._arguments import check_choice, check_number, check_share, check_whole, named_options
from transpert._files import Count
from transpert._signatures import check_fields
from transpert.errors import ModelFileError, OptionError, UnknownNameError
from transpert.nn import ConditionOptions, EncoderOptions, FlowOptions, LossOptions, NetworkOptions, SetOptions
from transpert.nn.options import EncoderKind, check_part
from transpert.transport import AnchorOptions, ReadoutOptions
from transpert.transport.weighing import FittedWeight

LeaveOut = Literal["auto", "context", "perturbation", "pair"]


@named_options()
@dataclass(frozen=True, slots=True)
class JoiningOptions:
    """How the network and the anchor are joined.

    Parameters
    ----------
    kind
        ``"stack"``: the network starts from the control cells, and the two mean shifts are averaged; ``"residual"``:
        the network starts from control cells that the anchor has moved.
    folds
        Cross-validation folds used to fit the gate. Each fold trains a network, and fits an anchor, without its
        groups; a final network, trained on all groups, predicts. With 1 there is only the final network, and the gate
        stays at ``gate``.
    leave_out
        What a fold leaves out: whole contexts, whole perturbations, pairs of both, or what the split imitates.
    gate
        Weight of the network; ``None`` fits it on the left-out groups, between 0 and 1.
    train_networks
        ``"auto"``: networks are trained only where the gate could open: if there are at least five contexts (or
        perturbations, or pairs) to leave out, and what the anchor leaves unexplained of them is more than the
        sampling error of their cells. ``"always"`` insists. With ``gate`` given they are always trained.

    Examples
    --------
    >>> from transpert.model import JoiningOptions
    >>> JoiningOptions(folds=4).n_networks
    5
    """

    kind: Literal["stack", "residual"] = "stack"
    folds: int = 3
    leave_out: LeaveOut = "auto"
    gate: float | None = None
    train_networks: Literal["auto", "always"] = "auto"

    @property
    def n_networks(self) -> int:
        """Networks that are trained side by side."""
        return self.folds + 1 if self.folds > 1 else 1

    def replaced_by(self, asked: JoiningOptions | str | None) -> JoiningOptions:
        """Return what a user asks for in place of these; ``"always"`` only insists on networks."""
        if asked == "always":
            return dataclasses.replace(self, train_networks="always")
        if isinstance(asked, str):
            raise OptionError(f"joining is {asked!r}", where="SCALE", remedy="Give JoiningOptions, or 'always'.")
        return self if asked is None else asked

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice(self.kind, ("stack", "residual"), name="kind")
        check_choice(self.leave_out, LeaveOut, name="leave_out")
        check_choice(self.train_networks, ("auto", "always"), name="train_networks")
        if not (isinstance(self.folds, int | np.integer) and self.folds >= 1):
            raise OptionError(f"folds is {self.folds}", remedy="A whole number; at least one network is needed.")
        check_number(self.gate, name="gate", least=0.0, most=1.0, optional=True)


@named_options()
@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How the network is trained.

    Parameters
    ----------
    steps
        Steps of the optimiser. By default as many as draw 32 sets of every perturbed group, from 300 to 3,000.
    steps_per_epoch
        Steps between two validations; by default a thirtieth of all, but at least 20.
    set_size, sets_per_batch
        Cells in a set, and sets in a step. By default sets of as many cells as half of the perturbed groups have,
        rounded down to a power of two, of 4 to 32; and as many sets as make 256 cells.
    slice_size
        Neighbouring cells that are drawn together. By default single cells from memory; from a store, whose cells lie
        shuffled inside their group, runs of up to 64, which are read much faster.
    weighting
        How often a group is drawn: ``"uniform"``, ``"cells"`` or ``"tempered"``.
    learning_rate, weight_decay
        Of AdamW.
    warmup
        Share of the steps in which the learning rate rises; then it falls along a cosine.
    gradient_clip
        Largest norm of the gradient.
    average
        Decay of the exponential moving average of the weights; 0 switches it off.
    patience
        Validations without improvement after which training stops.
    accumulate
        Batches of ``sets_per_batch`` sets whose gradients make one step: the same result as that many times the sets
        at once, in less memory.
    compile
        Compile the parts of the networks (:func:`torch.compile`); sets have one shape, so this is done once. Needs a
        compiler, and pays for long trainings only.
    on_device
        Keep all cells, sparse, on the device that trains, so that no step moves any: ``True``, ``False``, or ``"auto"``
        for a GPU of which they take at most half of the free memory. The same sets are drawn either way.

    Examples
    --------
    >>> from transpert.model import TrainingOptions
    >>> TrainingOptions(steps=500, learning_rate=3e-4).weighting
    'tempered'
    """

    steps: int | None = None
    steps_per_epoch: int | None = None
    set_size: int | None = None
    sets_per_batch: int | None = None
    slice_size: int | None = None
    weighting: Literal["uniform", "cells", "tempered"] = "tempered"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    gradient_clip: float = 1.0
    average: float = 0.98
    patience: int = 6
    accumulate: int = 1
    compile: bool = False
    on_device: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.on_device, bool) and self.on_device != "auto":
            raise OptionError(
                f"on_device is {self.on_device!r}", where="TrainingOptions", remedy="Choose True, False or 'auto'."
            )
        whole = ("steps", "steps_per_epoch", "set_size", "sets_per_batch", "slice_size", "patience", "accumulate")
        for name in whole:
            check_whole(getattr(self, name), name=name, least=1, optional=name not in ("patience", "accumulate"))
        check_choice(self.weighting, ("uniform", "cells", "tempered"), name="weighting")
        for name in ("learning_rate", "gradient_clip"):
            check_number(getattr(self, name), name=name, least=0.0, open_ends=True)
        check_number(self.weight_decay, name="weight_decay", least=0.0)
        for name in ("warmup", "average"):
            if check_share(getattr(self, name), name=name) == 1:
                raise OptionError(f"{name} is 1", where="TrainingOptions", remedy="Give a number below 1.")


@named_options()
@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """All options of SCALE.

    Parameters
    ----------
    network
        The network.
    anchor
        The anchor; ``None`` for none, as in the paper.
    readout
        What makes cells of predictions.
    joining
        How network and anchor are joined.
    training
        How the network is trained.
    n_components
        Principal components, of cells and of groups, in which the networks read and write cells, so that a step takes
        the same time however many genes there are. ``None`` for the genes themselves, which are taken in any case
        where there are fewer than ten for a component, where the components of all cells would take more than 2 GB,
        where an embedding is the state space, and with ``kind="residual"``.
    """

    network: NetworkOptions = field(default_factory=NetworkOptions)
    anchor: AnchorOptions | None = field(default_factory=AnchorOptions)
    readout: ReadoutOptions = field(default_factory=ReadoutOptions)
    joining: JoiningOptions = field(default_factory=JoiningOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    n_components: int | None = None

    def __post_init__(self) -> None:
        check_whole(self.n_components, name="n_components", least=1, optional=True)
        for spec in dataclasses.fields(self):
            if spec.name != "n_components" and (spec.name != "anchor" or self.anchor is not None):
                check_part(spec.name, getattr(self, spec.name), spec.default_factory)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return {
            "network": self.network.to_dict(),
            "anchor": None if self.anchor is None else self.anchor.to_dict(),
            "readout": self.readout.to_dict(),
            "joining": dataclasses.asdict(self.joining),
            "training": dataclasses.asdict(self.training),
            "n_components": self.n_components,
        }

    @classmethod
    def preset(cls, name: str) -> ScaleOptions:
        """Return a preset by name.

        Raises
        ------
        transpert.errors.UnknownNameError
            If there is no such preset.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise UnknownNameError("preset", [str(name)], PRESETS)
        return PRESETS[name]


def fit_to_device(network: NetworkOptions, n_cells: int, *, device: str) -> NetworkOptions:
    """Return a wider network for many cells on a GPU, where a step of it takes as long: launching kernels takes it."""
    return _network("mlp", 256, 2, 8, 16, 2) if device == "cuda" and n_cells >= _MANY_CELLS else network


class SavedOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of a saved SCALE."""

    options: ScaleOptions
    preset: str
    seed: Count


def refuse_former(network: dict[str, Any]) -> None:
    """Refuse a saved network that used an option which is gone, and would predict something else without it."""
    for part, name, kept in (("flow", "solver", "euler"), ("decoder", "output", "linear")):
        value = network.get(part, {}).get(name, kept)
        if value != kept:
            raise ModelFileError(
                f"the network has {name}={value!r}, an option that is gone",
                where="options",
                remedy="Load it with the version of transpert that wrote it, or train again.",
            )


class SavedState(msgspec.Struct, kw_only=True):
    """What a trained SCALE remembers, but for its conditions, anchor and embedding, which are checked with them."""

    gate: Annotated[float, msgspec.Meta(ge=0, le=1)]
    left_out_level: str
    n_inputs: Count
    gate_table: dict[str, list[Any]] | None
    gate_evidence: FittedWeight | None = None
    without_networks: str = ""
    chosen_for: str = ""  # cells, genes and groups by which sizes were chosen
    trained_on: str = ""  # kind of device, and precision
    history: dict[str, list[float | None]]


def _network(kind: EncoderKind, width: int, depth: int, heads: int, tokens: int, flow_depth: int) -> NetworkOptions:
    return NetworkOptions(
        EncoderOptions(kind, width, depth, tokens, heads, max(heads // 4, 1)),
        flow=FlowOptions(depth=flow_depth, n_heads=heads, n_key_heads=max(heads // 4, 1)),
    )


def _checkpointed(network: NetworkOptions) -> NetworkOptions:
    """The same network in less memory: activations of blocks are computed again in the backward pass."""
    return dataclasses.replace(
        network,
        encoder=dataclasses.replace(network.encoder, checkpoint=True),
        flow=dataclasses.replace(network.flow, checkpoint=True),
    )


_PAPER_NETWORK = NetworkOptions(
    EncoderOptions("llama", 512, 4, 32, 8, 2, input_scale=10.0),
    SetOptions(pooling="mean"),
    ConditionOptions(unknown_rate=0.0),
    FlowOptions(depth=6, coupling="index"),
    LossOptions(
        reconstruction_mmd=1.0,
        endpoint=1.0,
        decoded_endpoint=0.0,
        set_level=0.0,
        mean_shift=0.0,
        stop_gradient=False,
    ),
)

# cells of which a wider network learns more, on a GPU, where it costs no time
_MANY_CELLS = 100_000

PRESETS: dict[str, ScaleOptions] = {
    "tiny": ScaleOptions(
        network=_network("mlp", 64, 1, 4, 8, 1),
        training=TrainingOptions(steps=120, steps_per_epoch=20, set_size=32, sets_per_batch=6),
    ),
    "small": ScaleOptions(network=_network("mlp", 128, 1, 4, 8, 2)),
    "auto": ScaleOptions(network=_network("mlp", 128, 1, 4, 8, 2), n_components=256),
    "base": ScaleOptions(
        network=_network("llama", 512, 4, 8, 32, 4),
        training=TrainingOptions(steps=20_000, steps_per_epoch=500, set_size=128, sets_per_batch=16, average=0.999),
    ),
    "large": ScaleOptions(
        network=_checkpointed(_network("llama", 1024, 6, 16, 32, 8)),
        # as many sets in a step as in "base", four at a time
        training=TrainingOptions(
            steps=50_000, steps_per_epoch=500, set_size=128, sets_per_batch=4, accumulate=4, average=0.999
        ),
    ),
    "paper": ScaleOptions(
        network=_PAPER_NETWORK,
        anchor=None,
        readout=ReadoutOptions(kind="expected"),
        joining=JoiningOptions(folds=1, gate=1.0),
        training=TrainingOptions(steps=20_000, steps_per_epoch=500, set_size=128, sets_per_batch=16, average=0.0),
    ),
}
