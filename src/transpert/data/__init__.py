"""Sets of cells: sampler, batches, Lightning data module; in memory and on disk."""

from .convert.cell_load import from_annbatch, from_cell_load, from_scdl, to_scdl
from .sets.batches import CellSets, DeviceCells, read_sets
from .sets.module import SetDataModule, SetLoader
from .sets.sampler import SetPlan, SetSampler
from .source import CellSource, MemorySource
from .store.source import StoreSource
from .store.store import Store, build_store

__all__ = [
    "SetDataModule",
    "Store",
    "build_store",
    "from_annbatch",
    "from_cell_load",
    "from_scdl",
    "to_scdl",
]
