from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from transpert import pp
from transpert.errors import OptionError, SplitError, UnknownNameError, UnknownOptionError


def cells(rows, columns, n_cells: int = 2) -> anndata.AnnData:
    obs = pd.DataFrame([row for row in rows for _ in range(n_cells)], columns=columns)
    obs.index = [f"c{i}" for i in range(len(obs))]
    return anndata.AnnData(np.zeros((len(obs), 1)), obs=obs)


def screen(labels, contexts=("x", "y", "z", "w")) -> anndata.AnnData:
    rows = [(label, context) for context in contexts for label in ("control", *labels)]
    return cells(rows, ["perturbation", "context"])


def held(adata, column="perturbation", split="test") -> set[str]:
    return set(adata.obs.loc[adata.obs["split"] == split, column])


def situations(adata) -> pd.DataFrame:
    groups = adata.uns["split"]["groups"]
    return groups[groups["split"] == "test"]


ABOUT = {"by": "perturbation", "context_keys": "context"}


@pytest.mark.parametrize("seed", range(4))
def test_a_pathway_is_held_out_whole(seed) -> None:
    adata = screen("ABCDEFG")
    pp.split(adata, **ABOUT, fraction=0.3, pathways={"one": ["A", "B"], "two": ["C", "D", "not here"]}, seed=seed)
    assert held(adata) in ({"A", "B"}, {"C", "D"})


def test_clusters_of_vectors_are_held_out_whole_and_the_split_can_be_made_again() -> None:
    adata = screen("ABCDEFGHIJ")
    centres = {"A": 0.0, "B": 0.1, "C": 0.2, "D": 9.0, "E": 9.1, "F": 9.2, "G": 20.0, "H": 20.1, "I": 20.2, "J": 20.3}
    vectors = pd.DataFrame({name: [value, -value] for name, value in centres.items()}).T
    pp.split(adata, **ABOUT, fraction=0.3, vectors=vectors, n_clusters=3, seed=1)
    assert held(adata) in ({"A", "B", "C"}, {"D", "E", "F"}, {"G", "H", "I", "J"})
    pp.split(adata, key_added="again", **json.loads(adata.uns["split"]["arguments"]))
    assert adata.obs["again"].tolist() == adata.obs["split"].tolist()


def test_the_farthest_context_is_held_out() -> None:
    adata = screen("AB")
    adata.X = np.log1p([[9.0 if context == "z" else 1.0] for context in adata.obs["context"]])
    pp.split(adata, by="context", choice="farthest", fraction=0.25, context_keys="context")
    assert held(adata, "context") == {"z"}


def test_few_shot_contexts_keep_so_many_perturbations_in_training() -> None:
    adata = screen("ABCDE")
    pp.split(adata, by="context", known_perturbations=2, fraction=0.5, context_keys="context", seed=3)
    groups = adata.uns["split"]["groups"]
    per_context = groups[~groups["is_control"]].groupby("context")["split"].apply(lambda s: (s == "train").sum())
    assert sorted(per_context) == [2, 2, 5, 5]
    with pytest.raises(SplitError, match="5 perturbations"):
        pp.split(adata, by="context", known_perturbations=5, context_keys="context")


def test_groups_that_are_new_in_both_are_told_from_those_new_in_one() -> None:
    adata = screen("ABCDE")
    pp.split(adata, by="both", fraction=0.25, context_keys="context")
    counts = situations(adata)["situation"].value_counts().to_dict()
    assert counts == {"context": 4, "perturbation": 3, "perturbation + context": 1}


@pytest.mark.parametrize(("seen", "situation"), [(0, "0 of 2"), (1, "1 of 2"), (2, "2 of 2")])
def test_combinations_have_as_many_seen_parts_as_was_asked_for(seen, situation) -> None:
    adata = screen(["A", "B", "C", "D", "E", "F", "A+B", "C+D", "E+F", "A+C", "B+D"], contexts=("x",))
    pp.split(adata, by="combination", seen_parts=seen, fraction=0.2, context_keys="context", seed=2)
    found = situations(adata)
    assert f"combination, {situation} parts seen" in set(found["situation"])
    if seen < 2:  # nothing in training has an unseen part
        unseen = set(found.loc[found["situation"] == "perturbation", "perturbation"])
        trained = held(adata, split="train")
        assert unseen and not any(set(label.split("+")) & unseen for label in trained)


@pytest.mark.parametrize(("choice", "expected"), [("outside", {("A", 10.0), ("B", 4.0)}), ("inside", {("A", 1.0)})])
def test_doses_inside_or_outside_the_range_are_held_out(choice, expected) -> None:
    rows = [("control", np.nan), ("A", 0.1), ("A", 1.0), ("A", 10.0), ("B", 2.0), ("B", 4.0), ("C", 5.0)]
    adata = cells(rows, ["perturbation", "dose"])
    pp.split(adata, by="dose", choice=choice, dose_key="dose")
    test = adata.obs[adata.obs["split"] == "test"]
    assert set(zip(test["perturbation"], test["dose"], strict=True)) == expected
    assert set(situations(adata)["situation"]) == {"dose"}


def test_a_time_and_a_donor_are_held_out_whole() -> None:
    rows = [(label, hours, donor) for label in ("control", "A", "B") for hours in (6.0, 24.0, 48.0) for donor in "pqr"]
    adata = cells(rows, ["perturbation", "time", "donor"])
    pp.split(adata, by="time", choice="outside", time_key="time")
    assert held(adata, "time") == {48.0}
    pp.split(adata, by="batch", batch_key="donor", fraction=0.3)
    assert len(held(adata, "donor")) == 1 and set(situations(adata)["situation"]) == {"batch"}
    assert set(adata.obs.loc[adata.obs["perturbation"] == "control", "split"]) == {"train"}


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (OptionError, {"by": "dose"}),
        (OptionError, {"by": "perturbation", "choice": "farthest"}),
        (OptionError, {"by": "pair", "pathways": {"one": ["A"]}}),
        (
            OptionError,
            {"by": "perturbation", "pathways": {"one": ["A"]}, "vectors": pd.DataFrame([[1.0]], index=["A"])},
        ),
        (UnknownNameError, {"by": "perturbation", "vectors": pd.DataFrame([[1.0]], index=["A"])}),
        (SplitError, {"by": "perturbation", "pathways": {"one": ["Z"]}}),
        (SplitError, {"by": "combination", "seen_parts": 0}),
        (UnknownOptionError, {"by": "context", "known_perturbation": 2}),
    ],
)
def test_options_that_mean_nothing_are_refused_and_nothing_is_written(error, arguments) -> None:
    adata = screen("ABC")
    with pytest.raises(error):
        pp.split(adata, context_keys="context", **arguments)
    assert "split" not in adata.obs
