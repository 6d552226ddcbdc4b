"""An anchor as plain data and arrays, as it stands in the file of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np

from transpert._schema import DAMAGED, checked
from transpert.conditions import Condition, Embedding
from transpert.errors import ModelFileError, list_names

from .anchor import Anchor
from .coefficients import EffectTable
from .dependence import Dependence
from .evidence import Evidence, WeighedEvidence
from .options import AnchorOptions
from .perturbation_ridge import PerturbationRidge


def anchor_to_state(anchor: Anchor) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the anchor as plain data and arrays."""
    plain = {
        "options": anchor.options.to_dict(),
        "contexts": list(anchor.table.contexts),
        "conditions": [dataclasses.asdict(condition) for condition in anchor.table.conditions],
        "scale": anchor.scale,
        "dependence": {s: None if d is None else dataclasses.asdict(d) for s, d in anchor.dependence.items()},
        "parts": {s: {k: list(map(float, v)) for k, v in by.items()} for s, by in anchor.parts.items()},
        "combination": {space: weights.tolist() for space, weights in anchor.combination.items()},
        "stack": anchor.stack,
        "ridge": None if anchor.ridge is None else anchor.ridge.to_state(),
        "evidence": [_evidence_to_dict(source) for source in anchor.evidence],
    }
    arrays = {
        "weights": anchor.table.weights,
        "profiles": anchor.table.profiles,
        "rates": anchor.rates,
        "dispersion": anchor.dispersion,
    }
    for space in anchor.options.spaces:
        arrays[f"effects_{space}"] = anchor.effects[space]
        arrays[f"variances_{space}"] = anchor.variances[space]
    for number, source in enumerate(anchor.evidence):
        kept = {name: getattr(source.evidence, kind) for kind, name in _evidence_arrays(number).items()}
        arrays |= {name: values for name, values in kept.items() if values is not None}
    return plain, arrays


def _evidence_to_dict(source: WeighedEvidence) -> dict[str, Any]:
    """Return evidence without its arrays and genes, which are those of the model."""
    evidence = source.evidence
    conditions = [dataclasses.asdict(condition) for condition in evidence.conditions]
    contexts = list(evidence.contexts)
    return {"name": evidence.name, "conditions": conditions, "contexts": contexts, "weights": dict(source.weights)}


def _evidence_arrays(number: int) -> dict[str, str]:
    """Names under which the arrays of evidence are kept, by what they are."""
    return {kind: f"evidence_{number}_{kind}" for kind in ("log_fold", "variance", "profiles")}


def anchor_from_state(
    plain: dict[str, Any], arrays: dict[str, np.ndarray], embedding: Embedding | None = None
) -> Anchor:
    """Make an anchor from what :func:`anchor_to_state` returned, and the embedding it was fitted with."""
    saved = checked(plain, _SavedAnchor, ModelFileError, "anchor", DAMAGED)
    options = saved.options
    _check_shapes(saved, arrays)
    contexts = np.array(saved.contexts, dtype=object)
    table = EffectTable(contexts, tuple(saved.conditions), arrays["weights"], arrays["profiles"])
    ridge = None
    if saved.ridge is not None and embedding is not None:
        ridge = PerturbationRidge.from_state(saved.ridge, table, embedding)
    return Anchor(
        options,
        table,
        arrays["rates"],
        {space: arrays[f"effects_{space}"] for space in options.spaces},
        {space: arrays[f"variances_{space}"] for space in options.spaces},
        arrays["dispersion"],
        saved.scale,
        saved.dependence,
        {space: {k: np.array(v) for k, v in by.items()} for space, by in saved.parts.items()},
        {space: np.array(weights) for space, weights in saved.combination.items()},
        saved.stack,
        ridge,
        tuple(_evidence_of(found, number, arrays) for number, found in enumerate(saved.evidence)),
    )


def _evidence_of(found: _SavedEvidence, number: int, arrays: Mapping[str, np.ndarray]) -> WeighedEvidence:
    """Make the evidence with a number of what was saved."""
    names = _evidence_arrays(number)
    shape = (len(found.conditions), *arrays["dispersion"].shape)
    if names["profiles"] not in arrays:  # it may have none
        del names["profiles"]
    wrong = [name for name in names.values() if name not in arrays or arrays[name].shape != shape]
    if wrong:
        raise ModelFileError(f"{list_names(wrong)} do not fit the conditions", where="anchor", remedy=DAMAGED)
    genes = tuple(map(str, range(shape[1])))  # they are those of the model, in its order
    values = {kind: arrays[name] for kind, name in names.items()}
    evidence = Evidence(tuple(found.conditions), tuple(found.contexts), genes, **values, name=found.name)
    return WeighedEvidence(evidence, found.weights)


class _SavedEvidence(msgspec.Struct):
    """What evidence is remembered by beside its arrays."""

    name: str
    conditions: list[Condition]
    contexts: list[str]
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]]


class _SavedAnchor(msgspec.Struct):
    """What an anchor remembers beside its arrays."""

    options: AnchorOptions
    contexts: list[str]
    conditions: list[Condition]
    scale: float
    dependence: dict[str, Dependence | None]
    parts: dict[str, dict[str, list[float]]]
    combination: dict[str, Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]]
    stack: dict[str, float]
    ridge: dict[str, dict[str, Any]] | None = None
    evidence: list[_SavedEvidence] = []


def _check_shapes(saved: _SavedAnchor, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that are not those of the measured effects and their genes."""
    names = [f"{kind}_{space}" for space in saved.options.spaces for kind in ("effects", "variances")]
    rows, genes = len(saved.conditions), arrays["dispersion"].shape
    expected = {"weights": (rows,), **dict.fromkeys(["profiles", "rates", *names], (rows, *genes))}
    wrong = [name for name, shape in expected.items() if arrays[name].shape != shape or arrays[name].dtype.kind != "f"]
    if wrong or len(saved.contexts) != rows:
        raise ModelFileError(
            f"{list_names(wrong or ['contexts'])} do not fit the conditions", where="anchor", remedy=DAMAGED
        )
