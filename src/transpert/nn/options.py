"""Options of the network, one small dataclass for each part of it."""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass, field
from typing import Any, Literal

from transpert._arguments import check_choice, check_number, named_options
from transpert.errors import OptionError

EncoderKind = Literal["llama", "mlp"]
Pooling = Literal["attention", "mean"]
Conditioning = Literal["seed", "cross"]
Coupling = Literal["ot", "index"]
DoseCurve = Literal["features", "saturating"]
Tables = Literal["concatenate", "gated"]
Space = Literal["x", "v"]
Conversion = Literal["jit", "z0"]
Prior = Literal["control", "gaussian"]


def _count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise OptionError(f"{name} is {value!r}", remedy="Give a whole number of at least 1.")


def _flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise OptionError(f"{name} is {value!r}", remedy="Choose one of True, False.")


def check_part(name: str, value: object, kind: type) -> None:
    """Refuse a word, or a dictionary, where a group of options is asked for."""
    if not isinstance(value, kind):
        raise OptionError(
            f"{name} is {value!r}", where="the options of a model", remedy=f"Give it as {name}={kind.__name__}(...)."
        )


def _heads(width: int, n_heads: int, n_key_heads: int, where: str) -> None:
    if width % n_heads or n_heads % n_key_heads:
        raise OptionError(
            f"width {width}, n_heads {n_heads} and n_key_heads {n_key_heads} do not divide",
            where=where,
            remedy="Make width a multiple of n_heads, and n_heads one of n_key_heads.",
        )


@named_options()
@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """The cell encoder.

    Parameters
    ----------
    kind
        ``"llama"``: the genes are patched into tokens, over which attention runs inside a cell; ``"mlp"``: a plain
        network over the genes, much cheaper.
    width
        Latent width ``d``.
    depth
        Blocks of the encoder.
    n_tokens
        Tokens that the genes of a cell are patched into (``"llama"``).
    n_heads, n_key_heads
        Heads of the queries, and of the keys and values they share (``"llama"``).
    input_scale
        Constant the log1p values are multiplied with; ``None`` standardises every gene by its mean and standard
        deviation in the training cells.
    checkpoint
        Compute the activations of the blocks again in the backward pass: less memory, more time (``"llama"``).
    """

    kind: EncoderKind = "llama"
    width: int = 256
    depth: int = 2
    n_tokens: int = 16
    n_heads: int = 8
    n_key_heads: int = 2
    input_scale: float | None = None
    checkpoint: bool = False

    def __post_init__(self) -> None:
        check_choice(self.kind, EncoderKind, name="kind")
        for name in ("width", "depth", "n_tokens", "n_heads", "n_key_heads"):
            _count(name, getattr(self, name))
        _flag("checkpoint", self.checkpoint)
        if self.input_scale is not None:
            check_number(self.input_scale, name="input_scale", least=1e-6)
        _heads(self.width, self.n_heads, self.n_key_heads, "EncoderOptions")


@named_options()
@dataclass(frozen=True, slots=True)
class SetOptions:
    """The set encoder.

    Parameters
    ----------
    pooling
        How the cells of a set become one vector: a learned softmax (``"attention"``) or their mean.
    hidden
        Hidden width, as a multiple of the latent width.
    """

    pooling: Pooling = "attention"
    hidden: int = 2

    def __post_init__(self) -> None:
        check_choice(self.pooling, Pooling, name="pooling")
        _count("hidden", self.hidden)


@named_options()
@dataclass(frozen=True, slots=True)
class ConditionOptions:
    """The condition encoder.

    Parameters
    ----------
    conditioning
        ``"seed"``: a learned query attends over the condition tokens and joins the cells of the set; ``"cross"``: the
        cells attend to the condition tokens.
    unknown_rate
        Share of the training sets whose context (and, independently, batch) is masked, so that the model is defined
        where they are new.
    dose
        How a dose enters: ``"features"``, with the embedding of its part; ``"saturating"``, besides as a learned curve
        ``1 - exp(-rate * dose)``, with doses from 0 to 1 as the data has them, that scales the part and its effect,
        which is then nothing at dose 0.
        Parts without a dose act in full.
    tables
        How several tables of embeddings become one: ``"concatenate"`` puts them side by side; ``"gated"`` projects
        each to the width of the network and weighs them by a softmax that depends on the perturbation.
    """

    conditioning: Conditioning = "seed"
    unknown_rate: float = 0.5
    dose: DoseCurve = "features"
    tables: Tables = "concatenate"

    def __post_init__(self) -> None:
        check_choice(self.conditioning, Conditioning, name="conditioning")
        check_choice(self.tables, Tables, name="tables")
        check_choice(self.dose, DoseCurve, name="dose")
        check_number(self.unknown_rate, name="unknown_rate", least=0, most=1)


