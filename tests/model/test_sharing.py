"""Models for others: the hub of scvi-tools on a local folder, and predictors without scvi-tools."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import transpert as tp
from transpert.errors import DependencyError, GeneError, ModelFileError, NotTrainedError, OptionError, UnknownNameError
from transpert.nn import ConditionOptions, EncoderOptions, FlowOptions, SetOptions
from transpert.transport import ExportedPredictor

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts", "split_key": "split"}
ASKED = {"context": "context_0"}


@pytest.fixture(scope="module")
def cells():
    cells = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=40)
    tp.pp.split(cells, holdout=ASKED)
    tp.KernelTransport.setup_anndata(cells, **KEYS)
    return cells


@pytest.fixture(scope="module")
def model(cells):
    model = tp.KernelTransport(cells)
    model.train()
    return model


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A Hub that is a folder."""
    hub = pytest.importorskip("huggingface_hub")
    place = tmp_path / "hub"

    class Api:
        token = None

        def __init__(self, token=None) -> None: ...

        def upload_file(self, *, path_or_fileobj, path_in_repo, repo_id, token) -> None:
            (place / repo_id / path_in_repo).write_bytes(path_or_fileobj)

        def upload_folder(self, *, folder_path, repo_id, token) -> None:
            shutil.copytree(folder_path, place / repo_id, dirs_exist_ok=True)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "create_repo", lambda name, **_: (place / name).mkdir(parents=True, exist_ok=True))
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(place / name))
    monkeypatch.setattr(hub.ModelCard, "push_to_hub", lambda self, name, **_: self.save(place / name / "README.md"))
    return place


def test_a_model_goes_to_the_hub_and_back(cells, model, hub, recwarn) -> None:
    pred = model.predict(ASKED, progress=False)
    scores = tp.tl.evaluate(pred, cells, metrics=["pearson_delta"], baselines=["MeanShift"], progress=False)
    card = model.push_to_hub("lab/kernel", license="cc-by-4.0", scores=scores, description="From **our** laboratory.")
    again = tp.KernelTransport.from_hub("lab/kernel", cells)
    np.testing.assert_array_equal(again.predict(ASKED, progress=False).X.toarray(), pred.X.toarray())
    assert (hub / "lab/kernel/README.md").read_text(encoding="utf-8").strip() == card.strip()
    metadata = json.loads((hub / "lab/kernel/_scvi_required_metadata.json").read_text())
    assert metadata["model_cls_name"] == "KernelTransport" and metadata["model_parent_module"] == "transpert.model"
    assert not [w for w in recwarn if "collection" in str(w.message)]
    from scvi.hub import HubModel

    shared = HubModel(str(hub / "lab/kernel"))
    assert shared.metadata.model_cls_name == "KernelTransport"
    shared.load_model(cells, accelerator="cpu")  # which scvi-tools passes on with device="auto"
    np.testing.assert_array_equal(shared.model.predict(ASKED, progress=False).X.toarray(), pred.X.toarray())


def test_the_card_says_what_others_have_to_know(cells, model, hub) -> None:
    pred = model.predict(ASKED, progress=False)
    scores = tp.tl.evaluate(pred, cells, metrics=["pearson_delta"], baselines=["MeanShift"], progress=False)
    card = model.push_to_hub("lab/kernel", license="cc-by-4.0", scores=scores)
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc-by-4.0" and head["library_name"] == "scvi-tools"
    assert "model_cls_name:KernelTransport" in head["tags"]
    mean = scores[(scores["context"] == "mean") & (scores["model"] == "KernelTransport")].iloc[0]
    numbers = " | ".join(f"{mean[key]:.3f}".rstrip("0") for key in ("value", "baseline", "ceiling"))
    assert f"| pearson_delta | {numbers} |" in card
    for words in (
        "Perturbations that were trained on: P0, P1.",
        "By context.",
        "groups divided between splits",
        "refused",
    ):
        assert words in card
    assert "without scoring it" in model.push_to_hub("lab/other", license="mit")


def test_what_cannot_be_shared_is_refused(cells, model, hub, tmp_path, monkeypatch) -> None:
    with pytest.raises(NotTrainedError):
        tp.KernelTransport(cells).push_to_hub("lab/kernel", license="mit")
    model.push_to_hub("lab/kernel", license="mit", dir_path=tmp_path / "kept")
    assert (tmp_path / "kept" / "model.json").exists()
    with pytest.raises(ModelFileError, match="the folder exists"):
        model.push_to_hub("lab/kernel", license="mit", dir_path=tmp_path / "kept")
    (hub / "lab/kernel/model.pt").write_bytes(b"code")
    with pytest.raises(ModelFileError, match="pickle"):
        tp.KernelTransport.from_hub("lab/kernel", cells)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match=r"transpert\[hub\]"):
        tp.KernelTransport.from_hub("lab/kernel", cells)


