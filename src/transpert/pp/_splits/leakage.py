"""What could leak from the training cells into the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert import _keys
from transpert.errors import CountsError, SplitError, list_names
from transpert.groups import Groups

from .levels import parts_of
from .profiles import has_values, mean_profiles

_FEWEST_VALUES = 20  # of a cell that are above 0; fewer can be the same by chance
_CELLS_PER_BLOCK = 20_000
_ALIKE = 0.8  # correlation of two effects from which they are taken for the same
_SAME_CELLS = "cells with the values of a cell in another split"
# what is right in some designs is reported, and refused only where that was asked for
NEVER = frozenset({_SAME_CELLS})


def leakage(adata: AnnData, groups: Groups, split: np.ndarray, merged: Mapping[str, str]) -> pd.DataFrame:
    """Return one row a check of the split of every cell; ``found`` is 0 where nothing leaks."""
    codes, labels = pd.factorize(split)
    pairs, first = np.unique(groups.codes * len(labels) + codes, return_index=True)
    table = groups.table.iloc[pairs // len(labels)].assign(split=split[first]).reset_index(drop=True)
    parts = [parts_of(groups)[number] for number in pairs // len(labels)]
    perturbed = ~table["is_control"].to_numpy()
    train = {parts[i] for i in np.flatnonzero((table["split"] == _keys.TRAIN) & perturbed)}
    test = {parts[i] for i in np.flatnonzero(table["split"] == _keys.TEST)}
    trained_parts = {part for names in train for part in names}
    singles = {names[0] for names in test if len(names) == 1}
    unseen = sorted(name for name in singles if (name,) not in train)
    twins = {
        f"{a} and {b}" for a in singles - trained_parts for b in merged if (b,) in train and merged.get(a) == merged[b]
    }
    names = pd.Index(adata.obs_names)
    uncontrolled = set(table.loc[table["split"] == _keys.TEST, "context"]) - set(table.loc[~perturbed, "context"])
    checks: list[tuple[str, list[str] | str]] = [
        ("groups divided between splits", _divided(table, parts)),
        ("cells with the name of another cell", sorted(set(names[names.duplicated()]))),
        (_SAME_CELLS, _same_cells(adata, split)),
        ("held-out perturbations seen in a combination", [name for name in unseen if name in trained_parts]),
        ("held-out perturbations whose twin is in training", sorted(twins)),
        ("held-out perturbations with the effect of one in training", _alike(adata, groups, unseen, train)),
        ("test contexts without control cells", sorted(uncontrolled)),
    ]
    return pd.DataFrame(
        {
            "check": [check for check, _ in checks],
            "found": [0 if isinstance(found, str) else len(found) for _, found in checks],
            "which": [found if isinstance(found, str) else list_names(found, quote=False) for _, found in checks],
        }
    )


def refuse_leaks(report: pd.DataFrame, *, all_checks: bool) -> None:
    """Refuse a split of which something leaks that no design needs, or anything at all."""
    found = report[(report["found"] > 0) & (all_checks | report["check"].isin(NEVER))]
    if len(found):
        said = "; ".join(f"{row.found} {row.check} ({row.which})" for row in found.itertuples(index=False))
        raise SplitError(
            f"the split leaks: {said}",
            remedy="Drop one of two cells that are the same, and pass perturbations with one effect as together=.",
        )


def _divided(table: pd.DataFrame, parts: list[tuple[str, ...]]) -> list[str]:
    """Return the groups whose cells are in several splits."""
    columns = ["context", "parts", "dose", "time", "batch"]
    pairs = table.assign(parts=[_keys.COMBINATION.join(p) for p in parts])[[*columns, "split"]].astype(str)
    sizes = pairs.drop_duplicates().groupby(columns, observed=True, dropna=False).size()
    return [f"{key[0]} / {key[1]}" for key in sizes[sizes > 1].index]


def _same_cells(adata: AnnData, split: np.ndarray) -> list[str] | str:
    """Return the names of cells outside training with the values of a cell in another split."""
    if not has_values(adata):
        return "not compared: no values are in memory"
    numbers, sizes = _fingerprints(adata.X)
    told = np.flatnonzero(sizes >= _FEWEST_VALUES)
    table = pd.DataFrame({"cell": numbers[told], "split": split[told]})
    several = table.groupby("cell")["split"].transform("nunique") > 1
    names = adata.obs_names.to_numpy(dtype=object)
    return [str(names[i]) for i in told[(several & (table["split"] != _keys.TRAIN)).to_numpy()]]


def _fingerprints(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a number for the values of each cell, whatever the order of genes in memory, and how many are not 0."""
    weights = np.random.default_rng(0).integers(1, 2**63, matrix.shape[1], dtype=np.uint64) | np.uint64(1)
    numbers, sizes = np.zeros(matrix.shape[0], dtype=np.uint64), np.zeros(matrix.shape[0], dtype=np.int64)
    for start in range(0, matrix.shape[0], _CELLS_PER_BLOCK):
        block = sparse.csr_matrix(matrix[start : start + _CELLS_PER_BLOCK])
        bits = block.data.astype(np.float64).view(np.uint64)
        terms = (bits ^ (bits >> np.uint64(29))) * weights[block.indices]
        terms = (terms ^ (terms >> np.uint64(32))) * weights[block.indices]
        stop = start + block.shape[0]
        numbers[start:stop], sizes[start:stop] = _sums(terms, block.indptr), _sums(block.data != 0, block.indptr)
    return numbers, sizes


def _sums(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return the sum of the stored values of each row, exact for whole numbers."""
    running = np.cumsum(values)  # of unsigned numbers it wraps around, and so do differences
    total = np.concatenate([np.zeros(1, dtype=running.dtype), running])
    return total[indptr[1:]] - total[indptr[:-1]]


def _alike(adata: AnnData, groups: Groups, unseen: list[str], train: set[tuple[str, ...]]) -> list[str] | str:
    """Return held-out perturbations whose effect is that of a perturbation in training."""
    known = sorted(names[0] for names in train if len(names) == 1)
    if not unseen or not known:
        return []
    if not has_values(adata):
        return "not compared: no values are in memory"
    try:
        effects = _effects(adata, groups, [*unseen, *known])
    except CountsError:
        return "not compared: X holds no log1p counts per 10k"
    centred = effects - effects.mean(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    alike = unit[: len(unseen)] @ unit[len(unseen) :].T
    return [f"{unseen[a]} and {known[b]} ({alike[a, b]:.2f})" for a, b in zip(*np.nonzero(alike > _ALIKE), strict=True)]


def _effects(adata: AnnData, groups: Groups, names: list[str]) -> np.ndarray:
    """Return the mean shift of each perturbation over its contexts, less the middle one of all of them."""
    table, parts = groups.table, parts_of(groups)
    number = {name: row for row, name in enumerate(names)}
    row = np.array([number.get(own[0], -1) if len(own) == 1 else -1 for own in parts])
    code = np.where(table["is_control"].to_numpy(), len(names), row)
    total, counts = np.zeros((len(names), adata.n_vars)), np.zeros(len(names))
    for context in groups.contexts:
        here = np.where((table["context"] == context).to_numpy(), code, -1)
        there = np.unique(here[(here >= 0) & (here < len(names))])
        if len(there) and (here == len(names)).any():
            profiles = mean_profiles(adata, here[groups.codes], len(names) + 1)
            total[there] += profiles[there] - profiles[-1]
            counts[there] += 1
    effects = total / np.maximum(counts, 1)[:, None]
    return effects - np.median(effects, axis=0) if len(names) > 2 else effects
