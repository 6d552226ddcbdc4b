"""Preparing data: splits, alignment of genes, checks."""

from transpert._counts import library_sizes, log1p_per_10k

from .alignment import AlignmentReport, align_genes
from .amounts import amounts
from .checks import check_counts, check_log1p, check_not_backed, check_unique_names
from .guides import targets_of_guides
from .normalization import normalize
from .split_files import check_split, load_split, save_split
from .splitting import split

__all__ = [
    "align_genes",
    "amounts",
    "check_counts",
    "check_log1p",
    "check_split",
    "library_sizes",
    "load_split",
    "log1p_per_10k",
    "normalize",
    "save_split",
    "split",
    "targets_of_guides",
]
