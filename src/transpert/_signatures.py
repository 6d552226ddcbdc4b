"""Functions whose annotations say what they take: what is given is held against them before anything is done."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, TypeAliasType, cast

import numpy as np
import pandas as pd
from scipy import sparse

from transpert._arguments import check_path, named_options, refused
from transpert._matrices import check_sound
from transpert._seeds import check_seed
from transpert.errors import OptionError, TranspertError, list_names

_LARGEST = 2**63  # beyond, no whole number fits what computes with it
_ITEMS = 10_000  # of a collection that are looked at one by one
_ORDERED = (list, tuple, range, np.ndarray, pd.Series, pd.Index)
_UNORDERED = (set, frozenset, dict, collections.abc.KeysView)
_ANY_ORDER = (collections.abc.Iterable, collections.abc.Collection)
_SAID = ("labels", "finite", "positions")
_NUMBERS, _LABELS = "biuf", "biufUO"
_WORDS = {
    np.ndarray: "an array of numbers",
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "text",
}


def as_annotated[**Given, Result](
    *, error: type[TranspertError] = OptionError, but: Collection[str] = (), **shapes: str
) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Hold the arguments of a function against its annotations and against shapes in words.

    ``effects="P G"`` says that ``effects`` has two axes, and that all axes called ``G`` are of one length; ``"... G"``
    leaves the number of axes open, and ``"labels N"`` says that the values may be text, ``"finite P G"``
    that they are finite, and ``"positions M"`` that they are whole numbers from 0. The function itself checks the
    arguments ``but``.
    """

    def decorate(function: Callable[Given, Result]) -> Callable[Given, Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            bound = signature.bind(*args, **kwargs)
            hints = _hints_of(function)
            lengths: dict[str, tuple[int, str]] = {}
            for name, value in bound.arguments.items():
                if name in but or name not in hints or value is signature.parameters[name].default:
                    continue
                hint, shape = hints[name], shapes.get(name, "")
                endless = hint is float and isinstance(value, numbers.Real) and not math.isfinite(value)
                if endless or not _fits(value, hint, _LABELS if "labels" in shape else _NUMBERS):
                    raise _of_kind(error, refused(name, value, f"Give {_wanted(hint)}."))
                if "PathLike" in str(hint) and isinstance(value, str | os.PathLike):
                    check_path(value, name=name)
                if hint is int:  # numpy's own numbers are no numbers to JSON
                    bound.arguments[name] = check_seed(value) if name == "seed" else int(value)
                if name in shapes and value is not None:
                    if _is_table(value):
                        value = bound.arguments[name] = np.asarray(value)
                    words = shape.split()
                    _check_shape(np.shape(value), [word for word in words if word not in _SAID], name, lengths, error)
                    _check_values(value, words, name, error)
                    check_sound(value, where=name)
            _check_together({name: bound.arguments.get(name) for name, axes in shapes.items() if axes == "..."}, error)
            return function(*bound.args, **bound.kwargs)

        takes_more = any(entry.kind is entry.VAR_KEYWORD for entry in signature.parameters.values())
        return wrapper if takes_more else named_options()(cast(Any, wrapper))

    return decorate


def check_fields(options: Any, *, but: Collection[str] = ()) -> None:
    """Hold the entries of a group of options against their annotations; which words there are, it says itself."""
    described: Any = type(options)
    hints = _hints_of(described)
    for name in (entry.name for entry in dataclasses.fields(options) if entry.init and entry.name not in but):
        value, hint = getattr(options, name), hints.get(name, Any)
        is_word = typing.get_origin(hint) is Literal and isinstance(value, str)
        endless = hint is float and isinstance(value, numbers.Real) and not math.isfinite(value)
        if endless or not (is_word or _fits(value, hint, _NUMBERS)):
            raise refused(name, value, f"Give {_wanted(hint)}.")


def _is_table(value: Any) -> bool:
    """Whether something is no array, but becomes one of numbers or text."""
    return isinstance(value, pd.DataFrame | pd.Series | list | tuple | range)


def _of_kind(kind: type[TranspertError], found: OptionError) -> TranspertError:
    """Return an error as one of another class."""
    return found if kind is OptionError else kind(found.what, where=found.where, remedy=found.remedy)


@functools.cache
def _hints_of(described: Any) -> dict[str, Any]:
    """Return the annotations of parameters or entries that can be resolved while the program runs."""
    module = inspect.getmodule(described)
    found = {}
    for name, hint in inspect.get_annotations(described).items():
        try:
            found[name] = eval(hint, vars(module)) if isinstance(hint, str) else hint
        except NameError:  # known to type checkers alone
            continue
    return found


def _fits(value: Any, hint: Any, kinds: str) -> bool:
    """Whether a value is what an annotation says."""
    while isinstance(hint, TypeAliasType):
        hint = hint.__value__
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, inspect.Parameter.empty) or isinstance(hint, typing.TypeVar):
        return True
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part, kinds) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int) and value in parts
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is np.ndarray:
        return _is_array(value, kinds)
    if origin is None:
        return _is_of_class(value, hint)
    return _holds(value, origin, parts, kinds)


