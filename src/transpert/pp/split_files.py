"""Splits that are kept: in a file, in ``uns``, and as cell-load writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert._anndata import check_kind, frame
from transpert._arguments import check_arguments, check_choice, check_path, refused
from transpert._files import reading
from transpert._folders import file_written
from transpert._schema import checked, read_json, sealed, unsealed
from transpert.conditions.written import label_text
from transpert.errors import OptionError, SplitError, UnknownNameError, check_known, list_names
from transpert.groups import Design, Groups, make_groups

from ._splits.cell_load import HeldOut, read_settings, used_datasets
from ._splits.leakage import leakage, refuse_leaks
from ._splits.levels import kind_of, parts_of
from ._splits.report import as_split_report
from .splitting import make_report, write_split

_AMOUNTS = ("dose", "time", "batch")
_REMEDY = "Write it again with tp.pp.save_split."


def save_split(
    adata: AnnData,
    path: str | os.PathLike[str],
    *,
    key: str = _keys.SPLIT,
    dataset: str = "cells",
    file: str = "cells.h5ad",
) -> None:
    """Write a split into a file: ``.json`` holds any, ``.toml`` is what cell-load reads.

    Parameters
    ----------
    adata
        Cells that were split with :func:`split`.
    path
        The file, which is replaced if it exists.
    key
        Name of the split in ``uns``.
    dataset, file
        For cell-load: name of the data set, and path of its h5ad file as seen from the TOML file.

    Returns
    -------
    Nothing; the file is written in full or not at all.

    Raises
    ------
    transpert.errors.SplitError
        If there is no such split, or cell-load cannot express it: it knows one context column, and neither doses nor
        times nor batches.

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=10)
    >>> tp.pp.split(adata, holdout={"context": "context_2"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tp.pp.save_split(adata, f"{folder}/split.toml", dataset="screen", file="cells.h5ad")
    ...     print(open(f"{folder}/split.toml").read())
    [datasets]
    screen = "cells.h5ad"
    <BLANKLINE>
    [training]
    screen = "train"
    <BLANKLINE>
    [zeroshot]
    "screen.context_2" = "test"
    """
    check_arguments(locals())
    check_kind(adata, name="adata")
    target = check_path(path, name="path")
    report = as_split_report(adata.uns.get(key))
    if report is None:
        raise SplitError("there is no split", where=f"uns[{key!r}]", remedy="Call tp.pp.split(adata, ...) first.")
    if target.suffix == ".json":
        text = json.dumps(sealed(_as_plain(report)), indent=1)
    elif target.suffix == ".toml":
        with reading(SplitError, Path("uns"), "split of this package", "Call tp.pp.split(adata, ...) again."):
            text = _as_toml(report, dataset, file)
    else:
        raise refused("path", str(path), "Name a file that ends in .json or .toml.")
    with file_written(target, SplitError, "write it again") as new:
        new.write_text(text, encoding="utf-8")


def load_split(
    adata: AnnData,
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    design: Design | None = None,
    dataset: str | None = None,
    key_added: str = _keys.SPLIT,
    on_leak: str = "report",
) -> None:
    """Split cells as a file says, or as other cells were split.

    Parameters
    ----------
    adata
        Cells with the columns of the split.
    source
        A file of :func:`save_split` or of cell-load, or what another object has in ``uns["split"]``.
    design
        The columns; by default those that the split was made with. Needed for a TOML file: its first context column is
        what cell-load calls the cell type.
    dataset
        Which data set of a TOML file this is, where it has several.
    key_added
        Where to write: ``obs[key_added]`` and the report in ``uns[key_added]``.
    on_leak
        ``"report"``, or ``"refuse"``, as for :func:`split`.

    Returns
    -------
    Nothing; writes what :func:`split` writes. What leaks is looked for in these cells.

    Raises
    ------
    transpert.errors.SplitError
        If the file is none of a split, does not say where some of these groups belong, or the split leaks.
    transpert.errors.StoreError
        If a TOML file is none of cell-load.
    transpert.errors.UnknownNameError
        If a column, data set, cell type or perturbation does not exist.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=10)
    >>> tp.pp.split(adata, holdout={"context": "context_2"})
    >>> other = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=10, seed=1)
    >>> tp.pp.load_split(other, adata.uns["split"])
    >>> other.obs["split"].value_counts().to_dict()
    {'train': 70, 'test': 20}
    """
    check_arguments(locals())
    check_kind(adata, name="adata")
    check_choice(on_leak, ("report", "refuse"), name="on_leak")
    if not isinstance(source, Mapping) and check_path(source, name="source").suffix == ".toml":
        design, groups, split = _of_toml(adata, Path(source), design, dataset)
        report: Mapping[str, Any] = {"arguments": json.dumps(_columns(design))}
    else:
        report = (as_split_report(source) or {}) if isinstance(source, Mapping) else _read(Path(source))
        where = Path("uns") if isinstance(source, Mapping) else Path(source)
        with reading(SplitError, where, "split of this package", "Give what tp.pp.split or tp.pp.save_split wrote."):
            json.loads(report["arguments"])
            if design is None:
                design = _design_of(report)
            groups = make_groups(frame(adata.obs), design)
            split = _of_groups(groups, pd.DataFrame(report["groups"]))
    kind = str(report.get("kind") or kind_of(groups, split == _keys.TEST))
    arguments = json.loads(report["arguments"])
    made = make_report(adata, groups, split, kind, arguments, {}, all_checks=on_leak == "refuse")
    write_split(adata, groups, split, made, key_added)


def check_split(adata: AnnData, design: Design, *, on_leak: str = "refuse") -> pd.DataFrame:
    """Look for what leaks from a split, wherever it comes from.

    Parameters
    ----------
    adata
        Cells with the column ``design.split_key`` (``"train"``, ``"validation"``, ``"test"``).
    design
        The columns.
    on_leak
        ``"refuse"`` (default), or ``"report"``, with which only cells that are in two splits are refused.

    Returns
    -------
    One row a check: ``check``, ``found`` and ``which``.

    Raises
    ------
    transpert.errors.SplitError
        If the split leaks.
    transpert.errors.OptionError
        If the design names no ``split_key``.
    transpert.errors.UnknownNameError
        If a split has another name.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=10)
    >>> adata.obs["mine"] = ["test" if name == "context_0" else "train" for name in adata.obs["context"]]
    >>> adata.obs.loc[adata.obs["perturbation"] == "control", "mine"] = "train"
    >>> design = tp.groups.Design("perturbation", "control", ("context",), split_key="mine")
    >>> int(tp.pp.check_split(adata, design)["found"].sum())
    0
    """
    check_kind(adata, name="adata")
    check_choice(on_leak, ("report", "refuse"), name="on_leak")
    check_arguments({"design": design})
    if design is None or design.split_key is None:
        raise OptionError("the design has no split_key", where="design", remedy="Name the column with the split.")
    groups = make_groups(frame(adata.obs), design)
    split = frame(adata.obs)[design.split_key].astype(str).to_numpy(dtype=object)
    known = (_keys.TRAIN, _keys.VALIDATION, _keys.TEST)
    if unknown := sorted(set(split) - set(known)):
        raise UnknownNameError("split", unknown, known, where=f"obs[{design.split_key!r}]")
    found = leakage(adata, groups, split, {})
    refuse_leaks(found, all_checks=on_leak == "refuse")
    return found


def _columns(design: Design) -> dict[str, Any]:
    """Return the columns of a design under the names that :func:`split` has for them."""
    plain = design.to_dict()
    names = ("perturbation_key", "context_keys", "combination_separator", "batch_key", "dose_key", "time_key")
    return {**{name: plain[name] for name in names}, "control": design.controls}


def _design_of(report: Mapping[str, Any]) -> Design:
    """Return the columns that a split was made with; those of what was held out are among the context columns."""
    said = json.loads(report["arguments"])
    held = [*(said.get("holdout") or {})]
    if isinstance(said.get("validation"), dict):
        held += said["validation"]
    columns = [name for name in [*said["context_keys"], *held] if name != said["perturbation_key"]]
    return Design(
        said["perturbation_key"],
        said["control"],
        tuple(dict.fromkeys(columns)),
        combination_separator=said["combination_separator"],
        **{f"{name}_key": said.get(f"{name}_key") for name in _AMOUNTS},
    )


def _of_groups(groups: Groups, table: pd.DataFrame) -> np.ndarray:
    """Return the split of each group, by what was done to it and where it comes from."""
    form = groups.design.label_format
    used = [name for name in _AMOUNTS if name in table]
    columns = [table["context"].astype(str), *(table[name].astype(str) for name in used)]
    parts = [form.parts(str(label)) for label in table["perturbation"]]
    said = dict(zip(zip(parts, *columns, strict=True), table["split"].astype(str), strict=True))
    own = groups.table
    here = [own["context"].astype(str), *(own[name].map(label_text).astype(str) for name in used)]
    keys = list(zip(parts_of(groups), *here, strict=True))
    control = own["is_control"].to_numpy()
    absent = [
        f"{key[1]} / {label}"
        for key, label in zip(keys, own["perturbation"], strict=True)
        if key[0] and key not in said
    ]
    if absent:
        raise SplitError(
            f"the split does not say where {len(absent)} groups belong: {list_names(absent)}",
            remedy="Drop these cells, or make a split of all of them with tp.pp.split.",
        )
    return np.array(
        [_keys.TRAIN if is_control else said[key] for key, is_control in zip(keys, control, strict=True)], dtype=object
    )


def _of_toml(
    adata: AnnData, path: Path, design: Design | None, dataset: str | None
) -> tuple[Design, Groups, np.ndarray]:
    """Return the split of each group as a TOML file of cell-load says."""
    settings = read_settings(path)
    names = used_datasets(settings, path)
    if design is None or not design.context_keys:
        raise OptionError(
            "a TOML file of cell-load does not say which columns it means",
            where="design",
            remedy='Pass design=tp.groups.Design("gene", "non-targeting", ("cell_type",)).',
        )
    if dataset is None and len(names) > 1:
        raise OptionError(f"the file has {len(names)} data sets: {list_names(names)}", remedy="Pass dataset=.")
    if dataset is not None:
        check_known("data set", [dataset], names, where=str(path))
    held_out = HeldOut(dataset or names[0], settings, design, 1, path)
    groups = make_groups(frame(adata.obs), design)
    per_cell = held_out.split(frame(adata.obs), path)
    return design, groups, per_cell[[int(groups.cells(number)[0]) for number in range(len(groups))]]


class _Saved(msgspec.Struct):
    """What a JSON file of a split says."""

    kind: str
    arguments: str
    groups: dict[str, list[str | bool]]


def _as_plain(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a split as plain data."""
    table = report["groups"].drop(columns="n_cells", errors="ignore")
    rows = table.astype(object).where(table.notna(), "").to_dict("list")
    plain = {name: [bool(v) if isinstance(v, bool | np.bool_) else str(v) for v in rows[name]] for name in rows}
    return {"kind": str(report["kind"]), "arguments": str(report["arguments"]), "groups": plain}


