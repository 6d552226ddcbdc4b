"""Splits by group, never by cell, with a report of what could leak."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from numbers import Real
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert._anndata import check_kind, frame
from transpert._arguments import check_arguments, check_names, check_share, is_several, named_options, refused
from transpert._seeds import check_seed
from transpert.conditions.guides import shared_targets
from transpert.conditions.labels import Controls, control_labels
from transpert.conditions.written import label_text
from transpert.errors import OptionError, SplitError, UnknownNameError, list_names
from transpert.groups import Design, Groups, make_groups

from ._splits.leakage import leakage, refuse_leaks
from ._splits.levels import LEVELS, Draw, as_list, drawn, kind_of, matching, parts_of, situations, together_of
from ._splits.options import SplitOptions

Level = Literal["context", "perturbation", "pair", "combination", "both", "dose", "time", "batch"]
_OPTIONAL = ("dose", "time", "batch")  # columns of a report that only some designs have


@named_options(*(entry.name for entry in fields(SplitOptions)))
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
    **options: Any,
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
        What is drawn instead: whole contexts, perturbations (with the combinations that contain them), (context,
        perturbation) pairs, combinations, contexts and perturbations at once (``"both"``: the groups that are new in
        both are named in the report), doses of each perturbation, whole times, or whole batches or donors.
    fraction
        Share of these that goes to the test set.
    validation
        Like ``holdout``, for the validation set; or the share of what is left after the test set that is drawn for it,
        at the level ``by``.
    together
        Perturbations that must stay in one split, because they have the same effect, for example
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
    **options
        Rarely needed.

        choice
            How contexts, doses and times are chosen: ``"random"``; ``"farthest"`` (contexts whose controls are farthest
            from those of the nearest other one); ``"inside"`` (doses or times between others) or ``"outside"`` (the
            largest).
        seen_parts
            With ``by="combination"``, how many of the two parts are in training (the levels of GEARS): 2 (default), 1
            or 0. Of 1 and 0, all groups with an unseen part are held out.
        known_perturbations
            With ``by="context"``, how many perturbations of each held-out context stay in training (few-shot).
        pathways
            With ``by="perturbation"`` or ``"both"``: sets of perturbations by name, which are held out whole.
        vectors
            In their place, an :class:`~transpert.conditions.Embedding` or a DataFrame with a row a perturbation, whose
            clusters (Ward) are held out whole.
        n_clusters
            Number of clusters; one for five perturbations by default.
        batch_key, dose_key, time_key
            Columns of ``obs`` with the batch, dose or time.
        on_leak
            ``"report"`` (default), or ``"refuse"``: raise where any check of the report finds something. Cells outside
            training with the values of a cell in another split are always refused.

    Returns
    -------
    Nothing; writes ``obs[key_added]`` (categorical: ``"train"``, ``"validation"``, ``"test"``) and
    ``uns[key_added]`` with ``kind`` (context, perturbation, pair, combination, or the level that was drawn),
    ``arguments`` (JSON, with which the same call gives the same split), ``groups``
    (one row a group, with its split, and what about it is new to the training: ``situation``) and ``leakage`` (one row
    a check: what was looked for, how many were found, which).

    Raises
    ------
    transpert.errors.OptionError
        If both or none of ``holdout`` and ``by`` are given, or ``seed`` is no whole number from 0 upwards.
    transpert.errors.SplitError
        If nothing, or everything, would be held out, a group is asked for by two sets, or cells leak.
    transpert.errors.UnknownNameError
        If a column or a value does not exist; the nearest one is named.
    transpert.errors.OptionError
        If ``holdout`` or ``validation`` names no columns, or an option is out of range.

    Notes
    -----
    Seen parts of combinations: Roohani et al. (2024), Nature Biotechnology 42:927 (GEARS). Effects of two perturbations
    whose correlation is above .8 are taken for the same: in Papalexi et al. (2021) those of IFNGR1, JAK2 and STAT1
    correlate .96 to .99, and no other two above .5.

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
    chosen = SplitOptions(**options)
    _check_asked(holdout, by, chosen)
    share, named = _share_or_names(validation)
    seed = check_seed(seed)
    columns = [column for column in {**(holdout or {}), **(named or {})} if column != perturbation_key]
    keys = columns if context_keys is None else as_list(context_keys)
    design = Design(
        perturbation_key,
        control,
        tuple(dict.fromkeys([*keys, *columns])),
        combination_separator=combination_separator,
        **{name: getattr(chosen, name) for name in ("batch_key", "dose_key", "time_key")},
    )
    sets = _sets_of_names(together)
    groups, of_guide, merged = _groups(adata, design, sets)
    perturbed = ~groups.table["is_control"].to_numpy()
    draw = Draw(adata, groups, merged, chosen, fraction, perturbed, np.random.default_rng(seed))
    test = matching(groups, holdout, of_guide) if holdout is not None else drawn(draw, str(by))
    kind = kind_of(groups, test) if by is None or (by == "combination" and chosen.seen_parts < 2) else by
    held = np.zeros(len(groups), dtype=bool)
    if named is not None:
        held = matching(groups, named, of_guide)
    elif share:
        held = drawn(replace(draw, fraction=share, eligible=perturbed & ~test), str(by or kind))
    _check_apart(groups, test, held)
    arguments = {
        "holdout": _plain(holdout),
        "by": by,
        "fraction": float(fraction),
        "validation": share or _plain(named),
        "together": sets,
        "perturbation_key": perturbation_key,
        "control": control_labels(control),
        "combination_separator": combination_separator,
        "context_keys": list(keys),
        "seed": seed,
        **chosen.to_dict(sorted({parts[0] for parts in parts_of(groups) if len(parts) == 1})),
    }
    split_of_group = np.select([test, held], [_keys.TEST, _keys.VALIDATION], _keys.TRAIN).astype(object)
    report = make_report(adata, groups, split_of_group, kind, arguments, merged, all_checks=chosen.on_leak == "refuse")
    write_split(adata, groups, split_of_group, report, key_added)


def make_report(
    adata: AnnData,
    groups: Groups,
    split: np.ndarray,
    kind: str,
    arguments: Mapping[str, Any],
    merged: Mapping[str, str],
    *,
    all_checks: bool,
) -> dict[str, Any]:
    """Return what ``uns`` says of a split, and refuse one that leaks."""
    table = groups.table
    used = [name for name in _OPTIONAL if getattr(groups.design, f"{name}_key") is not None]
    shown = table[["context", "perturbation", *used, "is_control", "n_cells"]].astype({"context": str})
    for name in used:
        shown[name] = [label_text(value) for value in shown[name]]
    shown["split"], shown["situation"] = split, situations(groups, split)
    _check_not_trivial(shown)
    found = leakage(adata, groups, split[groups.codes], merged)
    refuse_leaks(found, all_checks=all_checks)
    plain = {"kind": kind, "arguments": json.dumps(arguments)}
    return {**plain, "groups": shown.reset_index(drop=True), "leakage": found}


def write_split(adata: AnnData, groups: Groups, split: np.ndarray, report: Mapping[str, Any], key_added: str) -> None:
    """Write the split of every cell, and the report."""
    values = split[groups.codes]
    used = [name for name in (_keys.TRAIN, _keys.VALIDATION, _keys.TEST) if (values == name).any()]
    adata.obs[key_added] = pd.Categorical(values, categories=used)
    adata.uns[key_added] = dict(report)


def _groups(
    adata: AnnData, design: Design, sets: Sequence[Sequence[str]]
) -> tuple[Groups, dict[str, str], dict[str, str]]:
    """Return the groups, the target of every guide, and what must stay together."""
    genes = set(map(str, adata.var_names))
    design.report_labels(frame(adata.obs), genes)
    groups = make_groups(frame(adata.obs), design)
    guides = shared_targets(sorted({part for parts in parts_of(groups) for part in parts}), genes)
    of_guide = {name: target for target, names in guides.items() for name in names}
    return groups, of_guide, together_of(groups, [*guides.values(), *sets])


def _check_asked(holdout: object, by: object, options: SplitOptions) -> None:
    """Refuse a split of which nobody says, or two say, what is held out."""
    if (holdout is None) == (by is None):
        raise OptionError(
            "exactly one of holdout= and by= says what is held out",
            where="pp.split",
            remedy="Pass holdout= for populations by name, or by= for a share of them.",
        )
    _check_named(holdout, "holdout")
    if by is not None and not (isinstance(by, str) and by in LEVELS):
        raise UnknownNameError("level", [str(by)[:80]], LEVELS, where="pp.split(by=)")
    options.check_level(cast("str | None", by))


def _check_apart(groups: Groups, test: np.ndarray, validation: np.ndarray) -> None:
    """Refuse groups that are asked for twice."""
    if (test & validation).any():
        both = groups.table.loc[test & validation, ["context", "perturbation"]].agg(" / ".join, axis=1)
        raise SplitError(
            f"groups are asked for both validation and test: {list_names(both)}",
            remedy="Name them in one of holdout= and validation=.",
        )


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
    return None if values is None else {column: as_list(value) for column, value in values.items()}


def _check_not_trivial(table: pd.DataFrame) -> None:
    perturbed = table[~table["is_control"]]
    if not (perturbed["split"] == _keys.TEST).any():
        raise SplitError("no perturbed group would be held out", remedy="Check the values against obs.")
    if not (perturbed["split"] == _keys.TRAIN).any():
        raise SplitError("no perturbed group would be left to train on", remedy="Hold out fewer groups.")