def _is_array(value: Any, kinds: str) -> bool:
    """Whether numpy makes an array of such values of something; cells and text are not taken apart to see."""
    single = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (single or _is_table(value) or isinstance(value, np.ndarray)):
        return False
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return False
    return array.dtype.kind in kinds and (array.dtype.kind != "O" or all(isinstance(each, str) for each in array.flat))


def _is_of_class(value: Any, kind: Any) -> bool:
    """Whether a value is of a class; numbers of any library count as numbers."""
    truth = isinstance(value, bool | np.bool_)
    if kind is bool:
        return truth
    if kind is int:
        return isinstance(value, numbers.Integral) and not truth and abs(int(value)) < _LARGEST
    if kind is float:
        return isinstance(value, numbers.Real) and not truth
    if sparse.issparse(value):
        return "scipy.sparse" in getattr(kind, "__module__", "")
    ours = getattr(kind, "_is_runtime_protocol", False) and kind.__module__.startswith("transpert.")
    if not isinstance(kind, type) or (getattr(kind, "_is_protocol", False) and not ours):
        return True
    return isinstance(value, kind)


def _holds(value: Any, origin: Any, parts: tuple[Any, ...], kinds: str) -> bool:
    """Whether a collection is of its kind, and what it holds too; what can be read only once is left unread."""
    if origin is collections.abc.Callable:
        return callable(value)
    if not isinstance(origin, type):
        return True
    if not issubclass(origin, collections.abc.Iterable):  # a path
        return isinstance(value, origin)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, parts[0], kinds) and _fits(item, parts[1], kinds) for key, item in value.items()
        )
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return False
    if origin is tuple and parts[-1] is not Ellipsis:  # of one kind at each place
        return (
            isinstance(value, tuple | list)
            and len(value) == len(parts)
            and all(_fits(item, part, kinds) for item, part in zip(value, parts, strict=True))
        )
    if isinstance(value, _ORDERED) or (isinstance(value, _UNORDERED) and origin in _ANY_ORDER):
        return len(value) > _ITEMS or all(_fits(item, parts[0], kinds) for item in value)
    return origin is collections.abc.Iterable and isinstance(value, Iterator | collections.abc.ValuesView)


def _wanted(hint: Any) -> str:
    """Say in words what an annotation asks for."""
    while isinstance(hint, TypeAliasType):
        hint = hint.__value__
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_wanted(part) for part in parts))
    if origin is Literal:
        return f"one of {list_names(parts)}"
    if hint is None or hint is types.NoneType:
        return "None"
    if origin is os.PathLike:
        return "a path"
    if origin is not None and origin is not collections.abc.Callable:
        kind = "a mapping" if issubclass(origin, Mapping) else "a list"
        return f"{kind} of {_wanted(parts[-1] if parts[-1] is not Ellipsis else parts[0]).removeprefix('a ')}"
    return _WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}")


def _check_shape(
    shape: tuple[int, ...], axes: list[str], name: str, lengths: dict[str, tuple[int, str]], error: type[TranspertError]
) -> None:
    """Check the number of axes, and that those of one name are of one length."""
    open_ends = axes[:1] == ["..."]
    named = axes[1:] if open_ends else axes
    if len(shape) < len(named) or (not open_ends and len(shape) != len(named)):
        raise error(
            f"{name} has shape {shape}, not ({', '.join(axes)})",
            where=name,
            remedy=f"Give an array with the axes {' x '.join(axes)}.",
        )
    for axis, length in zip(reversed(named), reversed(shape), strict=False):
        known, first = lengths.setdefault(axis, (length, name))
        if known != length:
            raise error(
                f"{name} has {length} entries along {axis}, {first} has {known}",
                where=name,
                remedy="Give arrays that belong together, in the same order.",
            )


def _check_values(value: Any, said: list[str], name: str, error: type[TranspertError]) -> None:
    """Check the values of an array against its annotation."""
    if "finite" in said and not np.isfinite(value).all():
        raise error("values are NaN or infinite", where=name, remedy="Remove or replace them.")
    if "positions" in said and (np.asarray(value).dtype.kind not in "iu" or np.min(value, initial=0) < 0):
        raise error("these are no positions", where=name, remedy="Give whole numbers from 0.")


def _check_together(values: Mapping[str, Any], error: type[TranspertError]) -> None:
    """Check that arrays of any shape can be computed with, one beside the other."""
    try:
        np.broadcast_shapes(*(np.shape(value) for value in values.values() if value is not None))
    except ValueError:
        shapes = [f"{name} {np.shape(value)}" for name, value in values.items()]
        raise error(
            f"the shapes do not go together: {list_names(shapes, quote=False)}",
            remedy="Give arrays of one shape, or numbers.",
        ) from None