def _read(path: Path) -> dict[str, Any]:
    """Read a split that was written as JSON."""
    plain = unsealed(read_json(path, SplitError, _REMEDY), SplitError, str(path), _REMEDY, needed=True)
    return msgspec.structs.asdict(checked(plain, _Saved, SplitError, str(path), _REMEDY))


def _as_toml(report: Mapping[str, Any], dataset: str, file: str) -> str:
    """Return a split as cell-load reads it."""
    design, table = _design_of(report), pd.DataFrame(report["groups"])
    used = [name for name in _AMOUNTS if name in table]
    if used or len(design.context_keys) != 1:
        raise SplitError(
            f"cell-load knows one context column, and the split has {len(design.context_keys)}"
            + (f" and {list_names(used)}" if used else ""),
            remedy="Write a .json file.",
        )
    if "." in dataset or not dataset:
        raise refused("dataset", dataset, "Give a name without a full stop, by which cell-load joins it to cell types.")
    names = {_keys.VALIDATION: "val", _keys.TEST: "test"}
    whole, few = [], []
    table = table[~table["is_control"].astype(bool)]
    for context, rows in table.groupby("context", sort=True):
        quoted = json.dumps(f"{dataset}.{context}", ensure_ascii=False)
        splits = set(rows["split"])
        if len(splits) == 1 and splits <= names.keys():
            whole.append(f'{quoted} = "{names[splits.pop()]}"')
        elif splits & names.keys():
            few.append(f"[fewshot.{quoted}]")
            for split, name in names.items():
                labels = rows.loc[rows["split"] == split, "perturbation"].astype(str).tolist()
                few += [f"{name} = {json.dumps(labels, ensure_ascii=False)}"] if labels else []
    shown, key = json.dumps(file, ensure_ascii=False), json.dumps(dataset, ensure_ascii=False)
    key = dataset if dataset.isidentifier() and dataset.isascii() else key
    sections = [f"[datasets]\n{key} = {shown}", f'[training]\n{key} = "train"']
    sections += ["\n".join(["[zeroshot]", *whole])] if whole else []
    return "\n\n".join([*sections, *(["\n".join(few)] if few else [])])
