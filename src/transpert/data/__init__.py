"""Sets of cells: sampler, batches, Lightning data module; in memory and on disk."""

from .batches import CellSets, DeviceCells, read_sets
from .convert import from_annbatch, from_cell_load, from_scdl, to_scdl
from .module import SetDataModule, SetLoader, validation_masks
from .sampler import SetPlan, SetSampler
from .source import CellSource, MemorySource
from .store import Store, build_store
from .store_source import StoreSource

__all__ = [
    "CellSets",
    "CellSource",
    "DeviceCells",
    "MemorySource",
    "SetDataModule",
    "SetLoader",
    "SetPlan",
    "SetSampler",
    "Store",
    "StoreSource",
    "build_store",
    "from_annbatch",
    "from_cell_load",
    "from_scdl",
    "read_sets",
    "to_scdl",
    "validation_masks",
]
