"""Arguments that come from a user: of the right kind and within their range, or refused by name."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import operator
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pandas as pd
from pandas.api.types import is_hashable

from transpert.errors import OptionError, UnknownOptionError, list_names


def refused(name: str, value: object, remedy: str) -> OptionError:
    """Return the error that says which argument has which value, and what to give."""
    shown = repr(value)
    return OptionError(f"{name} is {shown if len(shown) <= 80 else shown[:77] + '...'}", remedy=remedy)


def named_options[F: Callable[..., Any]](*more: str) -> Callable[[F], F]:
    """Refuse options that a function, or the class of some options, does not have, and offer the nearest ones.

    Where a function takes ``**kwargs``, ``more`` says which names these may have.
    """

    def decorate(function: F) -> F:
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)  # type: ignore[misc]
            return function
        entries = inspect.signature(function).parameters.values()
        known = {entry.name for entry in entries if entry.kind not in (entry.VAR_KEYWORD, entry.VAR_POSITIONAL)}
        shown = [name for name in (*known, *more) if name not in ("self", "cls", "registry")]
        name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            unknown = [key for key in kwargs if key not in known and key not in more]
            if unknown:
                raise UnknownOptionError("option", unknown, sorted(shown), where=name)
            return function(*args, **kwargs)

        return cast(F, checked)

    return decorate


def check_whole(value: Any, *, name: str, least: int = 0, most: int | None = None, optional: bool = False) -> Any:
    """Return a whole number of any type as an int; ``None`` too where it is optional."""
    if value is None and optional:
        return None
    wanted = f"Give a whole number {f'from {least} to {most}' if most is not None else f'from {least} upwards'}"
    try:
        if isinstance(value, bool | np.bool_ | np.ndarray):
            raise TypeError
        whole = (
            int(float(value))
            if isinstance(value, float | np.floating) and float(value).is_integer()
            else operator.index(value)
        )
    except (TypeError, ValueError, OverflowError):
        raise refused(name, value, wanted + (", or None." if optional else ".")) from None
    if whole < least or (most is not None and whole > most):
        raise refused(name, value, wanted + (", or None." if optional else "."))
    return whole


def check_number(
    value: Any,
    *,
    name: str,
    least: float = -math.inf,
    most: float = math.inf,
    open_ends: bool = False,
    optional: bool = False,
) -> Any:
    """Return a finite number of any type as a float; ``None`` too where it is optional."""
    if value is None and optional:
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    number = float(value) if is_number else math.nan
    inside = least < number < most if open_ends else least <= number <= most
    if math.isfinite(number) and inside:
        return number
    between = "between" if open_ends else "from"
    limits = {
        (True, True): "",
        (False, True): f" {'above' if open_ends else 'of at least'} {least:g}",
        (True, False): f" {'below' if open_ends else 'of at most'} {most:g}",
        (False, False): f" {between} {least:g} {'and' if open_ends else 'to'} {most:g}",
    }[math.isinf(least), math.isinf(most)]
    raise refused(name, value, f"Give a number{limits}{', or None' if optional else ''}.")


def check_share(value: Any, *, name: str) -> float:
    """Return a share, from 0 to 1, as a float."""
    return float(check_number(value, name=name, least=0.0, most=1.0))


def check_flag(value: Any, *, name: str, optional: bool = False) -> Any:
    """Return True or False; ``None`` too where it is optional."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if value is None and optional:
        return None
    raise refused(name, value, f"Give True or False{', or None' if optional else ''}.")


def check_text(value: Any, *, name: str, optional: bool = False) -> Any:
    """Return a name, such as that of a column; ``None`` too where it is optional."""
    if isinstance(value, str) or (value is None and optional):
        return value
    raise refused(name, value, f"Give a name as text{', or None' if optional else ''}.")


def is_several(values: Any) -> bool:
    """Whether something is a collection, and no text, table or mapping."""
    apart = isinstance(values, str | bytes | Mapping | pd.DataFrame) or hasattr(values, "obs")
    return isinstance(values, Iterable) and not apart and (not isinstance(values, np.ndarray) or values.ndim == 1)


