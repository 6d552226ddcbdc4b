"""Predictions as the Virtual Cell Challenge takes them: checked, streamed, and packed."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
from anndata import AnnData
from scipy import sparse

from transpert._anndata import layer_names, metadata_of
from transpert._arguments import check_arguments, check_choice, check_names, check_path, check_whole
from transpert._counts import read_counts
from transpert._docstrings import fill_docstring
from transpert._folders import file_written
from transpert.data.readers.readers import CountReader, open_reader
from transpert.errors import (
    ConditionError,
    CountsError,
    GeneError,
    GroupSizeError,
    OptionError,
    StoreError,
    UnknownNameError,
    check_known,
    list_names,
    warn_user,
)
from transpert.groups import Design
from transpert.groups.table import context_labels

from ._evaluation.cell_reader import open_cells
from ._populations import check_labels, design_of_metadata

# the rules of the challenge of 2026, as its own tool checks them
_MAX_COUNTS = 1_000_000  # of a cell
_MAX_CELLS = 400_000
_MAX_STORED = 4_750_000_000  # entries of the matrix
_NEVER_A_TARGET = "non-targeting"
_HEADERS = frozenset({"gene", "genes", "gene_name", "gene_names", "gene_symbol", "target_gene"})
_SLICE = 2_048  # cells read at once
_LONGEST_LIST = 2_000  # names that the description of a package holds

type Unmeasured = Literal["refuse", "zero", "controls"]


@fill_docstring
def to_vcc(
    pred: AnnData | str | os.PathLike,
    path: str | os.PathLike,
    *,
    genes: Sequence[str] | str | os.PathLike,
    perturbations: Sequence[str] | str | os.PathLike | None = None,
    contexts: Sequence[str] = ("A", "B", "C"),
    n_cells: int = 400,
    design: Design | None = None,
    layer: str | None = None,
    unmeasured: Unmeasured = "refuse",
    controls: AnnData | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write a prediction as a package of the Virtual Cell Challenge 2026, checked against each of its rules.

    The package is a tar of ``meta.json`` and ``pred.h5ad.zst``, the form that ``vcc prep`` of vcc-cli writes and
    ``vcc submit`` sends. Cells are read, checked and written in slices: memory does not grow with their number.

    Parameters
    ----------
    pred
        Predicted cells with raw counts: an AnnData, or the path of an ``.h5ad`` file or zarr folder. Controls in it
        are left out, since the challenge takes none.
    path
        Where to write the package, ``.vcc``.
    genes
        The genes of the challenge in its order, or the path of its ``gene_names.csv``.
    perturbations
        The targets to be predicted, or the path of its ``pert_counts.csv``; those of the prediction if not given.
    contexts
        The contexts to be predicted, named as in the control files.
    n_cells
        Number of cells of each target and context. The column ``n_cells`` of ``perturbations`` wins.
    %(design)s
    layer
        Layer with raw counts; ``counts`` where there is one, else ``X``.
    unmeasured
        What stands for a gene of the challenge that the prediction lacks: ``"refuse"`` is an error that lists them,
        ``"zero"`` writes no counts, ``"controls"`` writes those of control cells of the context, drawn at random:
        unchanged, not predicted. The package lists these genes, so that "not measured" stays apart from "unchanged".
    controls
        For ``unmeasured="controls"``: cells with all those genes and the columns of the context, counts in ``layer``.
        Cells with another label than the control are left out where the column of the perturbation exists.
    seed
        Seed of the draw of control cells.
    overwrite
        Replace a package that exists.

    Returns
    -------
    The path of the package.

    Raises
    ------
    transpert.errors.CountsError
        If counts are negative, no integers, or not finite; a cell has more than 1,000,000; a target has none at all;
        or the package would have more stored entries than the challenge takes.
    transpert.errors.GeneError
        If genes are missing and ``unmeasured`` is ``"refuse"``, or a list has a gene twice.
    transpert.errors.GroupSizeError
        If a target has another number of cells than asked for, or there are more than 400,000 cells.
    transpert.errors.UnknownNameError
        If targets or contexts are missing, or are not asked for.
    transpert.errors.OptionError
        If an argument is out of range, or the package exists.

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> cells = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=20, n_cells=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     package = tp.tl.to_vcc(
    ...         cells, f"{folder}/mine.vcc", genes=list(cells.var_names), contexts=["context_0"],
    ...         design=tp.Design(context_keys="context"), n_cells=10,
    ...     )
    ...     package.name
    'mine.vcc'
    """
    target = check_path(path, name="path")
    check_whole(n_cells, name="n_cells", least=1)
    contexts = check_names(contexts, name="contexts")
    check_arguments({"layer": layer, "seed": seed, "overwrite": overwrite, "design": design})
    check_choice(unmeasured, ("refuse", "zero", "controls"), name="unmeasured")

    def check() -> None:
        if target.exists() and not overwrite:
            raise OptionError("the package exists already", where=str(target), remedy="Pass overwrite=True.")

    check()
    wanted_genes = _read_genes(genes)
    reader, design = _open(pred, layer, design)
    labels = _read_labels(reader, design)
    _check_populations(labels, _expected(perturbations, labels, tuple(contexts), n_cells), tuple(contexts))
    columns = reader.genes.get_indexer(wanted_genes)
    missing = wanted_genes[columns < 0]
    fill = _fill(missing, unmeasured, controls, design, layer, labels, seed)
    with file_written(target, StoreError, "write the package again", check=check) as new:
        file = new.with_name("pred.h5ad")
        n_stored = _write_cells(file, reader, labels, wanted_genes, columns, fill)
        meta: dict[str, Any] = {
            "schema": 1,
            "nnz": n_stored,
            "n_obs": int((~labels.is_control).sum()),
            "n_vars": len(wanted_genes),
            "contexts": list(contexts),
        }
        if len(missing):
            meta |= {"n_unmeasured": len(missing), "unmeasured_as": unmeasured}
            meta |= {"unmeasured": list(missing)} if len(missing) <= _LONGEST_LIST else {}
        _pack(file, meta, new)
    return target


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """Target and context of every cell, controls among them."""

    target: np.ndarray
    context: np.ndarray
    is_control: np.ndarray


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file as text."""
    if not path.is_file():
        raise OptionError("the file does not exist", where=str(path), remedy="Check the path.")
    try:
        return pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise OptionError("the file is no table", where=str(path), remedy="Give a CSV file.") from error


def _read_genes(genes: Sequence[str] | str | os.PathLike) -> pd.Index:
    """Return the genes of the challenge in its order."""
    if isinstance(genes, str | os.PathLike):
        names = [name.strip() for name in _read_table(Path(genes))[0] if name.strip()]
        names = names[1:] if names and names[0].lower() in _HEADERS else names
    else:
        names = check_names(genes, name="genes")
    found = pd.Index(names, dtype=object)
    repeated = found[found.duplicated()].unique()
    if not len(found) or len(repeated):
        what = f"genes occur more than once: {list_names(repeated)}" if len(repeated) else "there are no genes"
        raise GeneError(what, where="genes", remedy="Give every gene of the challenge once, in its order.")
    return found


def _expected(
    perturbations: Sequence[str] | str | os.PathLike | None, labels: _Labels, contexts: tuple[str, ...], n_cells: int
) -> dict[tuple[str, str], int]:
    """Return the number of cells of every context and target."""
    if perturbations is None:
        names = pd.unique(labels.target[~labels.is_control])
        return {(context, name): n_cells for context in contexts for name in names}
    if not isinstance(perturbations, str | os.PathLike):
        names = check_names(perturbations, name="perturbations")
        return {(context, name): n_cells for context in contexts for name in names}
    table = _read_table(Path(perturbations))
    table = table.iloc[1:].set_axis(list(table.iloc[0]), axis=1)
    if "target_gene" not in table:
        raise UnknownNameError("column", ["target_gene"], table.columns, where=str(perturbations))
    table = table[~table["target_gene"].isin(["", _NEVER_A_TARGET])]
    expected = {}
    for row in table.to_dict(orient="records"):
        number = row.get("n_cells", "")
        for context in [row["context"]] if "context" in row else contexts:
            expected[context, row["target_gene"]] = int(float(number)) if number else n_cells
    return expected


def _open(
    pred: AnnData | str | os.PathLike,
    layer: str | None,
    design: Design | None,
) -> tuple[CountReader, Design]:
    """Open the counts of a prediction, and find what its columns mean."""
    if isinstance(pred, AnnData):
        metadata = metadata_of(pred)
        layers = layer_names(pred)
    else:
        found = open_cells(pred, name="the prediction")
        metadata, layers = found.metadata, list(found.layers)
    reader = open_reader(pred, layer or ("counts" if "counts" in layers else None))
    return reader, design_of_metadata(metadata, reader.obs_columns, design=design)


def _read_labels(reader: CountReader, design: Design) -> _Labels:
    """Read target and context of every cell."""
    if not design.context_keys:
        raise OptionError(
            "the challenge wants the context of every cell",
            where="the design",
            remedy='Name the column that holds it: design=tp.Design(context_keys="context").',
        )
    columns = (design.perturbation_key, *design.context_keys)
    check_known("column", columns, reader.obs_columns, where="obs of the prediction")
    obs = reader.obs(list(columns))
    check_labels(obs, columns, name="the prediction")
    targets = obs[design.perturbation_key].astype(str).to_numpy(dtype=object)
    labels = _Labels(targets, _contexts(obs, design), _are_controls(targets, design))
    if labels.is_control.all():
        raise ConditionError(
            "there are only controls, and the challenge takes none", where="the prediction", remedy="Predict targets."
        )
    return labels


def _contexts(obs: pd.DataFrame, design: Design) -> np.ndarray:
    """Return what the challenge calls the context of every cell."""
    single = len(design.context_keys) == 1
    return np.asarray(obs[design.context_keys[0]].astype(str) if single else context_labels(obs, design), dtype=object)


def _are_controls(names: np.ndarray, design: Design) -> np.ndarray:
    """Return which labels mean controls, those of the challenge among them."""
    return design.label_format.control_cells(pd.Series(names)) | (names == _NEVER_A_TARGET)


def _check_populations(labels: _Labels, expected: Mapping[tuple[str, str], int], contexts: tuple[str, ...]) -> None:
    """Compare contexts, targets and numbers of cells with those asked for."""
    kept = ~labels.is_control
    found = Counter(zip(labels.context[kept], labels.target[kept], strict=True))
    own = sorted({context for context, _ in found})
    if set(own) != set(contexts):
        raise UnknownNameError(
            "context" if set(own) - set(contexts) else "context in the prediction",
            sorted(set(own) - set(contexts)) or sorted(set(contexts) - set(own)),
            contexts if set(own) - set(contexts) else own,
            where="the prediction",
            remedy=f"Predict each of {list_names(contexts)}, and name them as the control files do.",
        )
    absent = [f"{context}: {target}" for context, target in expected if (context, target) not in found]
    others = [f"{context}: {target}" for context, target in found if (context, target) not in expected]
    if absent or others:
        what = f"{len(absent)} targets are not predicted" if absent else f"{len(others)} targets were not asked for"
        raise ConditionError(
            f"{what}: {list_names(absent or others)}",
            where="the prediction",
            remedy="Predict the targets of the list, named by gene symbol and without the number of a guide.",
        )
    wrong = [f"{c}: {t} has {found[c, t]}, not {n}" for (c, t), n in expected.items() if found[c, t] != n]
    if wrong:
        raise GroupSizeError(
            f"{len(wrong)} targets have another number of cells: {list_names(wrong, quote=False)}",
            where="the prediction",
            remedy="Predict as many cells as the challenge asks for: predict(..., n_cells=400).",
        )
    if kept.sum() > _MAX_CELLS:
        what = f"there are {kept.sum():,} cells, and the challenge takes {_MAX_CELLS:,}"
        raise GroupSizeError(what, where="the prediction", remedy="Predict fewer cells of each target.")


@dataclass(frozen=True, slots=True, eq=False)
class _Fill:
    """Counts of genes that the prediction lacks, and the row of them that each cell is given."""

    counts: sparse.csr_matrix
    row_of_cell: np.ndarray


def _fill(
    missing: pd.Index,
    unmeasured: str,
    controls: AnnData | None,
    design: Design,
    layer: str | None,
    labels: _Labels,
    seed: int,
) -> _Fill | None:
    """Decide what stands for genes that the prediction lacks; None stands for no counts."""
    if not len(missing):
        return None
    if unmeasured == "refuse":
        raise GeneError(
            f"the prediction lacks {len(missing)} genes of the challenge: {list_names(missing)}",
            where="the prediction",
            remedy='Pass unmeasured="zero" to write no counts for them, or "controls" to write those of controls.',
        )
    as_what = "without counts" if unmeasured == "zero" else "with the counts of control cells"
    warn_user(
        f"{len(missing)} genes of the challenge were not measured, and are written {as_what}: they are not predicted."
    )
    if unmeasured == "zero":
        return None
    if controls is None:
        raise OptionError(
            'unmeasured="controls" needs control cells', where="controls", remedy="Pass controls=, an AnnData."
        )
    reader = open_reader(controls, layer or ("counts" if "counts" in layer_names(controls) else None))
    columns = reader.genes.get_indexer(missing)
    if (columns < 0).any():
        raise GeneError(
            f"the controls lack {(columns < 0).sum()} genes: {list_names(missing[columns < 0])}",
            where="controls",
            remedy='Give controls with all genes of the challenge, or pass unmeasured="zero".',
        )
    counts = sparse.csr_matrix(read_counts(reader.rows(0, reader.n_obs), where="controls"))[:, columns]
    return _Fill(counts, _draw_rows(reader, design, labels, seed))


def _draw_rows(reader: CountReader, design: Design, labels: _Labels, seed: int) -> np.ndarray:
    """Draw a control cell of the same context for every cell."""
    check_known("column", design.context_keys, reader.obs_columns, where="obs of the controls")
    obs = reader.obs([c for c in (design.perturbation_key, *design.context_keys) if c in reader.obs_columns])
    contexts = _contexts(obs, design)
    names = obs.get(design.perturbation_key, pd.Series(design.control, index=obs.index)).astype(str)
    usable = _are_controls(names.to_numpy(dtype=object), design)
    generator = np.random.default_rng(seed)
    rows = np.zeros(len(labels.context), dtype=int)
    for context in pd.unique(labels.context[~labels.is_control]):
        own = np.flatnonzero(usable & (contexts == context))
        if not own.size:
            raise UnknownNameError("context", [context], pd.unique(contexts), where="controls")
        cells = np.flatnonzero(labels.context == context)
        rows[cells] = generator.choice(own, cells.size)
    return rows


def _slices(
    reader: CountReader, labels: _Labels, columns: np.ndarray, fill: _Fill | None
) -> Iterator[tuple[np.ndarray, sparse.csr_matrix]]:
    """Read perturbed cells slice by slice, with the genes of the challenge in its order."""
    measured, lacking = np.flatnonzero(columns >= 0), np.flatnonzero(columns < 0)
    place = sparse.csr_matrix(  # moves each gene of the prediction to its column
        (np.ones(measured.size, np.float32), (columns[measured], measured)), shape=(len(reader.genes), len(columns))
    )
    for start in range(0, reader.n_obs, _SLICE):
        rows = np.flatnonzero(~labels.is_control[start : start + _SLICE])
        if not rows.size:
            continue
        stop = min(start + _SLICE, reader.n_obs)
        block = read_counts(reader.rows(start, stop)[rows], where=f"cells {start} to {stop} of the prediction")
        block = sparse.csr_matrix(block, dtype=np.float32) @ place
        if fill is not None:
            own = sparse.coo_matrix(fill.counts[fill.row_of_cell[start + rows]])
            block = block + sparse.csr_matrix(
                (own.data.astype(np.float32), (own.row, lacking[own.col])), shape=block.shape
            )
        block.sort_indices()
        yield start + rows, block


def _write_cells(
    file: Path, reader: CountReader, labels: _Labels, genes: pd.Index, columns: np.ndarray, fill: _Fill | None
) -> int:
    """Write the h5ad file of a package slice by slice, checking counts; return the number of stored entries."""
    kept = ~labels.is_control
    obs = pd.DataFrame(
        {"target_gene": pd.Categorical(labels.target[kept]), "context": pd.Categorical(labels.context[kept])},
        index=pd.Index(np.arange(kept.sum()).astype(str), dtype=object),
    )
    with h5py.File(file, "w") as group:
        ad.io.write_elem(group, "/", AnnData(obs=obs, var=pd.DataFrame(index=genes)))
        matrix = group.create_group("X")
        matrix.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (len(obs), len(genes))}
        )
        sinks = {
            name: matrix.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(1 << 18,))
            for name, kind in (("data", np.float32), ("indices", np.int32))
        }
        starts = [np.zeros(1, dtype=np.int64)]
        with_counts: set[tuple[str, str]] = set()
        for rows, block in _slices(reader, labels, columns, fill):
            totals = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
            _check_totals(totals, rows)
            full = rows[totals > 0]
            with_counts |= set(zip(labels.context[full], labels.target[full], strict=True))
            starts.append(starts[-1][-1] + block.indptr[1:].astype(np.int64))
            _check_stored(int(starts[-1][-1]))
            for name, sink in sinks.items():
                sink.resize((int(starts[-1][-1]),))
                sink[int(starts[-1][-1]) - block.nnz :] = getattr(block, name)
        matrix.create_dataset("indptr", data=np.concatenate(starts))
    empty = sorted(set(zip(labels.context[kept], labels.target[kept], strict=True)) - with_counts)
    if empty:
        raise CountsError(
            f"{len(empty)} targets have no counts at all: {list_names([f'{c}: {t}' for c, t in empty])}",
            where="the prediction",
            remedy="Predict them again; the challenge refuses them.",
        )
    return int(starts[-1][-1])


def _check_totals(totals: np.ndarray, rows: np.ndarray) -> None:
    """Refuse cells with more counts than the challenge takes."""
    if (totals > _MAX_COUNTS).any():
        worst = int(np.argmax(totals))
        raise CountsError(
            f"cell {rows[worst]} has {totals[worst]:,.0f} counts, and the challenge takes {_MAX_COUNTS:,}",
            where="the prediction",
            remedy="Predict with the library sizes of real cells.",
        )


def _check_stored(number: int) -> None:
    """Refuse more stored entries than the challenge takes."""
    if number > _MAX_STORED:
        raise CountsError(
            f"there are more than {_MAX_STORED:,} counts above zero, and the challenge takes no more",
            where="the prediction",
            remedy="Predict with the zeros of real cells.",
        )


def _pack(file: Path, meta: Mapping[str, Any], package: Path) -> None:
    """Compress the cells, and put them and their description into one tar."""
    packed, described = file.with_name("pred.h5ad.zst"), file.with_name("meta.json")
    with open(file, "rb") as source, pa.CompressedOutputStream(str(packed), "zstd") as sink:
        shutil.copyfileobj(source, sink, 1 << 22)
    file.unlink()
    described.write_text(json.dumps(meta, sort_keys=True), encoding="utf-8")
    with tarfile.open(package, "w") as tar:
        for path in (described, packed):  # the description first: it is read without the cells
            tar.add(path, arcname=path.name, filter=_without_owner)


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave the account and the time of the machine out of a package."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry
