"""Every baseline by name: a class in this folder that says its place is one."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

from ..base import PerturbationModel


def find_baselines(package: ModuleType) -> dict[str, type[PerturbationModel]]:
    """Return the baselines in the files of a package, in the order of their places.

    Parameters
    ----------
    package
        The package that is looked through. A class of it that gives itself a ``_place`` is a baseline: its number
        among the others, the simplest first.

    Returns
    -------
    Model classes by name.

    Examples
    --------
    >>> from transpert.model import baselines
    >>> from transpert.model.baselines.registry import find_baselines
    >>> list(find_baselines(baselines))[:2]
    ['NoChange', 'MeanShift']
    """
    modules = [import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    classes = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and "_place" in vars(value)
    ]
    return {cls.__name__: cls for cls in sorted(classes, key=lambda cls: vars(cls)["_place"])}
