"""Which cells make the sets of a step: one pure function for memory and for disk."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from annbatch.abc import Sampler

from transpert._arguments import check_arguments, check_mask
from transpert._signatures import as_annotated
from transpert.errors import AssumptionWarning, GroupSizeError, OptionError, list_names, warn_user
from transpert.groups import ControlMatching, Groups

if TYPE_CHECKING:
    from annbatch.types import LoadRequest


type Weighting = Literal["uniform", "cells", "tempered"]

# one random stream for the groups of an epoch, one for every set; the last counter word keeps them apart
_GROUP_STREAM, _SET_STREAM = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class SetPlan:
    """The cells of the sets of one step.

    Parameters
    ----------
    epoch, step
        Where in the training the plan belongs.
    groups : (S,)
        Number of the perturbed group of each set.
    control : (S, N)
        Positions of the control cells.
    perturbed : (S, N)
        Positions of the perturbed cells.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.data import SetPlan
    >>> plan = SetPlan(0, 0, groups=np.array([1]), control=np.array([[4, 5]]), perturbed=np.array([[0, 2]]))
    >>> plan.positions.tolist()
    [4, 5, 0, 2]
    """

    epoch: int
    step: int
    groups: np.ndarray
    control: np.ndarray
    perturbed: np.ndarray

    @property
    def positions(self) -> np.ndarray:
        """All positions, ``(2 * S * N,)``: the controls of every set, then the perturbed cells."""
        return np.concatenate([self.control.ravel(), self.perturbed.ravel()])


class SetSampler(Sampler):
    """Draw sets of perturbed cells, each with a set of controls of its context and batch.

    The sets are a pure function of the arguments, the epoch and the step. The global batch has
    ``world_size * sets_per_batch`` sets, of which every rank takes its own share; two ranks with 4 sets see what
    one rank with 8 sets sees. Cells do not repeat inside a set unless a group has fewer than ``set_size``.

    Parameters
    ----------
    groups
        The groups of cells.
    matching
        Whose control is who.
    set_size
        Cells in a set, ``N``; as many controls go with them.
    sets_per_batch
        Sets in a step on one rank, ``S``.
    batches_per_epoch
        Steps of an epoch; by default so many that as many cells are drawn as there are perturbed ones.
    weighting
        ``"uniform"``: every condition of every context equally often. ``"cells"``: in proportion to its cells.
        ``"tempered"``: in proportion to the square root of its cells. The batches of a condition share its weight in
        proportion to their cells.
    slice_size
        Draw runs of this many neighbouring cells of a group instead of single cells. 1 draws each cell on its own;
        a store, whose cells are shuffled inside a group, is read much faster in runs.
    mask : (n_obs,)
        Draw only these perturbed cells; all by default.
    group_subset
        Numbers of the perturbed groups to draw; all that have cells by default.
    seed
        Seed of all draws.
    rank, world_size
        This process and the number of processes.

    Raises
    ------
    transpert.errors.OptionError
        If an option is out of range.
    transpert.errors.GroupSizeError
        If no perturbed cell is left to draw.

    Notes
    -----
    The groups of an epoch are drawn by systematic sampling: a group with weight ``w`` occurs ``w * n`` times among
    ``n`` sets, rounded up or down, in random order.

    Examples
    --------
    >>> import pandas as pd
    >>> from transpert.data import SetSampler
    >>> from transpert.groups import Design, make_groups, match_controls
    >>> obs = pd.DataFrame({"perturbation": ["control"] * 12 + ["A"] * 6 + ["B"] * 6, "line": "x"})
    >>> groups = make_groups(obs, Design("perturbation", "control", ("line",)))
    >>> sampler = SetSampler(groups, match_controls(groups), set_size=4, sets_per_batch=2)
    >>> plan = next(sampler.plan(epoch=0))
    >>> plan.perturbed.shape, bool((plan.control < 12).all()), sorted(plan.groups.tolist())
    ((2, 4), True, [1, 2])
    """

    @as_annotated(but=("weighting",))
    def __init__(
        self,
        groups: Groups,
        matching: ControlMatching,
        *,
        set_size: int = 64,
        sets_per_batch: int = 8,
        batches_per_epoch: int | None = None,
        weighting: Weighting = "uniform",
        slice_size: int = 1,
        mask: np.ndarray | None = None,
        group_subset: np.ndarray | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.groups, self.matching = groups, matching
        self.set_size, self.sets_per_batch, self.slice_size = set_size, sets_per_batch, slice_size
        self.weighting, self.seed, self.rank, self.world_size = weighting, seed, rank, world_size
        self._check(batches_per_epoch)
        check_mask(mask, name="mask")
        self._cell_mask = None if mask is None else np.asarray(mask, dtype=bool)
        self.group_subset = self._drawable(group_subset)
        self._perturbed = {int(group): self._cells(int(group)) for group in self.group_subset}
        self._controls = self._control_pools()
        self._cumulative = np.cumsum(self._weights())
        n_cells = sum(map(len, self._perturbed.values()))
        self._batches = batches_per_epoch or max(1, -(-n_cells // (set_size * self.global_batch)))
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self._epoch, self._start_step = 0, 0
        self._report_small_groups()

    # --- what the sampler is --------------------------------------------------------------------------------
    @property
    def global_batch(self) -> int:
        """Sets in a step over all ranks."""
        return self.sets_per_batch * self.world_size

    @property
    def batches_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self._batches

    @property
    def cells_per_batch(self) -> int:
        """Cells of a step on this rank, controls included."""
        return 2 * self.set_size * self.sets_per_batch

    @as_annotated()
    def shard(self, rank: int, world_size: int) -> SetSampler:
        """Return the sampler of one of several processes that share the global batch of this one.

        Parameters
        ----------
        rank
            Number of the process, from 0.
        world_size
            How many processes there are.

        Returns
        -------
        A sampler that draws its share of the sets that this one draws in each step.

        Raises
        ------
        transpert.errors.OptionError
            If the sets of the global batch cannot be shared out evenly.
        """
        check_arguments({"rank": rank, "world_size": world_size})
        if self.global_batch % world_size:
            raise OptionError(
                f"{self.global_batch} sets in a step cannot be shared out evenly among {world_size} processes",
                where="sets_per_batch",
                remedy=f"Use a multiple of {world_size}.",
            )
        with warnings.catch_warnings():  # small groups have been reported by this sampler already
            warnings.simplefilter("ignore", AssumptionWarning)
            return SetSampler(
                self.groups,
                self.matching,
                set_size=self.set_size,
                sets_per_batch=self.global_batch // world_size,
                batches_per_epoch=self._batches,
                weighting=self.weighting,
                slice_size=self.slice_size,
                mask=self._cell_mask,
                group_subset=self.group_subset,
                seed=self.seed,
                rank=rank,
                world_size=world_size,
            )

    # --- what it draws --------------------------------------------------------------------------------------
    @as_annotated()
    def plan(self, epoch: int, start_step: int = 0) -> Iterator[SetPlan]:
        """Yield the sets of this rank for every step of an epoch.

        Parameters
        ----------
        epoch
            Number of the epoch.
        start_step
            Step to begin at; what follows is the same as if the epoch had been run from its start.
        """
        groups = self._epoch_groups(epoch)
        for step in range(start_step, self._batches):
            first = step * self.global_batch + self.rank * self.sets_per_batch
            chosen = groups[first : first + self.sets_per_batch]
            control = np.empty((self.sets_per_batch, self.set_size), dtype=np.int64)
            perturbed = np.empty_like(control)
            for i, group in enumerate(chosen.tolist()):
                rng = self._generator(_SET_STREAM, epoch, first + i)
                perturbed[i] = self._draw(self._perturbed[group], rng)
                control[i] = self._draw(self._controls[group], rng)
            yield SetPlan(epoch, step, chosen, control, perturbed)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Choose what the next pass of an :class:`annbatch.Loader` over this sampler reads.

        Parameters
        ----------
        epoch
            The epoch whose sets are drawn; the same number gives the same sets.
        start_step
            How many of its steps are passed over, where a training goes on in the middle of an epoch.
        """
        self._epoch, self._start_step = epoch, start_step

    # --- the interface of annbatch --------------------------------------------------------------------------
    @property
    def batch_size(self) -> int:
        """Cells of a step on this rank, controls included."""
        return self.cells_per_batch

    @property
    def shuffle(self) -> bool:
        """Never, since annbatch is to keep the order of the plan."""
        return False

    def n_batches(self, n_obs: int) -> int:
        """Return the steps that the next pass yields."""
        return self._batches - self._start_step

    def validate(self, n_obs: int) -> None:
        """Check that the groups were made from as many cells as there are to read."""
        if n_obs != len(self.groups.codes):
            raise OptionError(
                f"the groups describe {len(self.groups.codes)} cells but {n_obs} are to be read",
                where="SetSampler",
                remedy="Make the groups from the obs of the data that is read.",
            )

    def _sample(self, n_obs: int) -> Iterator[LoadRequest]:
        order = np.arange(self.cells_per_batch)
        for plan in self.plan(self._epoch, self._start_step):
            yield {"requests": plan.positions, "splits": [order]}

    # --- how --------------------------------------------------------------------------------------------------
    def _check(self, batches_per_epoch: int | None) -> None:
        """Refuse sizes that no set can have."""
        for name, value in [
            ("set_size", self.set_size),
            ("sets_per_batch", self.sets_per_batch),
            ("slice_size", self.slice_size),
            ("world_size", self.world_size),
            ("batches_per_epoch", 1 if batches_per_epoch is None else batches_per_epoch),
        ]:
            if value < 1:
                raise OptionError(
                    f"{name} must be at least 1, not {value}",
                    where="SetSampler",
                    remedy="Give a whole number from 1 upwards.",
                )
        if not 0 <= self.rank < self.world_size:
            raise OptionError(
                f"rank {self.rank} is not one of {self.world_size} processes",
                where="SetSampler",
                remedy="Count processes from 0 to one less than world_size.",
            )
        known = get_args(Weighting.__value__)
        if not isinstance(self.weighting, str) or self.weighting not in known:
            raise OptionError(
                f"weighting={self.weighting!r} does not exist", where="SetSampler", remedy=f"Use {list_names(known)}."
            )

    def _cells(self, group: int) -> np.ndarray:
        cells = self.groups.cells(group)
        return cells if self._cell_mask is None else cells[self._cell_mask[cells]]

    def _drawable(self, subset: np.ndarray | None) -> np.ndarray:
        """The perturbed groups that have cells to draw, ascending."""
        perturbed = self.groups.perturbed_groups
        asked = perturbed if subset is None else np.unique(np.asarray(subset, dtype=np.int64))
        strange = np.setdiff1d(asked, perturbed)
        if strange.size:
            raise OptionError(
                f"groups {list_names(strange, quote=False)} are not perturbed groups",
                where="group_subset",
                remedy="Give numbers of groups.perturbed_groups.",
            )
        found = np.array([group for group in asked.tolist() if len(self._cells(group))], dtype=np.int64)
        if not found.size:
            raise GroupSizeError(
                "no perturbed cell is left to draw", where="SetSampler", remedy="Widen group_subset or mask."
            )
        return found

    def _control_pools(self) -> dict[int, np.ndarray]:
        """The controls of every group; groups with the same controls share one array."""
        pools: dict[tuple[int, ...], np.ndarray] = {}
        found = {}
        for group in self.group_subset.tolist():
            key = tuple(self.matching.control_groups[group].tolist())
            if key not in pools:
                pools[key] = self.matching.cells(group)
            found[group] = pools[key]
        return found

    def _weights(self) -> np.ndarray:
        """The share of every group of ``group_subset`` in the sets of an epoch; sums to 1."""
        sizes = np.array([len(self._perturbed[group]) for group in self.group_subset.tolist()], dtype=np.float64)
        contexts = self.groups.table["context"].to_numpy()
        number: dict[tuple, int] = {}
        condition = np.array(
            [
                number.setdefault((contexts[group], self.groups.conditions[group]), len(number))
                for group in self.group_subset.tolist()
            ]
        )
        totals = np.bincount(condition, weights=sizes)[condition]
        exponent = {"uniform": 0.0, "tempered": 0.5, "cells": 1.0}[self.weighting]
        weights = totals**exponent * sizes / totals
        return weights / weights.sum()

    def _generator(self, stream: int, epoch: int, number: int) -> np.random.Generator:
        # a counter-based generator: any set of any epoch can be drawn without drawing those before it
        return np.random.Generator(np.random.Philox(key=self._key, counter=[0, number, epoch, stream]))

    def _epoch_groups(self, epoch: int) -> np.ndarray:
        rng = self._generator(_GROUP_STREAM, epoch, 0)
        n_sets = self._batches * self.global_batch
        points = (rng.random() + np.arange(n_sets)) / n_sets
        drawn = np.searchsorted(self._cumulative, points, side="right")
        chosen = self.group_subset[np.minimum(drawn, len(self.group_subset) - 1)]
        rng.shuffle(chosen)
        return chosen

    def _draw(self, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n = len(cells)
        if n < self.set_size:
            if self.slice_size > 1:
                return cells[(rng.integers(n) + np.arange(self.set_size)) % n]
            repeats = -(-self.set_size // n)
            return np.concatenate([rng.permutation(cells) for _ in range(repeats)])[: self.set_size]
        if self.slice_size == 1:
            return cells[rng.choice(n, self.set_size, replace=False)]
        return cells[self._draw_slices(n, rng)]

    def _draw_slices(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Cut the cells, taken as a ring, into slices from a random start, and draw some slices."""
        size = min(self.slice_size, self.set_size)
        n_slices = -(-n // size)
        # the last slice may be shorter, and then one more is needed
        needed = min(n_slices, -(-self.set_size // size) + (n % size > 0))
        starts = rng.choice(n_slices, needed, replace=False) * size
        lengths = np.minimum(size, n - starts)
        within = np.concatenate(
            [np.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)]
        )
        return (within[: self.set_size] + rng.integers(n)) % n

    def _report_small_groups(self) -> None:
        small = [group for group, cells in self._perturbed.items() if len(cells) < self.set_size]
        few = [group for group, cells in self._controls.items() if len(cells) < self.set_size]
        for groups, whose in ((small, "perturbed cells"), (few, "matched controls")):
            if groups:
                table = self.groups.table
                names = (f"{table.context[g]} / {table.perturbation[g]} / {table.batch[g]}" for g in groups)
                warn_user(
                    f"Cells repeat inside the sets of {len(groups)} of {len(self._perturbed)} groups, which have fewer "
                    f"{whose} than set_size={self.set_size}: {list_names(names, quote=False, limit=3)}."
                )
