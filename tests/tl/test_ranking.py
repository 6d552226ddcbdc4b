from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.errors import AssumptionWarning, ControlError, GeneError, OptionError

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(
        n_contexts=4, n_perturbations=12, n_genes=80, n_cells=40, effect_size=0.8, embedding_dimension=4
    )


@pytest.fixture(scope="module")
def model(cells):
    vectors = pd.DataFrame(cells.uns["simulation"]["embedding"])
    # two that the model never saw: one beside a known one, one far away
    vectors.loc["near"], vectors.loc["far"] = vectors.loc["P3"] * 1.02, 40 * np.ones(4)
    held = cells[cells.obs["context"] != "context_0"].copy()
    tp.KernelTransport.setup_anndata(held, **KEYS)
    model = tp.KernelTransport(held, embeddings=vectors)
    model.train()
    return model


def rank(model, cells, desired, **options):
    return tp.tl.rank_targets(model, desired, adata=cells, contexts="context_0", progress=False, **options)


@pytest.fixture
def truth(cells):
    table = cells.varm["true_effects"]
    return {name: table[f"context_0: {name}"] for name in ("P3", "P7")}


def test_the_perturbation_behind_a_signature_comes_first(model, cells, truth) -> None:
    for name, signature in truth.items():
        ranking = rank(model, cells, signature)
        assert ranking["perturbation"].iloc[0] == name
        assert ranking["rank"].tolist() == list(range(1, 13))
        assert (ranking["ci_low"] <= ranking["score"]).all() and (ranking["score"] <= ranking["ci_high"]).all()
        away = rank(model, cells, signature, direction="away")
        assert away["perturbation"].iloc[-1] == name
        assert away["score"].iloc[-1] == pytest.approx(-ranking["score"].iloc[0], abs=1e-6)


def test_the_perturbation_that_made_these_cells_is_found(model, cells) -> None:
    made = cells[(cells.obs["perturbation"] == "P5") & (cells.obs["context"] == "context_0")].copy()
    ranking = rank(model, cells, made)
    assert ranking["perturbation"].iloc[0] == "P5"
    assert 0.3 < ranking["score"].iloc[0] < 1


def test_genes_that_are_to_go_up_do_so_under_the_first(model, cells, truth) -> None:
    wanted = truth["P7"].nlargest(5).index.tolist()
    best = rank(model, cells, wanted)["perturbation"].iloc[0]
    sizes = {name: cells.varm["true_effects"].loc[wanted, f"context_0: {name}"].mean() for name in ("P7", best)}
    assert sizes[best] >= 0.5 * sizes["P7"]


def test_what_the_model_cannot_know_is_not_ranked(model, cells, truth) -> None:
    ranking = rank(model, cells, truth["P3"], candidates=["P3", "P1", "near", "far", "unheard"])
    said = ranking.set_index("perturbation")["abstained"]
    assert said[["P3", "near"]].tolist() == ["", ""]
    assert "too far" in said["far"] and "no vector" in said["unheard"]
    assert ranking.set_index("perturbation")["rank"].isna().sum() == 2
    assert set(ranking["perturbation"].iloc[:2]) == {"P3", "near"}
    assert ranking.set_index("perturbation").loc["near", "situation"] == "perturbation + context"


def test_a_pair_can_be_a_candidate(model, cells, truth) -> None:
    ranking = rank(model, cells, truth["P3"] + truth["P7"], candidates=["P1", "P2", "P3", "P3+P7"])
    assert ranking["perturbation"].iloc[0] == "P3+P7"


def test_a_target_that_works_in_one_context_is_specific(model, cells, truth) -> None:
    ranking = tp.tl.rank_targets(model, truth["P3"], adata=cells, contexts=["context_0", "context_1"], progress=False)
    assert len(ranking) == 24
    row = ranking.set_index(["context", "perturbation"])
    expected = row.loc[("context_0", "P3"), "score"] - row.loc[("context_1", "P3"), "score"]
    assert row.loc[("context_0", "P3"), "specificity"] == pytest.approx(expected)


def test_the_table_is_written_and_a_retrospective_beats_chance(model, cells, truth) -> None:
    ranking = rank(model, cells, truth["P3"])
    assert cells.uns["transpert"]["targets"].equals(ranking)
    table = cells.varm["true_effects"]
    correlation = {name: np.corrcoef(table[f"context_0: P{name}"], truth["P3"])[0, 1] for name in range(12)}
    right = {f"P{name}" for name in sorted(correlation, key=correlation.get)[-4:]}
    judged = tp.tl.score_ranking(ranking, right, at=[4])
    assert judged["auc"] > 0.8 and judged["enrichment_4"] >= 2


def test_a_model_without_intervals_ranks_and_says_so(cells, truth) -> None:
    tp.MeanShift.setup_anndata(cells, **KEYS)
    model = tp.MeanShift(cells)
    model.train()
    with pytest.warns(AssumptionWarning, match="no intervals"):
        ranking = rank(model, cells, truth["P7"])
    assert ranking["perturbation"].iloc[0] == "P7"
    assert ranking["ci_low"].isna().all()


def test_wrong_genes_contexts_and_options_are_refused(model, cells, truth) -> None:
    with pytest.raises(GeneError, match="0 genes"):
        rank(model, cells, truth["P3"].rename(lambda name: name.upper()))
    with pytest.raises(ControlError, match="nowhere"):
        tp.tl.rank_targets(model, truth["P3"], adata=cells, contexts="nowhere", progress=False)
    with pytest.raises(OptionError, match="sideways"):
        rank(model, cells, truth["P3"], direction="sideways")


def test_retrieval_of_a_hand_made_ranking() -> None:
    found = tp.scaling.retrieval(list("abcdefgh"), {"a", "d"}, at=[2, 4])
    assert found["recall_2"] == 0.5 and found["recall_4"] == 1
    assert found["enrichment_4"] == pytest.approx(0.5 / 0.25)
    assert found["auc"] == pytest.approx((6 + 4) / 12)
