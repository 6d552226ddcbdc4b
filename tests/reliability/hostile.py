"""Files of every kind that is read, and what may be wrong with each."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse
from tests.reliability.fuzzing import place_of
from tests.reliability.odd import KEYS
from tests.reliability.workshop import Workshop

import transpert as tp
from transpert.errors import TranspertError

# --- what is read ------------------------------------------------------------------------------------------------


@dataclass
class Kind:
    """A kind of file or folder: where a good one is, and what reads it."""

    name: str
    path: Path
    use: Callable[[Path], Any]
    sealed: bool = False  # with checksums, so that every change is seen

    def files(self) -> list[str]:
        """Return the files of a folder, or the file itself as an empty name."""
        if self.path.is_file():
            return [""]
        return sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())


def kinds(shop: Workshop) -> list[Kind]:
    """Make a good file of every kind."""
    folder = shop.folder / "good"
    folder.mkdir()
    raw = shop.raw()
    raw.write_h5ad(folder / "raw.h5ad")
    raw.write_zarr(folder / "raw.zarr")
    shop.pred.write_zarr(folder / "pred.zarr")
    checkpointed(shop, folder / "checkpoints", resume=False)
    out = shop.fresh

    def stored(path: Path) -> str:
        return cells_digest(tp.data.build_store(path, out(), shop.design).to_anndata())

    def collection(read: Callable[..., Any], **options: Any) -> Callable[[Path], str]:
        return lambda path: cells_digest(read(path, out(), shop.design, **options).to_anndata())

    def shell(*words: str) -> Callable[[Path], Any]:
        return lambda path: shop.shell(*words, path) and None

    def studied(path: Path) -> str:
        split = tp.groups.Design("perturbation", "control", ("context",), split_key="split")
        return table_digest(tp.tl.scaling_study(
            shop.copy(), split, models="MeanShift", axes={"cells": [0.5, 1.0]}, seeds=1, metrics="mae", out=path,
            progress=False,
        ).table.drop(columns="seconds"))  # fmt: skip

    def packed(path: Path) -> None:
        tp.tl.to_vcc(
            path, out().with_suffix(".vcc"), genes=list(shop.adata.var_names), perturbations=["P0", "P1"], n_cells=3,
            contexts=["context_0", "context_1", "context_2"], layer="counts",
        )  # fmt: skip

    def listed(path: Path) -> None:
        tp.tl.to_vcc(shop.small(), out().with_suffix(".vcc"), genes=path, perturbations=["P0", "P1"], n_cells=3,
                     contexts=["context_0", "context_1", "context_2"], layer="counts")  # fmt: skip

    def predicted(path: Path) -> str:
        predictor = tp.transport.ExportedPredictor.load(path)
        counts = shop.adata.layers["counts"][:9]
        return cells_digest(predictor.predict(counts, np.full(9, 1e4), predictor.populations[0]))

    scored = shop.scores.copy()
    scored.to_csv(folder / "scores.csv", index=False)
    shop.text("good/genes.csv", "\n".join(shop.adata.var_names))
    described = tp.transport.ExportedPredictor
    shop.anchored.export(folder / "exported")
    assert described.load(folder / "exported").populations
    good = [
        ("h5ad, store", folder / "raw.h5ad", stored, False),
        ("h5ad, evaluate", shop.folder / "pred.h5ad", lambda path: table_digest(
            tp.tl.evaluate(path, shop.copy(), metrics="mae", n_bootstrap=0, ceiling=False, progress=False)), False),
        ("h5ad, truth", shop.folder / "truth.h5ad", lambda path: table_digest(tp.tl.evaluate(
            shop.prediction(), path, metrics="mae", baselines="NoChange", n_bootstrap=0, ceiling=False,
            progress=False)), False),
        ("h5ad, embedding", folder / "raw.h5ad", lambda path: tp.conditions.Embedding.from_h5ad(path).values.sum(),
         False),
        ("h5ad, init", folder / "raw.h5ad", lambda path: shop.shell("init", path, __out=out()) and None, False),
        ("h5ad, report", shop.folder / "pred.h5ad", lambda path: shop.shell(
            "evaluate", path, shop.folder / "truth.h5ad", __metrics="mae", __n_bootstrap=0, __out=out()) and None,
         False),
        ("h5ad, public", folder / "raw.h5ad", lambda path: tp.datasets.papalexi21(path=path).shape, False),
        ("h5ad, package", shop.folder / "small.h5ad", packed, False),
        ("zarr, store", folder / "raw.zarr", stored, False),
        ("zarr, evaluate", folder / "pred.zarr", lambda path: tp.tl.evaluate(
            path, shop.copy(), metrics="mae", n_bootstrap=0, ceiling=False, progress=False).shape, False),
        ("SCDL", shop.scdl(), collection(tp.data.from_scdl), False),
        ("annbatch", shop.annbatch(), collection(tp.data.from_annbatch), False),
        ("cell-load", shop.cell_load(), collection(tp.data.from_cell_load, layer="counts"), False),
        ("split, TOML", shop.cell_load(), lambda path: tp.pp.load_split(shop.copy(), path, design=shop.design), False),
        ("split, JSON", split_file(shop, folder), lambda path: tp.pp.load_split(shop.copy(), path), False),
        ("npz", shop.vectors(), lambda path: tp.conditions.Embedding.from_npz(path).values.sum(), False),
        ("GAF", shop.annotations(), lambda path: tp.conditions.gene_ontology(
            path, n_dimensions=1, min_genes=2, max_share=0.9, taxon=None).values.sum(), False),
        ("settings", shop.settings(), shell("split"), False),
        ("gene list", folder / "genes.csv", listed, False),
        ("model", shop.folder / "model", lambda path: cells_digest(tp.MeanShift.load(path, shop.copy()).predict(
            progress=False)), True),
        ("checkpoint", folder / "checkpoints", lambda path: checkpointed(shop, path, resume="auto"), True),
        ("store", shop.folder / "store", lambda path: cells_digest(tp.data.Store(path).to_anndata()), True),
        ("store, training", shop.folder / "store", lambda path: cells_digest(stored_model(path).predict(
            progress=False)), True),
        ("registered", shop.registered, lambda path: table_digest(
            tp.tl.score_registered(path, shop.copy())), True),
        ("study", shop.folder / "study", studied, False),
        ("exported", folder / "exported", predicted, True),
    ]  # fmt: skip
    return [Kind(*each) for each in good]


def split_file(shop: Workshop, folder: Path) -> Path:
    """Write a split as JSON."""
    adata = shop.copy()
    tp.pp.split(adata, holdout={"context": "context_0"}, **KEYS)
    tp.pp.save_split(adata, folder / "split.json")
    return folder / "split.json"


def stored_model(path: Path) -> Any:
    """Train on a store."""
    store = tp.data.Store(path)
    tp.MeanShift.setup_store(store)
    model = tp.MeanShift(store)
    model.train()
    return model


def checkpointed(shop: Workshop, folder: Path, *, resume: Any) -> str:
    """Train a little, or go on with a training."""
    adata = shop.copy()
    tp.SCALE.setup_anndata(adata, layer="counts", **KEYS)
    training = tp.model.TrainingOptions(steps=2, steps_per_epoch=1)
    model = tp.SCALE(adata, preset="tiny", joining="always", training=training)
    model.train(
        accelerator="cpu", enable_progress_bar=False, checkpoint_dir=folder, resume=resume, checkpoint_every_n_steps=1
    )
    weights = [value.numpy().tobytes() for value in model.module.state_dict().values()]
    return hashlib.blake2b(b"".join(weights)).hexdigest()


def cells_digest(cells: Any) -> str:
    """Return a digest of counts and names."""
    matrix = sparse.csr_matrix(cells.X if isinstance(cells, ad.AnnData) else cells)
    names = (*cells.obs_names, *cells.var_names, cells.obs.astype(str).to_csv()) if hasattr(cells, "obs") else ()
    return hashlib.blake2b(matrix.toarray().tobytes() + repr(names).encode()).hexdigest()


def table_digest(table: pd.DataFrame) -> str:
    """Return a digest of a table."""
    return hashlib.blake2b(table.to_csv().encode()).hexdigest()


# --- what is wrong -------------------------------------------------------------------------------------------------


class Runs:
    """A pickle of it runs code when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _digit(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one digit, which stays text."""
    places = [i for i, byte in enumerate(data) if chr(byte).isdigit()] or [0]
    changed = bytearray(data or b"0")
    changed[int(rng.choice(places))] = ord("7")
    return bytes(changed)


def _npz(data: bytes, rng: np.random.Generator) -> bytes:
    """Say in its header that an array is larger than memory."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("names.npy", "values.npy"):
            header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4), }"
            header = header.ljust(117) + b"\n"
            archive.writestr(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return stream.getvalue()


def _objects(data: bytes, rng: np.random.Generator) -> bytes:
    """Hold arrays of objects, which numpy pickles."""
    stream = io.BytesIO()
    np.savez(stream, names=np.array(["A", {}], dtype=object), values=np.array([[Runs(Path("ran"))]], dtype=object))
    return stream.getvalue()


def _h5(data: bytes, rng: np.random.Generator) -> bytes:
    """Be an HDF5 file of another kind, with something larger than memory in it."""
    with tempfile.NamedTemporaryFile(suffix=".h5") as file:
        with h5py.File(file.name, "w") as made:
            for part in ("obs", "var"):
                made.create_group(part).attrs["_index"] = "../../x"
            made.create_dataset("X", shape=(10**9, 10**6), dtype="f8", chunks=(10, 10))
        return Path(file.name).read_bytes()


type Bytes = Callable[[bytes, np.random.Generator], bytes]
CONTENTS: dict[str, Bytes] = {
    "empty": lambda data, rng: b"",
    "half": lambda data, rng: data[: len(data) // 2],
    "one byte short": lambda data, rng: data[:-1],
    "flipped": _flip,
    "flipped again": _flip,
    "a digit": _digit,
    "twice": lambda data, rng: data + data,
    "noise": lambda data, rng: rng.bytes(300),
    "zeros": lambda data, rng: bytes(len(data)),
    "PNG": lambda data, rng: b"\x89PNG\r\n\x1a\n" + rng.bytes(60),
    "JSON of a list": lambda data, rng: b"[]",
    "JSON of numbers": lambda data, rng: b"NaN",
    "JSON, deep": lambda data, rng: b"[" * 100_000,
    "JSON, large numbers": lambda data, rng: b'{"format": 1' + b"0" * 400 + b"}",
    "text": lambda data, rng: "gene,x\nµ,1\n".encode("latin-1"),
    "paths": lambda data, rng: data.replace(b"truth.h5ad", b"../../../etc/passwd").replace(b".csv", b"/../../x"),
    "pickle": lambda data, rng: pickle.dumps(Runs(Path("ran"))),
    "arrays of objects": _objects,
    "npz, absurd": _npz,
    "HDF5, absurd": _h5,
}  # fmt: skip


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Change each entry of a JSON file in turn, its seal made anew as somebody who means harm would."""
    from transpert._schema import CHECKSUM, sealed

    try:
        values = json.loads(data)
    except ValueError:
        return
    if not isinstance(values, dict):
        return
    for key in values:
        for odd in (None, -1, "../../x", [], {"a": [1]}, 10**40, 1.5, True, "/etc/passwd"):
            changed = {name: value for name, value in values.items() if name != CHECKSUM} | {key: odd}
            yield f"{key}={odd!r:.20}", json.dumps(sealed(changed) if CHECKSUM in values else changed).encode()


def _places(path: Path) -> dict[str, Callable[[], None]]:
    """Return what may stand in the place of a file."""

    def gone() -> None:
        path.unlink()

    def folder() -> None:
        path.unlink()
        path.mkdir()

    def loop() -> None:
        path.unlink()
        path.symlink_to(path)

    def nowhere() -> None:
        path.unlink()
        path.symlink_to("/nonexistent/x")

    return {"missing": gone, "a folder": folder, "a link to itself": loop, "a link to nothing": nowhere}


@dataclass
class Found:
    """What came of the files."""

    outcomes: Counter[str]
    faults: list[str]


def attack(shop: Workshop, *, share: float = 1.0, most: int = 6, seed: int = 0, only: str | None = None) -> Found:
    """Damage a copy of every file, of large folders some, in every way, or a share of the ways, and read it."""
    rng, found = np.random.default_rng(seed), Found(Counter(), [])
    for kind in kinds(shop):
        if only is not None and only not in kind.name:
            continue
        right = kind.use(_copy(kind, shop))
        for file in sorted(rng.permutation(kind.files())[:most].tolist()):
            original = (kind.path / file).read_bytes() if file else kind.path.read_bytes()
            ways: list[tuple[str, bytes | None]] = [(way, None) for way in _places(Path())]
            ways += [(way, change(original, rng)) for way, change in CONTENTS.items()]
            ways += list(_entries(original))
            for way, content in ways:
                if rng.random() < share:
                    _try(kind, file, way, content, right, shop, found)
    return found


def _copy(kind: Kind, shop: Workshop) -> Path:
    """Copy a good file or folder into a folder of its own."""
    place = shop.fresh()
    place.mkdir()
    if kind.path.is_file():
        for beside in ("truth.h5ad", "raw.h5ad"):  # which settings name
            if (shop.folder / beside).exists():
                os.symlink(shop.folder / beside, place / beside)
        return Path(shutil.copy(kind.path, place / f"this{kind.path.suffix}"))
    return Path(shutil.copytree(kind.path, place / kind.path.name))


def _try(kind: Kind, file: str, way: str, content: bytes | None, right: Any, shop: Workshop, found: Found) -> None:
    """Read one damaged copy."""
    path = _copy(kind, shop)
    place = path / file if file else path
    if content is None:
        _places(place)[way]()
    else:
        place.write_bytes(content)
    before = set(shop.folder.parent.iterdir()) | set(path.parent.iterdir())
    what = f"{kind.name}, {file or 'file'}, {way}"
    try:
        result = kind.use(path)
    except TranspertError as error:
        found.outcomes["refused"] += 1
        if not error.remedy:
            found.faults.append(f"{what}: no remedy: {error}")
    except BaseException as error:  # noqa: BLE001  whatever it is, it is noted
        found.outcomes["raw errors"] += 1
        found.faults.append(f"{what}: {type(error).__name__}: {str(error)[:150]} ({place_of(error)})")
    else:
        found.outcomes["right" if result == right else "another result"] += 1
        if result != right and kind.sealed:
            found.faults.append(f"{what}: another result")
    appeared = set(shop.folder.parent.iterdir()) - before
    if appeared or Path("ran").exists() or (shop.folder / "ran").exists():
        found.faults.append(f"{what}: written outside, or run: {sorted(map(str, appeared))}")
    shutil.rmtree(path.parent, ignore_errors=True)
