"""Predicted and real populations, tested against the same controls: what two of the plots count from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from scipy import sparse

from transpert._anndata import check_kind, frame, metadata_of
from transpert.conditions.text import population_text
from transpert.errors import MetricInputError, OptionError, check_known
from transpert.groups import Design
from transpert.metrics import DifferentialExpression
from transpert.pp.alignment import align_to
from transpert.tl._populations import design_of, log_values, populations
from transpert.tl._rank_tests import tests_against

type Matrix = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True, slots=True, eq=False)
class TestedPopulation:
    """Tests of one real population, and of what each model predicted for it, against the same real controls."""

    name: str
    real: DifferentialExpression
    predicted: dict[str, DifferentialExpression]


def name_predictions(pred: AnnData | Mapping[str, AnnData]) -> dict[str, AnnData]:
    """Return predictions by name; one alone is called by its model."""
    check_kind(pred, (AnnData, Mapping), name="the prediction", several=True)
    if isinstance(pred, AnnData):
        return {str(metadata_of(pred).get("model", "prediction")): pred}
    if not pred:
        raise OptionError("there is no prediction to draw", remedy="Give one AnnData, or several by name.")
    for name, adata in pred.items():
        check_kind(adata, name=f"prediction {name!r}")
    return dict(pred)


def tested_populations(
    pred: AnnData | Mapping[str, AnnData],
    truth: AnnData,
    *,
    population: str | None,
    design: Design | None,
    context_keys: str | Sequence[str] | None,
    layer: str | None,
) -> list[TestedPopulation]:
    """Test every population that is real and that all models predict, or the one that is named."""
    named = name_predictions(pred)
    check_kind(truth, name="the truth")
    first = next(iter(named.values()))
    design = design_of(
        first,
        design=design,
        context_keys=context_keys,
    )
    real = populations(frame(truth.obs), design, name="the truth")
    observed = log_values(truth, layer, where="the truth")
    aligned = {name: align_to(adata, list(truth.var_names))[0] for name, adata in named.items()}
    values = {name: log_values(adata, layer, where=name) for name, adata in aligned.items()}
    rows = {
        name: populations(frame(adata.obs), design, need_controls=False, name=name).cells
        for name, adata in aligned.items()
    }
    shared = {population_text(*key): key for key in real if all(key in cells for cells in rows.values())}
    if not shared:
        raise MetricInputError(
            "no population is both real and predicted by every model",
            where=f"obs[{design.perturbation_key!r}]",
            remedy="Label the predictions like the truth, contexts included.",
        )
    if population is not None:
        check_known("population", [population], shared)

    wanted = {name: key for name, key in shared.items() if population in (None, name)}
    tests: dict[tuple[str | None, str, str], DifferentialExpression] = {}
    for context in dict.fromkeys(context for context, _ in wanted.values()):
        keys = [key for key in wanted.values() if key[0] == context]
        groups: dict[tuple[str | None, str, str], tuple[Matrix, np.ndarray]] = {
            (None, *key): (observed, real.cells[key]) for key in keys
        }
        groups |= {(name, *key): (values[name], cells[key]) for name, cells in rows.items() for key in keys}
        tests |= tests_against(observed[real.controls[context]], groups)
    return [
        TestedPopulation(name, tests[None, *key], {model: tests[model, *key] for model in rows})
        for name, key in wanted.items()
    ]
