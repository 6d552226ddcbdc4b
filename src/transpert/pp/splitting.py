"""Splits by group, never by cell, with a report of what could leak."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import pandas as pd

from transpert import _keys
from transpert._anndata import check_kind, frame
from transpert._arguments import check_arguments, check_names, check_share, is_several, named_options, refused
from transpert._seeds import check_seed
from transpert.conditions.guides import shared_targets
from transpert.conditions.labels import Controls, control_labels
from transpert.conditions.written import label_text
from transpert.errors import OptionError, SplitError, UnknownNameError, list_names
from transpert.groups import Design, Groups, make_groups
from transpert.groups.table import context_column

if TYPE_CHECKING:
    from anndata import AnnData


Level = Literal["context", "perturbation", "pair", "combination"]
_LEVELS: tuple[str, ...] = ("context", "perturbation", "pair", "combination")


@named_options()
def split(
    adata: AnnData,
    *,
    holdout: Mapping[str, str | Sequence[str]] | None = None,
    by: Level | None = None,
    fraction: float = 0.2,
    validation: Mapping[str, str | Sequence[str]] | float | None = None,
    together: Iterable[Iterable[str]] = (),
    perturbation_key: str = "perturbation",
    control: Controls = "control",
    context_keys: str | Sequence[str] | None = None,
    combination_separator: str = _keys.COMBINATION,
    key_added: str = _keys.SPLIT,
    seed: int = 0,
) -> None:
    """Split perturbed groups into training, validation and test; controls always stay in training.

    Name the groups with ``holdout``, or draw them with ``by`` and ``fraction``. Cells of one (context,
    perturbation) group are never divided. Where a single perturbation is held out, so are the combinations
    that contain it, because they would show its effect.

    Parameters
    ----------
    adata
        Cells with the columns named below.
    holdout
        Columns of ``obs`` and the values that go to the test set; a group must match all of them, for example
        ``{"cell_type": "B"}`` (an unseen context), ``{"perturbation": ["A", "B"]}`` or
        ``{"cell_type": "B", "perturbation": "A"}`` (an unseen pair). Combinations in any order.
    by
        What is drawn at random instead: whole contexts, perturbations (with the combinations that contain them),
        (context, perturbation) pairs, or combinations whose parts are all seen alone.
    fraction
        Share of these that goes to the test set.
    validation
        Like ``holdout``, for the validation set; or the share of what is left after the test set that is drawn for it,
        at the level ``by``.
    together
        Perturbations that must not be torn apart, because they have the same effect, for example
        ``[["IFNGR1", "JAK2", "STAT1"]]``. Guides of one target (``"STAT1_g1"``, ``"STAT1_g2"``) always stay together.
    perturbation_key
        Column of ``obs`` with the perturbation.
    control
        The label of control cells, several, or a pattern, as for :meth:`transpert.SCALE.setup_anndata`.
    context_keys
        Columns that make a context. Defaults to the columns of ``holdout`` other than ``perturbation_key``.
    combination_separator
        What joins the parts of a combination.
    key_added
        Where to write: ``obs[key_added]`` and the report in ``uns[key_added]``.
    seed
        Seed of the draw.

    Returns
    -------
    Nothing; writes ``obs[key_added]`` (categorical: ``"train"``, ``"validation"``, ``"test"``) and
    ``uns[key_added]`` with ``kind`` (context, perturbation, pair or combination), ``arguments`` (JSON, with which the
    same call gives the same split), ``groups``
    (one row a group, with its split) and ``leakage`` (one row a check: what was looked for, how many were found,
    which).

    Raises
    ------
    transpert.errors.OptionError
        If both or none of ``holdout`` and ``by`` are given, or ``seed`` is no whole number from 0 upwards.
    transpert.errors.SplitError
        If nothing, or everything, would be held out, or a group is asked for by two sets.
    transpert.errors.UnknownNameError
        If a column or a value does not exist; the nearest one is named.
    transpert.errors.OptionError
        If ``holdout`` or ``validation`` names no columns, or an option is out of range.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=4, n_genes=50, n_cells=20)
    >>> tp.pp.split(adata, by="pair", context_keys="context", fraction=0.25)
    >>> sorted(adata.obs["split"].cat.categories)
    ['test', 'train']
    """
    check_arguments(locals())
    check_kind(adata, name="adata")
    if (holdout is None) == (by is None):
        raise OptionError(
            "exactly one of holdout= and by= says what is held out",
            where="pp.split",
            remedy="Pass holdout= for populations by name, or by= for a share of them.",
        )
    _check_named(holdout, "holdout")
    share, validation = _share_or_names(validation)
    seed = check_seed(seed)
    if by is not None and not (isinstance(by, str) and by in _LEVELS):
        raise UnknownNameError("level", [str(by)[:80]], _LEVELS, where="pp.split(by=)")
    named = [column for column in {**(holdout or {}), **(validation or {})} if column != perturbation_key]
    if context_keys is None:
        context_keys = named
    keys = (context_keys,) if isinstance(context_keys, str) else tuple(context_keys)
    columns = tuple(dict.fromkeys([*keys, *named]))
    design = Design(perturbation_key, control, columns, combination_separator=combination_separator)
    genes = set(map(str, adata.var_names))
    design.report_labels(frame(adata.obs), genes)
    groups = make_groups(frame(adata.obs), design)
    table = groups.table[["context", "perturbation", "is_control", "n_cells"]].copy()
    together = _sets_of_names(together)
    guides = shared_targets(sorted({part for parts in _parts(groups) for part in parts}), genes)
    units = _together(groups, [*guides.values(), *together])
    of_guide = {name: target for target, names in guides.items() for name in names}
    rng = np.random.default_rng(seed)
    if holdout is not None:
        test = _matching(groups, holdout, of_guide)
        kind = _kind(groups, test)
    else:
        kind = str(by)
        test = _drawn(groups, kind, fraction, units, ~table["is_control"].to_numpy(), rng)
    chosen = np.zeros(len(table), dtype=bool)
    if validation is not None:
        chosen = _matching(groups, validation, of_guide)
    elif share:
        chosen = _drawn(groups, kind, share, units, ~(test | table["is_control"].to_numpy()), rng)
    if (test & chosen).any():
        both = table.loc[test & chosen, ["context", "perturbation"]].agg(" / ".join, axis=1)
        raise SplitError(
            f"groups are asked for both validation and test: {list_names(both)}",
            remedy="Name them in one of holdout= and validation=.",
        )
    table["split"] = np.select([test, chosen], [_keys.TEST, _keys.VALIDATION], _keys.TRAIN)
    _check_not_trivial(table)
    arguments = {
        "holdout": _plain(holdout),
        "by": by,
        "fraction": float(fraction),
        "validation": share or _plain(validation),
        "together": together,
        "perturbation_key": perturbation_key,
        "control": control_labels(control),
        "combination_separator": combination_separator,
        "context_keys": list(keys),
        "seed": seed,
    }
    report = {
        "kind": kind,
        "arguments": json.dumps(arguments),
        "groups": table.assign(context=table["context"].astype(str)).reset_index(drop=True),
        "leakage": _leakage(adata, groups, table, units),
    }
    values = table["split"].to_numpy(dtype=object)[groups.codes]
    used = [name for name in (_keys.TRAIN, _keys.VALIDATION, _keys.TEST) if (values == name).any()]
    adata.obs[key_added] = pd.Categorical(values, categories=used)
    adata.uns[key_added] = report


def _sets_of_names(together: Iterable[Iterable[str]]) -> list[list[str]]:
    if not is_several(together):
        raise refused("together", together, "Give sets of names: [['A', 'B'], ['C', 'D']].")
    return [check_names(names, name="together") for names in together]


def _share_or_names(
    validation: Mapping[str, str | Sequence[str]] | float | None,
) -> tuple[float, Mapping[str, str | Sequence[str]] | None]:
    """Tell a share that is drawn for validation from groups that are named."""
    if isinstance(validation, Real) and not isinstance(validation, bool):
        return check_share(validation, name="validation"), None
    _check_named(validation, "validation")
    return 0.0, cast("Mapping[str, str | Sequence[str]] | None", validation)


def _check_named(values: object, argument: str) -> None:
    """Refuse values that do not say of which column they are."""
    if values is not None and not isinstance(values, Mapping):
        raise OptionError(
            f"{argument} is {values!r}, which names no column",
            where="pp.split",
            remedy=f'Give columns and their values: {argument}={{"cell_type": "B"}}.',
        )


def _plain(values: Mapping[str, str | Sequence[str]] | None) -> dict[str, list[str]] | None:
    return None if values is None else {column: _as_list(value) for column, value in values.items()}


def _as_list(value: object) -> list[str]:
    """Values as text; one that is not in a list, such as the number of a donor, stands for itself."""
    alone = isinstance(value, str) or not isinstance(value, Iterable)
    return [label_text(value)] if alone else [label_text(item) for item in value]  # type: ignore[attr-defined]


def _parts(groups: Groups) -> list[tuple[str, ...]]:
    return [condition.parts for condition in groups.conditions]


def _matching(groups: Groups, wanted: Mapping[str, str | Sequence[str]], of_guide: Mapping[str, str]) -> np.ndarray:
    """Perturbed groups that match every column of ``wanted``; a guide takes the others of its target along."""

    def targets(parts: Iterable[str]) -> set[str]:
        return {of_guide.get(part, part) for part in parts}

    table, design = groups.table, groups.design
    mask = ~table["is_control"].to_numpy()
    for column, value in wanted.items():
        names = _as_list(value)
        if column == design.perturbation_key:
            asked = [design.label_format.parts(name) for name in names]
            known = set(_parts(groups))
            singles = {part for parts in known for part in parts}
            unknown = [
                name
                for name, parts in zip(names, asked, strict=True)
                if parts not in known and not (len(parts) == 1 and parts[0] in singles)
            ]
            # a single perturbation takes its combinations along; a combination stands for itself
            hit = [
                any(
                    targets(parts) == targets(wish) or (len(wish) == 1 and targets(wish) <= targets(parts))
                    for wish in asked
                )
                for parts in _parts(groups)
            ]
        else:
            values = table[context_column(column)]
            unknown = sorted(set(names) - set(values))
            hit = values.isin(names).tolist()
        if unknown:
            there = table["perturbation"] if column == design.perturbation_key else values
            raise UnknownNameError("value", unknown, sorted(set(there)), where=f"obs[{column!r}]")
        mask = mask & np.array(hit)
    return mask


def _kind(groups: Groups, test: np.ndarray) -> str:
    """What a test set asks of a model, read off the groups it left in training."""
    table = groups.table
    perturbed = ~table["is_control"].to_numpy()
    kept = perturbed & ~test
    parts = _parts(groups)
    seen = {parts[i] for i in np.flatnonzero(kept)}
    held = [parts[i] for i in np.flatnonzero(test)]
    if held and all(len(p) > 1 for p in held) and not seen & set(held):
        return "combination"
    if not seen & set(held):
        return "perturbation"
    if not set(table.loc[test, "context"]) & set(table.loc[kept, "context"]):
        return "context"
    return "pair"


def _units(groups: Groups, level: str, together: dict[str, str]) -> list[tuple[str, ...]]:
    """The indivisible unit each group belongs to at a level; an empty one where it cannot be drawn."""
    contexts = groups.table["context"].tolist()
    parts = _parts(groups)
    alone = {p[0] for p in parts if len(p) == 1}
    units: list[tuple[str, ...]] = []
    for context, names in zip(contexts, parts, strict=True):
        merged = tuple(sorted({together.get(name, name) for name in names}))
        if level == "context":
            units.append((context,))
        elif level == "combination":
            units.append(merged if len(names) > 1 and set(names) <= alone else ())
        elif level == "pair":
            units.append((context, *merged))
        else:
            units.append(merged if len(names) == 1 else ())
    return units


def _drawn(
    groups: Groups,
    level: str,
    fraction: float,
    together: dict[str, str],
    eligible: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    if not 0 < fraction < 1:
        raise OptionError(f"fraction is {fraction}", where="pp.split", remedy="Give a number between 0 and 1.")
    units = _units(groups, level, together)
    distinct = sorted({unit for unit, ok in zip(units, eligible, strict=True) if ok and unit})
    if len(distinct) < 2:
        raise SplitError(
            f"there are {len(distinct)} units at the level {level!r}, and one must stay in training",
            remedy="Choose another level, or name the groups with holdout=.",
        )
    count = min(max(1, round(fraction * len(distinct))), len(distinct) - 1)
    drawn = {distinct[i] for i in rng.choice(len(distinct), size=count, replace=False)}
    mask = np.array([unit in drawn for unit in units]) & eligible
    if level == "perturbation":
        names = {name for unit in drawn for name in unit}
        held = [any(together.get(part, part) in names for part in parts) for parts in _parts(groups)]
        mask = np.array(held) & eligible
    return mask


def _together(groups: Groups, sets: Iterable[Iterable[str]]) -> dict[str, str]:
    """Map each perturbation that must stay with others to one of them."""
    known = {part for parts in _parts(groups) for part in parts}
    merged: dict[str, str] = {}
    for names in sets:
        members = list(names)
        if unknown := sorted(set(members) - known):
            raise UnknownNameError("perturbation", unknown, sorted(known), where="pp.split(together=)")
        # what was together with one of them before stays so
        before = {merged[name] for name in members if name in merged}
        members += [name for name, first in merged.items() if first in before]
        merged.update(dict.fromkeys(members, members[0]))
    return merged


def _check_not_trivial(table: pd.DataFrame) -> None:
    perturbed = table[~table["is_control"]]
    if not (perturbed["split"] == _keys.TEST).any():
        raise SplitError("no perturbed group would be held out", remedy="Check the values against obs.")
    if not (perturbed["split"] == _keys.TRAIN).any():
        raise SplitError("no perturbed group would be left to train on", remedy="Hold out fewer groups.")


def _leakage(adata: AnnData, groups: Groups, table: pd.DataFrame, together: dict[str, str]) -> pd.DataFrame:
    """One row a check; ``found`` is 0 where nothing leaks."""
    parts = _parts(groups)
    train = {parts[i] for i in np.flatnonzero((table["split"] == _keys.TRAIN) & ~table["is_control"])}
    test = {parts[i] for i in np.flatnonzero(table["split"] == _keys.TEST)}
    pairs = table.assign(parts=[_keys.COMBINATION.join(p) for p in parts])[["context", "parts", "split"]]
    divided = pairs.drop_duplicates().groupby(["context", "parts"], observed=True).size()
    trained_parts = {part for names in train for part in names}
    singles = {names[0] for names in test if len(names) == 1}
    wholly_unseen = {name for name in singles if (name,) not in train}
    twins = {
        f"{a} and {b}"
        for a in singles
        for b in together
        if (b,) in train and a not in {n for names in train for n in names} and together.get(a) == together[b]
    }
    names = pd.Index(adata.obs_names)
    uncontrolled = set(table.loc[table["split"] == _keys.TEST, "context"]) - set(
        table.loc[table["is_control"], "context"]
    )
    checks = [
        ("groups divided between splits", [f"{c} / {p}" for c, p in divided[divided > 1].index]),
        ("cells with the name of another cell", sorted(set(names[names.duplicated()]))),
        (
            "held-out perturbations seen in a combination",
            sorted(name for name in wholly_unseen if name in trained_parts),
        ),
        ("held-out perturbations whose twin is in training", sorted(twins)),
        ("test contexts without control cells", sorted(uncontrolled)),
    ]
    return pd.DataFrame(
        {
            "check": [check for check, _ in checks],
            "found": [len(found) for _, found in checks],
            "which": [list_names(found, quote=False) for _, found in checks],
        }
    )
