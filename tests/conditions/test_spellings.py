"""Labels that are one to a reader and two to a computer are refused, or reported by name."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.errors import AssumptionWarning, ConditionError

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture
def cells():
    return tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=10, n_cells=12)


def respell(cells, column: str, label: str, other: str) -> None:
    """Write every second cell of a label in another way."""
    labels = np.array(cells.obs[column].astype(str), dtype=object)
    labels[np.flatnonzero(labels == label)[::2]] = other
    cells.obs[column] = labels


@pytest.mark.parametrize(
    ("column", "label", "other"),
    [("perturbation", "P0", "P0 "), ("perturbation", "control", " control"), ("context", "context_0", "context_0\t")],
)
def test_labels_that_differ_in_blanks_are_refused(cells, column: str, label: str, other: str) -> None:
    respell(cells, column, label, other)
    uses = (
        lambda: tp.MeanShift.setup_anndata(cells, **KEYS),
        lambda: tp.pp.split(cells, by="perturbation", perturbation_key="perturbation", context_keys="context"),
    )
    for use in uses:
        with pytest.raises(ConditionError, match=r"differ in blanks alone: .*str\.strip\(\)"):
            use()


def test_blanks_around_a_label_alone_change_nothing(cells, recwarn) -> None:
    cells.obs["perturbation"] = cells.obs["perturbation"].astype(str).replace({"P0": "P0 "})
    tp.MeanShift.setup_anndata(cells, **KEYS)
    assert not [w for w in recwarn if "blanks" in str(w.message)]


@pytest.mark.parametrize(
    ("column", "label", "other"), [("perturbation", "P0", "p0"), ("context", "context_0", "Context_0")]
)
def test_labels_that_differ_in_capitals_are_reported(cells, column: str, label: str, other: str) -> None:
    respell(cells, column, label, other)
    with pytest.warns(AssumptionWarning, match=f"'{max(label, other)}'.* differ in capitals alone") as told:
        tp.MeanShift.setup_anndata(cells, **KEYS)
    assert sum("capitals" in str(warning.message) for warning in told) == 1


def test_a_dose_of_nothing_is_reported() -> None:
    cells = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=10, n_cells=12, doses=(1.0, 10.0))
    low = (cells.obs["dose"] == 1.0) & (cells.obs["perturbation"] != "control")
    cells.obs.loc[low, "dose"] = 0.0
    with pytest.warns(
        AssumptionWarning, match=rf"obs\['dose'\] is 0 in {low.sum()} cells that are labelled as perturbed"
    ):
        tp.MeanShift.setup_anndata(cells, **KEYS, dose_key="dose")