def check_names(values: Any, *, name: str, optional: bool = False) -> Any:
    """Return names as a list, a single one not taken apart; ``None`` too where it is optional."""
    if values is None and optional:
        return None
    if isinstance(values, str):
        return [values]
    found = None
    if is_several(values):
        found = list(values)
    if found is None or not all(isinstance(value, str) for value in found):
        raise refused(name, values, "Give names as text: one, or a list of them.")
    return found


def name_list(names: Iterable[Any]) -> list[str]:
    """Return names as a list; a string is one name, not its letters."""
    return [names] if isinstance(names, str) else [str(name) for name in names]


def check_choice(value: Any, choices: Any, *, name: str, optional: bool = False) -> Any:
    """Return one of a few words, given as a collection or as a Literal type."""
    known: Collection[Any] = choices if isinstance(choices, Collection) else get_args(choices)
    if (value is None and optional) or (isinstance(value, str) and value in known):
        return value
    raise refused(name, value, f"Choose {list_names(known)}{' or None' if optional else ''}.")


def check_path(value: Any, *, name: str) -> Path:
    """Return the path of a file or folder."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else b""
    if isinstance(text, str) and text and "\0" not in text and all(len(os.fsencode(p)) < 256 for p in Path(text).parts):
        return Path(text)
    raise refused(name, value, "Give the path of a file or folder as text, with names of at most 255 bytes.")


def check_control(value: Any, *, name: str) -> Any:
    """Return labels of control cells: one, several or a pattern; ``None`` where the data say them."""
    several = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if value is None or (several and all(isinstance(label, str | numbers.Real | re.Pattern) for label in several)):
        return value
    raise refused(name, value, "Give the label of control cells as text.")


def check_labels(values: Any, *, name: str) -> Any:
    """Return labels, one or several, or ``None`` for all."""
    if values is None or isinstance(values, str | numbers.Real):
        return values
    if is_several(values) and (isinstance(values, Iterator) or all(map(is_hashable, _distinct(values)))):
        return values
    raise refused(name, values, "Give labels as text: one, or a list of them.")


def _distinct(values: Any) -> Iterable[Any]:
    """Return the values of a collection, each once where that is known without looking at all of them."""
    return values.cat.categories if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype) else values


def check_pairs(wanted: Any, kind: type) -> list[tuple[str, Any]]:
    """Return the populations asked for: the context of each, and its condition, of a kind or as text."""
    pairs = list(wanted) if is_several(wanted) else []
    texts = all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs)
    if pairs and texts and all(isinstance(pair[0], str) and isinstance(pair[1], str | kind) for pair in pairs):
        return [(str(context), condition) for context, condition in pairs]
    raise refused("wanted", wanted, "Give at least one pair of a context and a condition, as text.")


def check_table(value: Any, *, name: str, columns: Collection[str] = ()) -> pd.DataFrame:
    """Return a table that has rows and these columns."""
    if not isinstance(value, pd.DataFrame):
        raise refused(name, value, "Give a pandas DataFrame.")
    absent = [column for column in columns if column not in value.columns]
    if absent or (columns and not len(value)):
        what = f"{name} has no column {list_names(absent)}" if absent else f"{name} has no rows"
        raise OptionError(what, remedy=f"Give a table with rows, and the columns {list_names(columns)}.")
    return value


def check_model(value: Any, *, name: str) -> Any:
    """Return a model of this package."""
    if hasattr(value, "is_trained_") and hasattr(value, "predict_populations"):
        return value
    raise refused(name, value, "Give a trained model, such as transpert.KernelTransport.")


def check_axes(value: Any, *, name: str) -> Any:
    """Return axes of matplotlib, or ``None`` for new ones."""
    if value is None or hasattr(value, "get_figure"):
        return value
    raise refused(name, value, "Give axes of matplotlib, or None for new ones.")


def check_design(value: Any, *, name: str) -> Any:
    """Return a design, or ``None`` where the data say it."""
    if value is None or hasattr(value, "perturbation_key"):
        return value
    raise refused(name, value, "Give a transpert.groups.Design.")


def check_mask(value: Any, *, name: str) -> Any:
    """Return a mask of cells, or ``None`` for all of them."""
    listed = isinstance(value, np.ndarray | pd.Series) or (
        isinstance(value, list | tuple) and all(isinstance(each, bool | np.bool_) for each in value)
    )
    if value is None or (listed and np.ndim(value) == 1 and np.asarray(value).dtype.kind == "b"):
        return value
    raise refused(name, value, "Give True or False for each cell, or None for all.")


type Check = Callable[..., Any]

_WHOLE = (
    "n_cells n_components n_top_genes n_neighbors n_dimensions n_genes max_k cells_per_part min_genes min_cells "
    "max_cells max_epochs"
)
_SHARES = "max_missing_genes share"
_NAMES = "context_keys genes obs_columns groups metrics baselines"
_FLAGS = (
    "progress include_controls ceiling overwrite save_anndata umap paired return_fig early_stopping populations warn "
    "need_controls in_order squared self_pairs capped shown"
)
_TEXTS = "layer counts_layer modality key_added population context basis title where key dataset file groupby"

# how an argument of each name is checked, wherever it occurs; None is refused by whoever needs more
_CHECKS: dict[str, tuple[Check, dict[str, Any]]] = {
    **{name: (check_text, {"optional": True}) for name in _TEXTS.split()},
    **{name: (check_flag, {}) for name in _FLAGS.split()},
    **{name: (check_share, {}) for name in _SHARES.split()},
    **{name: (check_whole, {"least": 1, "most": 10**9, "optional": True}) for name in _WHOLE.split()},
    **{name: (check_names, {"optional": True}) for name in _NAMES.split()},
    **{name: (check_path, {}) for name in ("out", "folder", "dir_path", "path", "config", "collection")},
    **{name: (check_whole, {}) for name in ("seed", "n_labels", "rank")},
    "n_bootstrap": (check_whole, {"most": 10**6}),
    **{name: (check_number, {"least": 0.0, "most": 1.0, "open_ends": True}) for name in ("level", "alpha", "fraction")},
    **{name: (check_table, {}) for name in ("obs", "scores", "table")},
    **{name: (check_text, {}) for name in ("value", "control_label", "metric")},
    "ax": (check_axes, {}),
    "design": (check_design, {}),
    "mask": (check_mask, {}),
    "control": (check_control, {}),
    "perturbations": (check_labels, {}),
    "against": (check_names, {}),
    "readout": (check_choice, {"choices": ("counts", "expected", "added"), "optional": True}),
    "max_rows": (check_whole, {"least": 1}),
    "unseen": (check_choice, {"choices": ("error", "mean")}),
    "n_samples": (check_whole, {"least": 1, "most": 10**6}),
    "interval": (check_number, {"least": 0.0, "most": 1.0, "open_ends": True, "optional": True}),
    "max_controls": (check_whole, {"least": 2, "optional": True}),
    "world_size": (check_whole, {"least": 1}),
    "pseudo_rate": (check_number, {"least": 0.0, "open_ends": True}),
    "size": (check_number, {"least": 0.0, "most": 1e6, "open_ends": True, "optional": True}),
    "show": (check_flag, {"optional": True}),
    "checkpoint_every_n_steps": (check_whole, {"least": 1, "optional": True}),
}


def check_arguments(given: Mapping[str, Any], *, but: Collection[str] = ()) -> None:
    """Check the arguments of a public function, its ``locals()``, by their names, which mean the same everywhere."""
    for name, value in given.items():
        if name in but:
            continue
        if name in _CHECKS:
            check, options = _CHECKS[name]
            check(value, name=name, **options)
        elif name.endswith("_key"):  # the name of a column
            check_text(value, name=name, optional=True)
