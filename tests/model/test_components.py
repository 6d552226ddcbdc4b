"""Networks that read and write components of cells in place of genes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import transpert as tp
from transpert.model import JoiningOptions, ScaleOptions, TrainingOptions
from transpert.model.scale.components import fit_components, fit_to_cells, in_components
from transpert.model.scale.folds import assign_folds

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SETUP = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


def screen(**options):
    return tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=120, n_cells=40, **options)


def make(adata, **options):
    tp.SCALE.setup_anndata(adata, **SETUP)
    training = TrainingOptions(steps=40, steps_per_epoch=20, set_size=16, sets_per_batch=6)
    return tp.SCALE(adata, preset="tiny", **{"n_components": 12, "training": training, **options})


@pytest.mark.parametrize(
    ("n_cells", "n_genes", "embedded", "kind", "expected"),
    [
        (50_000, 18_080, False, "stack", 256),
        (50_000, 2_560, False, "stack", 256),
        (50_000, 2_559, False, "stack", None),
        (50_000, 18_080, True, "stack", None),
        (50_000, 18_080, False, "residual", None),
        (5_000_000, 18_080, False, "stack", None),
    ],
)
def test_components_are_used_where_they_save_time_and_fit_into_memory(
    n_cells, n_genes, embedded, kind, expected
) -> None:
    options = dataclasses.replace(ScaleOptions.preset("auto"), joining=JoiningOptions(kind=kind))
    assert fit_to_cells(options, n_cells, n_genes, embedded=embedded) == expected
    assert fit_to_cells(ScaleOptions.preset("small"), n_cells, n_genes, embedded=embedded) is None


def test_the_summary_says_what_the_networks_read() -> None:
    adata = screen()
    assert "networks read and write 12 components of the cells" in make(adata).summary()
    few = make(adata, n_components=13)
    assert few.options.n_components is None and "networks read and write every gene" in few.summary()


def test_components_of_a_network_know_nothing_of_the_groups_that_it_does_not_see() -> None:
    adata = screen()
    model = make(adata)
    groups, matching = model._training_groups()
    folds = assign_folds(groups, "context", 2, seed=0)
    effects = model._training_effects(groups, matching)
    hidden = np.isin(groups.codes, np.flatnonzero(folds.left_out[:, 0]))
    changed = adata.copy()
    counts = changed.layers["counts"].tolil()
    counts[np.flatnonzero(hidden), :5] = 60
    changed.layers["counts"] = counts.tocsr()
    changed.obs.loc[hidden, "library_size"] += 300
    changed.X = tp.pp.log1p_per_10k(changed.layers["counts"], changed.obs["library_size"].to_numpy())
    other = make(changed)
    # mean and scale of the genes are those of all cells, as without components
    moved = dataclasses.replace(other._training_effects(groups, matching), statistics=effects.statistics)
    seen = folds.seen(3)
    before, after = (
        fit_components(source.cells.source(), found, groups, seen, 12, seed=0)
        for source, found in ((model, effects), (other, moved))
    )
    assert torch.equal(before[0].into, after[0].into)
    assert not torch.equal(before[2].into, after[2].into)


def test_the_cells_are_read_as_each_network_reads_them() -> None:
    model = make(screen())
    groups, matching = model._training_groups()
    effects = model._training_effects(groups, matching)
    seen = np.ones((len(groups), 2), dtype=bool)
    seen[groups.perturbed_groups[:2], 0] = False
    components = fit_components(model.cells.source(), effects, groups, seen, 12, seed=0)
    read = in_components(model.cells.source(), groups, components)
    values = torch.from_numpy(model.cells.log1p())
    expected = torch.cat([own(values) for own in components], dim=1)
    torch.testing.assert_close(torch.from_numpy(read.embedding), expected, atol=1e-4, rtol=1e-4)


def test_networks_learn_effects_in_components_and_are_saved_with_them(tmp_path) -> None:
    adata = screen(seed=1)
    adata.obs["split"] = np.where(
        (adata.obs["context"] == "context_0") & (adata.obs["perturbation"] == "P0"), "test", "train"
    )
    tp.SCALE.setup_anndata(adata, split_key="split", **SETUP)
    training = TrainingOptions(steps=150, steps_per_epoch=50, set_size=16, sets_per_batch=6)
    joining = JoiningOptions(folds=1, gate=1.0)
    model = tp.SCALE(adata, preset="tiny", n_components=12, training=training, joining=joining)
    model.train(**QUIET)

    def shift(asked) -> np.ndarray:
        effects = asked.get_effects({"context": "context_0"}, perturbations="P0")
        return effects.to_numpy().ravel()

    truth = adata.varm["true_effects"]["context_0: P0"].to_numpy()
    assert np.corrcoef(shift(model), truth)[0, 1] > 0.5
    model.save(tmp_path / "model")
    np.testing.assert_allclose(shift(tp.SCALE.load(tmp_path / "model", adata)), shift(model), atol=1e-6)
