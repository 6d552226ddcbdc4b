from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import transpert as tp
from transpert.model import SCALE, JoiningOptions
from transpert.model.scale.network_prediction import encode_cells, mean_shifts, transport_population
from transpert.nn import ConditionBatch, EncoderOptions, NetworkOptions, NetworkSizes, TransportNetwork

N_GENES = 8


@pytest.fixture
def network() -> TransportNetwork:
    torch.manual_seed(0)
    made = TransportNetwork(
        NetworkSizes(N_GENES, N_GENES, 3, (2,), 2), NetworkOptions(EncoderOptions(width=16, depth=1))
    )
    torch.nn.init.normal_(made.field.out.weight, std=0.3)
    return made.eval()


def condition() -> ConditionBatch:
    one = torch.ones(1, 1, dtype=torch.long)
    return ConditionBatch(one, torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1), one, one[0])


def test_the_mean_shift_is_that_of_all_cells_when_sets_differ_in_size(network) -> None:
    states = np.random.default_rng(0).random((23, N_GENES), dtype=np.float32)
    encoded = encode_cells(network, states)
    asked = {"set_size": 7, "seed": 0}  # sets of 8, 8 and 7 cells
    mean, each, latent = transport_population(network, encoded, condition(), **asked)
    alone, none, same_latent = transport_population(network, encoded, condition(), each_cell=False, **asked)
    assert each.shape == (23, N_GENES) and np.abs(mean).max() > 1e-3 and none is None
    np.testing.assert_allclose(mean, each.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(alone, mean, atol=1e-6)
    np.testing.assert_array_equal(latent, same_latent)


@pytest.mark.parametrize("prior", ["control", "gaussian"])
def test_many_conditions_at_once_move_a_population_as_one_after_the_other(network, prior, monkeypatch) -> None:
    monkeypatch.setattr("transpert.model.scale.network_prediction._CELLS_AT_ONCE", 50)  # two conditions at a time
    options = network.options
    network.options = dataclasses.replace(options, flow=dataclasses.replace(options.flow, prior=prior))
    encoded = encode_cells(network, np.random.default_rng(1).random((23, N_GENES), dtype=np.float32))
    asked = [dataclasses.replace(condition(), perturbation=torch.full((1, 1), code)) for code in (1, 2, 0, 1, 2)]
    alone = [transport_population(network, encoded, one, set_size=7, seed=3, each_cell=False)[0] for one in asked]
    codes = torch.stack([one.perturbation[0] for one in asked])
    together = dataclasses.replace(condition()[torch.zeros(5, dtype=torch.long)], perturbation=codes)
    found = mean_shifts(network, encoded, together, set_size=7, seed=3)
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3 and np.abs(found[2]).max() == 0


def test_added_shifts_and_effects_are_those_of_the_transported_cells() -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=20, seed=0)
    SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    model = SCALE(adata, joining=JoiningOptions(folds=1, gate=0.5))
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    asked = {"contexts": {"context": "context_0"}, "perturbations": "P0", "include_controls": False, "progress": False}
    added, expected = (model.predict(readout=kind, **asked) for kind in ("added", "expected"))
    # both meet the predicted mean, one by a shift of every cell and one by the pattern of the network
    unclipped = (added.to_df().to_numpy() > 0).all(axis=0)
    assert unclipped.any()
    np.testing.assert_allclose(
        added.to_df().to_numpy().mean(axis=0)[unclipped], expected.to_df().to_numpy().mean(axis=0)[unclipped], atol=1e-2
    )
    np.testing.assert_allclose(added.obsm["X_scale"], expected.obsm["X_scale"], atol=1e-6)
    # effects of many perturbations, of which a network is asked at once, are those of each alone
    where = {"context": "context_0"}
    alone = np.column_stack([model.get_effects(where, name) for name in ("P0", "P1")])
    np.testing.assert_allclose(model.get_effects(where, ["P0", "P1"]), alone, atol=1e-5)
    moved = added[added.obs["source"] == "predicted"].to_df().to_numpy().mean(axis=0)
    controls = adata[(adata.obs["context"] == "context_0") & (adata.obs["perturbation"] == "control")]
    before = controls.X.toarray().mean(axis=0)
    implied = np.log(np.expm1(moved) + 0.05) - np.log(np.expm1(before) + 0.05)
    np.testing.assert_allclose(alone[unclipped, 0], implied[unclipped], atol=1e-2)
