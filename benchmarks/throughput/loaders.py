"""One loader in one process: it opens the data, then measures for a while whenever it is told to.

Run by ``run.py`` as ``python loaders.py NAME H5AD``, in the environment of the loader. It reads lines from its
standard input (``SECONDS warm`` or ``SECONDS cold``) and answers each with one line of JSON. Every loader hands
out dense float32 tensors.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

SET_SIZE, SETS = 64, 8
PAIRED_CELLS = 2 * SET_SIZE * SETS

type Batches = Callable[[int], Iterator[int]]  # epoch -> the number of cells of each batch


def transpert_memory(path: Path) -> Batches:
    """Paired sets out of memory."""
    import numpy as np

    from transpert.data import MemorySource, SetSampler
    from transpert.groups import make_groups, match_controls

    adata = _counts(path)
    groups = make_groups(adata.obs, _design())
    sampler = SetSampler(groups, match_controls(groups), set_size=SET_SIZE, sets_per_batch=SETS)
    return _sets(MemorySource(adata.X, np.asarray(adata.X.sum(axis=1)).ravel()), sampler)


def transpert_store(path: Path) -> Batches:
    """Paired sets out of a store on disk."""
    from transpert.data import SetSampler, Store
    from transpert.groups import match_controls

    store = Store.open(path.with_suffix(".zarr"))
    groups = store.groups()
    sampler = SetSampler(groups, match_controls(groups), set_size=SET_SIZE, sets_per_batch=SETS, slice_size=SET_SIZE)
    return _sets(store.source(), sampler)


def _design():
    from transpert.groups import Design

    return Design("gene", "non-targeting", ("cell_type",), batch_key="gem_group")


def _sets(source, sampler) -> Batches:
    from transpert.data import SetLoader

    loader = SetLoader(source, sampler)

    def batches(epoch: int) -> Iterator[int]:
        loader.set_epoch(epoch)
        for batch in loader:
            x0, x1 = batch.dense_log1p()
            yield (x0.numel() + x1.numel()) // x0.shape[-1]

    return batches


def cell_load_module(path: Path, *, consecutive: bool = False):
    """The data module of cell-load: log1p values from ``obsm["X_hvg"]``, controls of the batch, no workers."""
    from cell_load.data_modules import PerturbationDataModule

    folder = path.parent / f"{path.stem}-cell-load"
    folder.mkdir(exist_ok=True)
    link = folder / "cells.h5ad"
    if not link.exists():
        link.symlink_to(path.resolve())
    config = folder / "config.toml"
    config.write_text(f'[datasets]\ncells = "{folder}"\n\n[training]\ncells = "train"\n')
    module = PerturbationDataModule(
        str(config), batch_size=SETS, num_workers=0, embed_key="X_hvg", output_space="gene",
        basal_mapping_strategy="batch", should_yield_control_cells=False, cell_sentence_len=SET_SIZE,
        use_consecutive_loading=consecutive,
    )  # fmt: skip
    module.setup()
    return module


def cell_load(path: Path, *, consecutive: bool = False) -> Batches:
    """Paired sets of cell-load."""
    loader = cell_load_module(path, consecutive=consecutive).train_dataloader()

    def batches(epoch: int) -> Iterator[int]:
        for batch in loader:
            yield len(batch["pert_cell_emb"]) + len(batch["ctrl_cell_emb"])

    return batches


def cell_load_consecutive(path: Path) -> Batches:
    """The same with its option for reading neighbouring cells at once."""
    return cell_load(path, consecutive=True)


def scvi_tools(path: Path) -> Batches:
    """Shuffled cells of scvi-tools' AnnDataLoader, counts."""
    from scvi.dataloaders import AnnDataLoader
    from scvi.model import SCVI

    adata = _counts(path)
    SCVI.setup_anndata(adata, batch_key="gem_group")
    model = SCVI(adata)
    loader = AnnDataLoader(
        model.adata_manager, shuffle=True, batch_size=PAIRED_CELLS, data_and_attributes={"X": "float32"}
    )

    def batches(epoch: int) -> Iterator[int]:
        for batch in loader:
            yield len(batch["X"])

    return batches


