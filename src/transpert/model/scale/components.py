"""The components in which networks read and write cells: when they are used, what they are found in, and the cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from transpert.data import MemorySource
from transpert.data.source import CellSource
from transpert.groups import Groups
from transpert.nn import GeneComponents
from transpert.pp.normalization import log1p_per_10k
from transpert.transport import GroupEffects, PooledStatistics

from .held_out_anchor import groups_of
from .options import ScaleOptions

# of fewer genes for each component, the genes themselves cost about as much
_GENES_PER_COMPONENT = 10
# the components of all cells are kept while networks are trained
_MOST_BYTES = 2 << 30
# the matrix of their products, whose eigenvectors are found, has so many rows
_MOST_CELLS, _MOST_MEANS = 1_536, 256
# as much as the mean shift of a set counts in the default loss, beside one of its cells
_WEIGHT_OF_MEANS = 10.0
# genes that hardly vary are not taken for more than that
_LEAST_SPREAD = 0.05
_VALUES_AT_ONCE = 1 << 25


def fit_to_cells(options: ScaleOptions, n_cells: int, n_genes: int, *, embedded: bool) -> int | None:
    """Return how many components the networks are to have; ``None`` where they are to read genes, or an embedding."""
    wanted = options.n_components
    if wanted is None or embedded or options.joining.kind == "residual" or n_genes < _GENES_PER_COMPONENT * wanted:
        return None
    return wanted if 4 * n_cells * wanted * options.joining.n_networks <= _MOST_BYTES else None


def fit_components(
    source: CellSource, effects: GroupEffects, groups: Groups, seen: np.ndarray, n_components: int, *, seed: int
) -> list[GeneComponents]:
    """Find the components of every network in the groups that it sees, ``(n_groups, n_networks)``.

    They are those of single cells and of the means of whole groups: a small effect on many genes is lost
    in the noise of single cells.
    """
    mean, scale = mean_and_scale(effects.statistics)
    positions = _sample(groups, seed=seed)
    cells = (_log1p(source, positions) - mean) / scale
    first = np.array([own[0] for own in groups_of(effects, groups)], dtype=int)
    rows = np.unique(np.linspace(0, len(effects) - 1, min(len(effects), _MOST_MEANS)).astype(int))
    treated, control = (
        (torch.from_numpy(means.mean_log[rows].astype(np.float32)) - mean) / scale
        for means in (effects.treated, effects.control)
    )
    found = []
    for sees in seen.T:
        of_cells, of_means = sees[groups.codes[positions]], sees[first[rows]]
        weight = (_WEIGHT_OF_MEANS * of_cells.sum() / max(of_means.sum(), 1)) ** 0.5
        means = weight * torch.cat([treated[of_means], control[of_means]])
        components = GeneComponents(len(mean), n_components)
        components.fit(torch.cat([cells[of_cells], means]), mean, scale)
        found.append(components)
    return found


def what_networks_read(n_components: int | None, n_selected: int | None) -> str:
    """Return in words what networks read and write."""
    if n_components is not None:
        return f"{n_components} components of the cells"
    if n_selected is None:
        return "every gene"
    return f"the {n_selected:,} most variable genes; the others are predicted by the anchor"


def mean_and_scale(statistics: PooledStatistics) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the genes, each ``(G,)``."""
    mean, spread = (torch.as_tensor(value, dtype=torch.float32) for value in statistics.mean_and_spread())
    return mean, spread.clamp_min(_LEAST_SPREAD)


def _sample(groups: Groups, *, seed: int) -> np.ndarray:
    """Draw training cells, half of them controls, in order."""
    rng = np.random.default_rng(seed)
    used = groups.codes >= 0
    control = used & groups.table["is_control"].to_numpy()[groups.codes]
    drawn = [rng.permutation(np.flatnonzero(cells))[: _MOST_CELLS // 2] for cells in (control, used & ~control)]
    return np.sort(np.concatenate(drawn))


def _log1p(source: CellSource, positions: np.ndarray) -> Tensor:
    values = log1p_per_10k(source.read(positions), source.library_size[positions])
    return torch.from_numpy(np.asarray(values.toarray(), dtype=np.float32))


def in_components(source: CellSource, groups: Groups, components: Sequence[GeneComponents]) -> MemorySource:
    """Return the training cells without counts, and as all networks read them, side by side, in place of an embedding.

    A cell is drawn several times in a training, and multiplied with its many genes once.
    """
    into = torch.cat([own.into for own in components], dim=1)
    offset = torch.cat([own.offset for own in components])
    read = np.zeros((source.n_obs, into.shape[1]), dtype=np.float32)
    used = np.flatnonzero(groups.codes >= 0)
    for block in np.array_split(used, max(len(used) * source.n_vars // _VALUES_AT_ONCE, 1)):
        read[block] = (_log1p(source, block) @ into - offset).numpy()
    return MemorySource(sparse.csr_matrix((source.n_obs, source.n_vars)), source.library_size, read)