@named_options()
@dataclass(frozen=True, slots=True)
class FlowOptions:
    """The flow from control to perturbed cells in latent space.

    Parameters
    ----------
    depth
        Blocks of the flow.
    n_heads, n_key_heads
        Heads of its attention over the cells of a set.
    coupling
        Which perturbed cell of a set a control cell is paired with in training: ``"ot"``, optimal transport in latent
        space, or ``"index"``, as they come.
    predict
        What the network puts out: the endpoint ``"x"`` or the velocity ``"v"``.
    loss
        In which of the two the loss is taken. With ``conversion="z0"`` the two are the same objective; with ``"jit"``
        ``"v"`` weighs an endpoint by ``1 / (1 - t) ** 2``, with ``1 - t`` not taken below 0.05.
    conversion
        How an endpoint becomes a velocity: ``"jit"``, ``(z1 - zt) / (1 - t)`` (Li and He, arXiv 2511.13720), or
        ``"z0"``, ``z1 - z0``.
    steps
        Euler steps when predicting.
    prior
        Where the path starts: ``"control"`` cells, or ``"gaussian"`` noise plus half a control cell.
    checkpoint
        Compute the activations of the blocks again in the backward pass: less memory, more time.
    """

    depth: int = 3
    n_heads: int = 8
    n_key_heads: int = 2
    coupling: Coupling = "ot"
    predict: Space = "x"
    loss: Space = "x"
    conversion: Conversion = "jit"
    steps: int = 1
    prior: Prior = "control"
    checkpoint: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("coupling", Coupling),
            ("predict", Space),
            ("loss", Space),
            ("conversion", Conversion),
            ("prior", Prior),
        ):
            check_choice(getattr(self, name), choices, name=name)
        for name in ("depth", "n_heads", "n_key_heads", "steps"):
            _count(name, getattr(self, name))
        _flag("checkpoint", self.checkpoint)


@named_options()
@dataclass(frozen=True, slots=True)
class DecoderOptions:
    """The decoder, which sees one cell at a time.

    Parameters
    ----------
    hidden
        Hidden width, as a multiple of the latent width.
    depth
        Hidden layers.
    """

    hidden: int = 2
    depth: int = 1

    def __post_init__(self) -> None:
        for name in ("hidden", "depth"):
            _count(name, getattr(self, name))


@named_options()
@dataclass(frozen=True, slots=True)
class LossOptions:
    """Weights of the terms of the loss; 0 switches a term off.

    Parameters
    ----------
    reconstruction
        Squared error of the decoded control and perturbed cells.
    reconstruction_mmd
        Gaussian maximum mean discrepancy of the decoded control and perturbed sets from the true ones.
    endpoint
        Squared error of the predicted endpoint (or velocity) of coupled cells, in latent space.
    decoded_endpoint
        Squared error of the decoded endpoint of coupled cells.
    set_level
        Energy distance between the predicted and the true set, decoded.
    mean_shift
        Squared error of the mean shift of a set, decoded; in units of a gene's standard deviation.
    stop_gradient
        Do not let the latent target of the flow be pulled towards the prediction, which collapses the latent space.

    Notes
    -----
    The default weights were looked at on groups left out of the training: ``docs/benchmarks/loss_weights.md``.

    Examples
    --------
    >>> from transpert.nn import LossOptions
    >>> LossOptions(mean_shift=30.0).set_level
    1.0
    """

    reconstruction: float = 1.0
    reconstruction_mmd: float = 0.0
    endpoint: float = 1.0
    decoded_endpoint: float = 1.0
    set_level: float = 1.0
    mean_shift: float = 10.0
    stop_gradient: bool = True

    def __post_init__(self) -> None:
        _flag("stop_gradient", self.stop_gradient)
        for spec in dataclasses.fields(self):
            if spec.name != "stop_gradient":
                check_number(getattr(self, spec.name), name=spec.name, least=0)


@named_options()
@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """All parts of the network.

    Parameters
    ----------
    encoder, sets, conditions, flow, losses, decoder
        The parts.
    """

    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    sets: SetOptions = field(default_factory=SetOptions)
    conditions: ConditionOptions = field(default_factory=ConditionOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    losses: LossOptions = field(default_factory=LossOptions)
    decoder: DecoderOptions = field(default_factory=DecoderOptions)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            check_part(spec.name, getattr(self, spec.name), spec.default_factory)  # type: ignore[arg-type]
        _heads(self.encoder.width, self.flow.n_heads, self.flow.n_key_heads, "FlowOptions in a network")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return dataclasses.asdict(self)
