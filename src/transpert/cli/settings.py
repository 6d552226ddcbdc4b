"""One TOML file for the whole job: its schema, how it is read, and how a first one is written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from transpert._schema import read_toml
from transpert.errors import OptionError, check_known


@dataclass(frozen=True)
class DataSettings:
    """The cells and what their columns mean."""

    file: str
    perturbation_key: str = "perturbation"
    control: str = "control"
    context_keys: list[str] = field(default_factory=list)
    batch_key: str | None = None
    dose_key: str | None = None
    time_key: str | None = None
    direction_key: str | None = None
    layer: str | None = None
    library_size_key: str | None = None


@dataclass(frozen=True)
class SplitSettings:
    """What is held out, or a split that was saved as JSON or is a TOML file of cell-load."""

    holdout: dict[str, Any] | None = None
    by: str | None = None
    fraction: float = 0.2
    choice: str = "random"
    seen_parts: int = 2
    known_perturbations: int = 0
    pathways: dict[str, Any] | None = None
    on_leak: str = "report"
    saved: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class TrainSettings:
    """The model and its training."""

    preset: str = "small"
    steps: int | None = None
    accelerator: str = "auto"
    devices: str | int = "auto"
    strategy: str = "auto"
    checkpoints: bool = False
    seed: int = 0


@dataclass(frozen=True)
class PredictSettings:
    """What is predicted: the populations held out by default."""

    contexts: dict[str, Any] | None = None
    perturbations: list[str] | None = None
    n_cells: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class EvaluateSettings:
    """How a prediction is scored."""

    metrics: str | list[str] = "default"
    baselines: str | list[str] = "all"
    n_bootstrap: int = 1_000
    seed: int = 0


@dataclass(frozen=True)
class RankSettings:
    """What perturbations are ranked by: one of signature (CSV), cells (h5ad) and genes that are to go up."""

    signature: str | None = None
    cells: str | None = None
    genes: list[str] | None = None
    candidates: list[str] | None = None
    contexts: list[str] | None = None
    direction: str = "toward"
    seed: int = 0


@dataclass(frozen=True)
class ScalingSettings:
    """Which models are trained on how much of the data."""

    models: list[str] = field(default_factory=lambda: ["MeanShift", "KernelTransport"])
    axes: str | list[str] | dict[str, Any] = "cells"
    seeds: int = 3
    metrics: list[str] = field(default_factory=lambda: ["pearson_delta", "overlap_at_n"])


@dataclass(frozen=True)
class OutputSettings:
    """Where results are written."""

    folder: str = "results"


@dataclass(frozen=True)
class Settings:
    """All sections of a file."""

    data: DataSettings
    split: SplitSettings = field(default_factory=SplitSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    rank: RankSettings = field(default_factory=RankSettings)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)


SECTIONS: dict[str, Any] = get_type_hints(Settings)
_WORDS = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    float: "a number",
    list: "a list of texts",
    dict: "a table",
    type(None): "",
}


def read_settings(path: Path, changes: Sequence[str] = ()) -> Settings:
    """Read a file, with some values replaced by ``SECTION.NAME=VALUE``."""
    raw = read_toml(path, OptionError, "Mend the line; transpert init FILE writes one that is right.")
    for change in changes:
        _apply(raw, change)
    check_known("section", raw, SECTIONS, where=str(path))
    if "data" not in raw:
        raise OptionError("there is no section [data]", where=str(path), remedy="transpert init FILE writes one.")
    return Settings(**{name: _section(name, values, path) for name, values in raw.items()})


def _apply(raw: dict[str, Any], change: str) -> None:
    """Replace one value."""
    name, equals, text = change.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot):
        raise OptionError(f"{change!r} is no change", where="--set", remedy="Write it as SECTION.NAME=VALUE.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # words need no quotes in a shell
    values = raw.setdefault(section, {})
    if not isinstance(values, dict):
        raise _no_section(section, "--set")
    values[key] = value


def _section(name: str, values: Any, path: Path) -> Any:
    """Read one section."""
    where = f"[{name}] of {path}"
    if not isinstance(values, Mapping):
        raise _no_section(name, str(path))
    kinds = get_type_hints(SECTIONS[name])
    check_known("option", values, kinds, where=where)
    for key, value in values.items():
        _check_kind(key, value, kinds[key], where)
    absent = [entry.name for entry in fields(SECTIONS[name]) if entry.name == "file" and "file" not in values]
    if absent:
        raise OptionError("file is missing", where=where, remedy='Name the cells: file = "screen.h5ad".')
    return SECTIONS[name](**values)


def _no_section(name: str, where: str) -> OptionError:
    """Return the error that something is a value where a section should be."""
    return OptionError(f"{name} is no section", where=where, remedy=f"Write [{name}] above its values.")


def _check_kind(key: str, value: Any, kind: Any, where: str) -> None:
    """Refuse a value of another kind than the option has."""
    kinds = [getattr(part, "__origin__", part) for part in getattr(kind, "__args__", ())]
    if not kinds or getattr(kind, "__origin__", None) in (list, dict):
        kinds = [getattr(kind, "__origin__", kind)]
    fits = any(isinstance(value, own) or (own is float and isinstance(value, int)) for own in kinds)
    if not fits or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(word for word in (_WORDS[own] for own in kinds) if word)
        raise OptionError(f"{key} is {value!r}", where=where, remedy=f"Give {wanted}.")


def written(values: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """Write a first file from what is known of the cells; ``notes`` stand behind the names they are about."""
    lines = ["# What `transpert split`, `train`, `predict`, `evaluate` and `report` do, in this order.", ""]
    for section, kind in SECTIONS.items():
        lines += [f"[{section}]  # {kind.__doc__.strip().rstrip('.')}"]
        for entry in fields(kind):
            name = f"{section}.{entry.name}"
            note = f"  # {notes[name]}" if name in notes else ""
            if name in values:
                lines.append(f"{entry.name} = {_toml(values[name])}{note}")
            else:
                lines.append(f"# {entry.name} ={_example(entry)}{note}")
        lines.append("")
    return "\n".join(lines)


def _example(entry: Any) -> str:
    """Write the default of an option, where it has one that TOML can say."""
    default = entry.default
    return f" {_toml(default)}" if isinstance(default, str | int | float) else ""


def _toml(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
