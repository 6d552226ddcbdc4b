"""Tasks and methods as the files in ``tasks/`` and ``methods/`` describe them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transpert.errors import OptionError, UnknownNameError

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Split:
    """What a split keeps for the test.

    Parameters
    ----------
    name
        Its name in the file names of results.
    holdout
        Columns and values, as :func:`transpert.pp.split` takes them.
    by, fraction, seed
        A draw in their place, as :func:`transpert.pp.split` takes it.
    cells
        Columns and values of perturbed cells in their place, where the unit is none of ``pp.split`` (a dose).
    simulate
        Options of the simulation that replace those of the task, where the splits are cells of a grid.
    """

    name: str
    holdout: dict[str, list[str]] = field(default_factory=dict)
    by: str | None = None
    fraction: float = 0.2
    seed: int = 0
    cells: dict[str, list[str]] = field(default_factory=dict)
    simulate: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A question with its data and splits.

    Parameters
    ----------
    name, title, question
        For tables.
    source
        Where the cells come from: ``file`` (with ``keep``, columns and values), or ``simulate`` (its options).
    context_keys, batch_key, dose_key, library_size_key, control
        The design.
    n_genes
        Highly variable genes chosen on the training cells of a split; all genes if 0.
    min_cells
        Groups (context, perturbation) with fewer cells are left out.
    embedding
        Perturbation embeddings: an npz file with ``genes`` and ``embedding``, ``"simulated"``, or ``"shuffled"``: the
        simulated ones, each given to another perturbation.
    aliases
        Names under which the embeddings have perturbations that were renamed since the data was published.
    extra
        Metrics beyond those of every task: names of the evaluator's, or ``"mmd_pca"``.
    splits
        The fixed splits.
    """

    name: str
    title: str
    question: str
    source: dict[str, Any]
    splits: tuple[Split, ...]
    context_keys: tuple[str, ...] = ()
    batch_key: str | None = None
    dose_key: str | None = None
    library_size_key: str | None = None
    control: str = "control"
    n_genes: int = 0
    min_cells: int = 0
    embedding: str | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    def split(self, name: str) -> Split:
        """Return a split by name."""
        found = {split.name: split for split in self.splits}
        if name not in found:
            raise UnknownNameError("split", [name], found, where=f"tasks/{self.name}.toml")
        return found[name]


@dataclass(frozen=True, slots=True)
class Method:
    """A predictor.

    Parameters
    ----------
    name, label
        For file names and for tables.
    family
        ``"baseline"``, ``"scale"``, ``"ablation"`` or ``"peer"``; a section of the tables.
    options
        Of a baseline: its class (``cls``) and arguments. Of SCALE: options that replace those of its default. Of a
        peer: the environment, the runner, and the configuration that it reads.
    cannot
        Tasks that it cannot do, and why.
    only
        Tasks that it is meant for; all if empty.
    not_run
        Why its other missing cells are missing.
    """

    name: str
    label: str
    family: str
    options: dict[str, Any]
    cannot: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    not_run: str = "not run: outside the time budget"

    def takes(self, task: str) -> bool:
        """Whether the method is meant for a task and can do it."""
        return task not in self.cannot and (not self.only or task in self.only)


def load_tasks(folder: Path = HERE / "tasks") -> dict[str, Task]:
    """Read all tasks, in the order of their files."""
    return {task.name: task for task in (_task(path) for path in sorted(folder.glob("*.toml")))}


def _task(path: Path) -> Task:
    values = tomllib.loads(path.read_text())
    splits = tuple(Split(**split) for split in values.pop("splits"))
    names = [split.name for split in splits]
    if len(set(names)) < len(names):
        raise OptionError("two splits have the same name", where=str(path))
    name = path.stem.split("-", 1)[1]
    lists = {key: tuple(values.pop(key, ())) for key in ("context_keys", "extra")}
    return Task(name=name, splits=splits, **lists, **values)


def load_methods(folder: Path = HERE / "methods") -> dict[str, Method]:
    """Read all methods, in the order of their files; ``base`` names a method whose options are the start."""
    written: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.toml")):
        for name, values in tomllib.loads(path.read_text()).items():
            if name in written:
                raise OptionError(f"two methods are called {name!r}", where=str(path))
            written[name] = values
    methods = {}
    for name, values in written.items():
        own = dict(values)
        base = own.pop("base", None)
        if base is not None:
            if base not in written:
                raise UnknownNameError("method", [base], written, where="methods")
            own["options"] = merged(written[base].get("options", {}), own.get("options", {}))
        methods[name] = Method(name=name, **{"label": name, "options": {}, **own})
    return methods


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested tables; a value of ``changes`` replaces that of ``base``.

    Examples
    --------
    >>> merged({"flow": {"depth": 1, "steps": 1}}, {"flow": {"steps": 2}})
    {'flow': {'depth': 1, 'steps': 2}}
    """
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else value
    return out


def chosen(names: Sequence[str] | None, known: Mapping[str, Any], kind: str) -> list[str]:
    """Return the names asked for, or all; an unknown one is an error."""
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UnknownNameError(kind, unknown, known)
    return list(names or known)
