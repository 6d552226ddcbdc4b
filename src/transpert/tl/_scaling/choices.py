"""Which cells the runs of a study are trained on: nested along every axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._arguments import name_list
from transpert.errors import OptionError, SplitError, check_known
from transpert.groups import Design, make_groups
from transpert.groups.table import context_labels
from transpert.scaling import balanced_order, gini_simpson, shannon, sketch_order, spiked_order, vendi

from .tasks import types_of

AXES = ("cells", "perturbations", "contexts", "cells_per_condition", "steps", "parameters")
_OF_THE_MODEL = ("steps", "parameters")
SCHEMES = ("random", "reweighted", "sketch", "stratified", "spike_in_10", "spike_in_50")
GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # shares, far below 1 %
Size = int | float | str


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What is known about the cells of a study, without their counts.

    Parameters
    ----------
    contexts, perturbations : (N,)
        Labels.
    trainable
        Positions of the perturbed training cells.
    spike
        Positions of the perturbed cells of the other data set.
    test
        Positions of the perturbed test cells.
    control : (N,)
        Which are controls.
    groups : (N,)
        Number of the group (context, batch, condition).
    points : (N, d)
        Cells in a space for sketches and diversity.
    types : (N,)
        Cell types for re-weighting.
    """

    contexts: np.ndarray
    perturbations: np.ndarray
    trainable: np.ndarray
    spike: np.ndarray
    test: np.ndarray
    control: np.ndarray
    groups: np.ndarray
    points: np.ndarray
    types: np.ndarray

    @classmethod
    def of(
        cls, obs: pd.DataFrame, design: Design, *, spiked: np.ndarray, points: np.ndarray, type_key: str | None
    ) -> Cells:
        """Read them off the annotation, whose split says what is the test set."""
        labels = obs[design.perturbation_key].astype(str).to_numpy(dtype=object)
        known = {label: design.label_format.is_control(label) for label in set(labels)}
        control = np.array([known[label] for label in labels])
        split = obs[design.split_key].astype(str).to_numpy()
        train = np.isin(split, [_keys.TRAIN, _keys.VALIDATION]) & ~control
        test = np.flatnonzero((split == _keys.TEST) & ~control)
        if not len(test) or not (train & ~spiked).any():
            raise SplitError(
                f"there are {len(test)} perturbed test cells and {np.count_nonzero(train & ~spiked)} to train on",
                where=f"obs[{design.split_key!r}]",
                remedy="Make a split with pp.split before the study.",
            )
        contexts = context_labels(obs, design).astype(str)
        types = types_of(obs, type_key, contexts)
        own, other = np.flatnonzero(train & ~spiked), np.flatnonzero(train & spiked)
        groups = make_groups(obs, design).codes
        return cls(contexts, labels.astype(str), own, other, test, control, groups, points, types)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The cells, and the options of the model, of one run.

    Parameters
    ----------
    scheme, seed
        How they were drawn.
    sizes
        The size along each axis, as it was given.
    rows
        Positions of the perturbed training cells, ascending; none for the floor.
    """

    scheme: str
    seed: int
    sizes: Mapping[str, Size]
    rows: np.ndarray


def check_axes(axes: str | Sequence[str] | Mapping[str, Sequence[Size]]) -> dict[str, tuple[Size, ...]]:
    """Return the sizes along each axis; a name alone has the usual shares."""
    if not isinstance(axes, Mapping):
        axes = dict.fromkeys(name_list(axes), GRID)
    check_known("axis", axes, AXES, where="axes")
    if not 1 <= len(axes) <= 2:
        raise OptionError(f"there are {len(axes)} axes", where="axes", remedy="Vary one or two at a time.")
    for name, sizes in axes.items():
        if name == "steps" and any(isinstance(size, float) for size in sizes):
            raise OptionError(
                "steps have no shares", where="axes", remedy="Give numbers of steps: {'steps': [100, 300]}."
            )
        if name != "parameters" and not all(0 < float(size) < np.inf for size in sizes):
            raise OptionError(
                f"a size of {name!r} is not above 0", where="axes", remedy="The floor, 0, is always there."
            )
    return {name: tuple(sizes) for name, sizes in axes.items()}


def check_schemes(schemes: str | Sequence[str], *, spike: bool) -> list[str]:
    """Return the names of schemes, which must exist and have what they need."""
    names = name_list(schemes)
    check_known("scheme", names, SCHEMES, where="schemes")
    if not spike and any(name.startswith("spike_in") for name in names):
        raise OptionError("a spike-in needs another data set", where="schemes", remedy="Pass spike=.")
    return names


def choose(
    cells: Cells, axes: Mapping[str, Sequence[Size]], schemes: Sequence[str], seeds: Sequence[int]
) -> list[Choice]:
    """Draw the cells of all runs; along an axis, a larger set contains the smaller ones."""
    choices: list[Choice] = []
    for scheme, seed in product(schemes, seeds):
        drawn = _Nested(cells, scheme, seed)
        for sizes in product(*axes.values()):
            wanted = dict(zip(axes, sizes, strict=True))
            choices.append(Choice(scheme, seed, wanted, drawn.rows(wanted)))
    return choices


def diversity(cells: Cells, choice: Choice) -> dict[str, float]:
    """Say how diverse the cells of a run are."""
    rows = choice.rows
    if not len(rows):
        return {"shannon": 0.0, "gini_simpson": 0.0, "vendi": float("nan")}
    return {
        "shannon": shannon(cells.types[rows]),
        "gini_simpson": gini_simpson(cells.types[rows]),
        "vendi": vendi(cells.points[rows]),
    }


class _Nested:
    """Orders of cells, perturbations and contexts that were drawn once for a scheme and seed."""

    def __init__(self, cells: Cells, scheme: str, seed: int) -> None:
        rng = np.random.default_rng([seed, SCHEMES.index(scheme)])
        own = cells.trainable
        order: Callable[[], np.ndarray] = {
            "random": lambda: rng.permutation(len(own)),
            "reweighted": lambda: balanced_order(cells.types[own], rng),
            "sketch": lambda: sketch_order(cells.points[own], rng),
            "stratified": lambda: balanced_order(_pairs(cells, own), rng),
        }.get(scheme, lambda: rng.permutation(len(own)))
        self.order = own[order()]
        if scheme.startswith("spike_in"):
            self.order = spiked_order(self.order, rng.permutation(cells.spike), int(scheme.split("_")[-1]) / 100)
        # the sets of perturbations and contexts are the same for all schemes
        shared = np.random.default_rng(seed)
        self.cells = cells
        self.perturbations = shared.permutation(np.unique(cells.perturbations[own]))
        self.contexts = shared.permutation(np.unique(cells.contexts[own]))

    def rows(self, sizes: Mapping[str, Size]) -> np.ndarray:
        """The cells of a run: of so many contexts and perturbations, so many of each pair, and so many in all."""
        order, cells = self.order, self.cells
        for axis, labels, names in (
            ("contexts", cells.contexts, self.contexts),
            ("perturbations", cells.perturbations, self.perturbations),
        ):
            if axis in sizes:
                order = order[np.isin(labels[order], names[: _number(sizes[axis], len(names))])]
        if "cells_per_condition" in sizes:
            pairs = pd.Series(_pairs(cells, order))
            largest = int(pairs.value_counts().max()) if len(pairs) else 0
            order = order[(pairs.groupby(pairs).cumcount() < _number(sizes["cells_per_condition"], largest)).to_numpy()]
        if "cells" in sizes:
            order = order[: _number(sizes["cells"], len(order))]
        # a group of one cell says nothing of its spread, and models refuse it
        alone = np.bincount(cells.groups[order], minlength=1)[cells.groups[order]] < 2
        return np.sort(order[~alone])


def _pairs(cells: Cells, rows: np.ndarray) -> np.ndarray:
    """Context and perturbation of cells as one label."""
    return np.array([f"{a}\t{b}" for a, b in zip(cells.contexts[rows], cells.perturbations[rows], strict=True)])


def _number(size: Size, total: int) -> int:
    """Return a size as a number; a float up to 1 is a share."""
    if isinstance(size, str):
        raise OptionError(f"{size!r} is no size", where="axes", remedy="Give numbers, or shares up to 1.0.")
    return max(1, round(size * total)) if isinstance(size, float) and size <= 1 else min(int(size), total)