def bionemo_scdl(path: Path) -> Batches:
    """Shuffled cells of a memory map of bionemo-scdl, counts, no workers."""
    from bionemo.scdl.io.single_cell_memmap_dataset import SingleCellMemMapDataset
    from bionemo.scdl.util.torch_dataloader_utils import collate_sparse_matrix_batch
    from torch.utils.data import DataLoader

    folder = path.parent / f"{path.stem}-scdl"
    cells = (
        SingleCellMemMapDataset(str(folder))
        if folder.exists()
        else SingleCellMemMapDataset(str(folder), str(path), use_X_not_raw=True, paginated_load_cutoff=0)
    )
    loader = DataLoader(cells, batch_size=PAIRED_CELLS, shuffle=True, collate_fn=collate_sparse_matrix_batch)

    def batches(epoch: int) -> Iterator[int]:
        for batch in loader:
            yield len(batch.to_dense())

    return batches


def annbatch(path: Path) -> Batches:
    """Shuffled chunks of a collection of annbatch, counts."""
    import torch
    import zarr
    from annbatch import DatasetCollection, Loader

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    folder = path.parent / f"{path.stem}-annbatch.zarr"
    collection = DatasetCollection(folder)
    if collection.is_empty:
        collection.add_adatas([path], load_adata=partial(_counts, lazy=True))
    loader = Loader(
        chunk_size=256, preload_nchunks=32, batch_size=PAIRED_CELLS, shuffle=True, preload_to_gpu=False, to=None
    )
    loader.use_collection(collection)

    def batches(epoch: int) -> Iterator[int]:
        for batch in loader:
            yield len(torch.from_numpy(batch["X"].toarray()))

    return batches


def _counts(path: Path, *, lazy: bool = False):
    """Read counts and annotation, without the dense values that only cell-load wants."""
    import anndata as ad
    import h5py

    file = h5py.File(path)
    read = ad.experimental.read_elem_lazy if lazy else ad.io.read_elem
    return ad.AnnData(read(file["X"]), **{axis: ad.io.read_elem(file[axis]) for axis in ("obs", "var")})


LOADERS = {
    "transpert-memory": (transpert_memory, "transpert"),
    "transpert-store": (transpert_store, "transpert"),
    "cell-load": (cell_load, "cell-load"),
    "cell-load-consecutive": (cell_load_consecutive, "cell-load"),
    "scvi-tools": (scvi_tools, "scvi-tools"),
    "bionemo-scdl": (bionemo_scdl, "bionemo-scdl"),
    "annbatch": (annbatch, "annbatch"),
}


def forget(path: Path) -> None:
    """Drop the files of a loader from the page cache."""
    for file in [path, *(file for folder in path.parent.glob(f"{path.stem}*") for file in folder.rglob("*"))]:
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def measure(batches: Iterator[int], seconds: float) -> dict[str, float]:
    """Count the cells that arrive within some seconds."""
    n_cells, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        n_cells += next(batches)
    return {"cells_per_s": n_cells / (time.perf_counter() - start)}


def endless(batches: Batches) -> Iterator[int]:
    """Yield the batches of one epoch after the other."""
    epoch = 0
    while True:
        yield from batches(epoch)
        epoch += 1


def main() -> None:
    """Answer the lines of the standard input."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    name, path = sys.argv[1], Path(sys.argv[2])
    make, package = LOADERS[name]
    batches = endless(make(path))
    next(batches)
    released = version(package) if package != "transpert" else "this version"
    print(json.dumps({"ready": name, "version": released}), file=answers, flush=True)
    for line in sys.stdin:
        seconds, cache = line.split()
        if cache == "cold":
            forget(path)
        result = measure(batches, float(seconds))
        result["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