def test_an_exported_predictor_makes_the_counts_of_the_model(cells, model, tmp_path) -> None:
    model.export(tmp_path / "plain", ASKED)
    predictor = ExportedPredictor.load(tmp_path / "plain")
    assert predictor.populations == ("context_0: P0", "context_0: P1") and predictor.model == "KernelTransport"
    control = cells[(cells.obs["context"] == "context_0") & (cells.obs["perturbation"] == "control")]
    for label in ("P0", "P1"):
        pred = model.predict(ASKED, [label], progress=False, seed=3)
        expected = pred[pred.obs["source"] == "predicted"]
        own = control[expected.obs["control_id"].to_numpy()]
        found = predictor.predict(own.layers["counts"], own.obs["library_size"], f"context_0: {label}", seed=3)
        np.testing.assert_array_equal(found.toarray(), expected.layers["counts"].toarray())
    shuffled = control.copy()[:, ::-1].copy()
    found = predictor.predict(
        shuffled.layers["counts"], control.obs["library_size"], "context_0: P0", genes=shuffled.var_names
    )
    straight = predictor.predict(control.layers["counts"], control.obs["library_size"], "context_0: P0")
    np.testing.assert_array_equal(found.toarray(), straight.toarray())


ENCODERS = {
    "mlp": EncoderOptions("mlp", width=16),
    "llama": EncoderOptions("llama", width=16, depth=1, n_tokens=4, n_heads=4, n_key_heads=2),
}


def opened(cells, encoder: str, *, n_top: int | None = None, kind: str = "stack", flow=None, **options) -> tp.SCALE:
    """A model whose networks count."""
    tp.SCALE.setup_anndata(cells, **KEYS, n_top_genes=n_top)
    model = tp.SCALE(
        cells,
        encoder=ENCODERS[encoder],
        flow=FlowOptions(**{"depth": 1, "n_heads": 4, "n_key_heads": 2, **(flow or {})}),
        training=tp.model.TrainingOptions(steps=10, steps_per_epoch=5, set_size=12, sets_per_batch=2),
        joining=tp.model.JoiningOptions(kind, folds=1, gate=0.7),
        **options,
    )
    model.train(accelerator="cpu", early_stopping=False, enable_progress_bar=False)
    return model


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("mlp", {"n_components": 2}),
        ("llama", {"n_top": 15, "conditions": ConditionOptions("cross"), "sets": SetOptions("mean")}),
        ("mlp", {"kind": "residual", "flow": {"steps": 2, "predict": "v", "conversion": "z0"}}),
    ],
)
def test_an_exported_predictor_says_of_every_cell_what_open_networks_say(cells, tmp_path, encoder, options) -> None:
    model = opened(cells, encoder, **options)
    assert bool(model.components) == ("n_components" in options)
    pred = model.predict(ASKED, progress=False, seed=3)
    model.export(tmp_path / "plain", ASKED)
    predictor = ExportedPredictor.load(tmp_path / "plain")
    control = cells[(cells.obs["context"] == "context_0") & (cells.obs["perturbation"] == "control")]
    for label in ("P0", "P1"):
        expected = pred[(pred.obs["source"] == "predicted") & (pred.obs["perturbation"] == label)]
        own = control[expected.obs["control_id"].to_numpy()]
        asked = own.layers["counts"], own.obs["library_size"], f"context_0: {label}"
        found, wanted = predictor.predict(*asked, seed=3).toarray(), expected.layers["counts"].toarray()
        assert np.mean(found != wanted) < 0.002
        closed = dataclasses.replace(predictor, network=None)  # the anchor alone says something else
        assert np.mean(closed.predict(*asked, seed=3).toarray() != wanted) > 0.01


def test_networks_that_counts_do_not_describe_are_not_exported(cells, tmp_path) -> None:
    with pytest.raises(OptionError, match="draw noise"):
        opened(cells, "mlp", flow={"prior": "gaussian"}).export(tmp_path / "plain", ASKED)


def test_an_exported_predictor_needs_no_scvi_tools(model, tmp_path) -> None:
    model.export(tmp_path / "plain", ASKED)
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('scvi', 'torch', 'lightning'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import numpy as np; from transpert.transport import ExportedPredictor\n"
        f"p = ExportedPredictor.load({str(tmp_path / 'plain')!r})\n"
        "print(p.predict(np.ones((3, 20)), np.full(3, 1e4), p.populations[0]).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(3, 20)", done.stderr


def test_damaged_and_unknown_things_are_named(model, tmp_path) -> None:
    with pytest.raises(ModelFileError, match="no predictor.json"):
        ExportedPredictor.load(tmp_path)
    model.export(tmp_path / "plain", ASKED)
    with pytest.raises(ModelFileError, match="the folder exists"):
        model.export(tmp_path / "plain", ASKED)
    model.export(tmp_path / "plain", ASKED, overwrite=True)
    predictor = ExportedPredictor.load(tmp_path / "plain")
    with pytest.raises(UnknownNameError, match="Known: 'context_0: P0', 'context_0: P1'"):
        predictor.predict(np.ones((2, 20)), np.full(2, 1e4), "context_0: P7")
    with pytest.raises(GeneError, match="19 genes, not 20"):
        predictor.predict(np.ones((2, 19)), np.full(2, 1e4), "context_0: P0")
    with pytest.raises(GeneError, match="20 of 20 genes are missing"):
        predictor.predict(np.ones((2, 1)), np.full(2, 1e4), "context_0: P0", genes=["other"])
    said = json.loads((tmp_path / "plain" / "predictor.json").read_text())
    (tmp_path / "plain" / "predictor.json").write_text(json.dumps({**said, "genes": said["genes"][1:]}))
    with pytest.raises(ModelFileError, match="does not have its checksum"):
        ExportedPredictor.load(tmp_path / "plain")
    (tmp_path / "plain" / "predictor.safetensors").write_bytes(b"x")
    with pytest.raises(ModelFileError):
        ExportedPredictor.load(tmp_path / "plain")
