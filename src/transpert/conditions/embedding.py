"""Embeddings of perturbations: a vector for every name, and an error for a name without one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import KDTree

from transpert._counts import check_there
from transpert.errors import BackedDataError, ConditionError, OptionError, UnknownNameError

__all__ = ["Embedding"]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A vector for every perturbation, looked up by name.

    Parameters
    ----------
    names : (P,)
        Names of genes, drugs or other perturbations, each once.
    values : (P, E)
        One row a name; finite. Kept as float32, and not to be written to.
    source
        Where the vectors come from, in words; shown in messages.
    blocks
        Width of each table that was put side by side (see :func:`transpert.conditions.combine`); one by default.

    Raises
    ------
    transpert.errors.ConditionError
        If names and rows differ in number, a name occurs twice, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.conditions import Embedding
    >>> table = Embedding(("KLF1", "GATA1"), np.eye(2))
    >>> table.lookup(["GATA1"]).tolist()
    [[0.0, 1.0]]
    >>> table.lookup(["GATA2"])
    Traceback (most recent call last):
    transpert.errors.UnknownNameError: unknown name in the embedding: 'GATA2' (in a table). Did you mean: 'GATA2' may be
    'GATA1'? A name without a vector is never replaced by zeros.
    """

    names: tuple[str, ...]
    values: np.ndarray
    source: str = "a table"
    blocks: tuple[int, ...] = ()
    _places: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.names)
        values = np.array(self.values, dtype=np.float32)
        if values.ndim != 2 or len(values) != len(names) or not values.shape[1]:
            raise ConditionError(
                f"{len(names)} names but values of the shape {values.shape}",
                where=self.source,
                remedy="Give one row of at least one value for each name.",
            )
        repeated = pd.Index(names)[pd.Index(names).duplicated()].unique().tolist()
        if repeated:
            raise ConditionError(
                f"{len(repeated)} names have two vectors, for example {repeated[0]!r}",
                where=self.source,
                remedy="Keep one row for each name.",
            )
        wrong = int(np.count_nonzero(~np.isfinite(values).all(axis=1)))
        if wrong:
            raise ConditionError(
                f"the vectors of {wrong} names are NaN or infinite",
                where=self.source,
                remedy="Drop these names: a name without a vector is better than a wrong one.",
            )
        blocks = tuple(int(width) for width in self.blocks) or (values.shape[1],)
        if sum(blocks) != values.shape[1]:
            raise ConditionError(f"blocks of {blocks} do not add up to {values.shape[1]} columns", where=self.source)
        values.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "_places", {name: i for i, name in enumerate(names)})

    # --- looking up -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.values.shape[1])

    def require(self, names: Iterable[str], *, where: str | None = None) -> None:
        """Raise :class:`~transpert.errors.UnknownNameError` unless every name has a vector.

        Parameters
        ----------
        names
            The names.
        where
            Where they were asked for.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has none; the message lists such names, with the nearest one that has.
        """
        missing = sorted({str(name) for name in names} - self._places.keys())
        if missing:
            error = UnknownNameError("name in the embedding", missing, self.names)
            raise UnknownNameError(
                "name in the embedding",
                missing,
                self.names,
                where=where or self.source,
                remedy=f"{error.remedy} A name without a vector is never replaced by zeros.",
            )

    def lookup(self, names: Iterable[str]) -> np.ndarray:
        """Return the vectors of some names, ``(N, E)`` float32.

        Parameters
        ----------
        names
            The names, in the order of the rows wanted.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has no vector.
        """
        names = [str(name) for name in names]
        self.require(names)
        return self.values[[self._places[name] for name in names]]

    def restrict(self, names: Iterable[str]) -> Self:
        """Return the table of some names alone, in their order.

        Parameters
        ----------
        names
            The names.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has no vector.
        """
        names = tuple(dict.fromkeys(str(name) for name in names))
        return type(self)(names, self.lookup(names), self.source, self.blocks)

    def rename(self, names: Mapping[str, str]) -> Self:
        """Return the table under other names, for example symbols for Ensembl identifiers.

        Parameters
        ----------
        names
            Maps old names to new ones; names that it lacks stay as they are.

        Raises
        ------
        transpert.errors.ConditionError
            If two names become one.
        """
        return type(self)(tuple(names.get(name, name) for name in self.names), self.values, self.source, self.blocks)

    def shuffle(self, seed: int = 0) -> Self:
        """Return the table with its vectors dealt out at random: what a prediction is worth without them.

        Parameters
        ----------
        seed
            Seed of the draw.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        return type(self)(self.names, self.values[order], f"{self.source}, shuffled", self.blocks)

    def nearest(self, name: str, n: int = 5) -> pd.Series:
        """Return the names whose vectors are most like that of a name, by cosine after centring.

        Parameters
        ----------
        name
            The name.
        n
            How many.

        Returns
        -------
        Cosine similarity by name, largest first, the name itself left out.

        Raises
        ------
        transpert.errors.UnknownNameError
            If the name has no vector.
        """
        self.require([name])
        centred = self.values - self.values.mean(axis=0)
        lengths = np.maximum(np.linalg.norm(centred, axis=1), 1e-12)
        own = self._places[name]
        cosine = (centred @ centred[own]) / (lengths * lengths[own])
        return pd.Series(cosine, index=pd.Index(self.names), name=name).drop(name).nlargest(n)

    def distance(self, name: str, known: Iterable[str]) -> float:
        """Return how far a name is from some known ones.

        Parameters
        ----------
        name
            The name.
        known
            Names that something is known about.

        Returns
        -------
        Distance to the nearest of them, every table on the same footing, in units of the median distance of a known
        name to the nearest other one: 0 for a known name, 1 for one as far as known ones are from each other.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has no vector.
        """
        known = list(dict.fromkeys(str(other) for other in known))
        if name in known:
            return 0.0
        vectors = self.lookup(known).astype(np.float64)
        scale = np.sqrt(np.maximum(np.add.reduceat(vectors.var(axis=0), self._starts), 1e-12))
        standard = vectors / np.repeat(scale, self.blocks)
        target = self.lookup([name])[0] / np.repeat(scale, self.blocks)
        nearest = np.linalg.norm(standard - target, axis=1).min()
        between = KDTree(standard).query(standard, k=2)[0][:, 1] if len(known) > 1 else np.ones(1)
        return float(nearest / max(np.median(between), 1e-12))

    @property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum(self.blocks)[:-1].tolist()]

    def to_frame(self) -> pd.DataFrame:
        """Return the table as names x dimensions."""
        columns = [f"e{i}" for i in range(self.dimension)]
        return pd.DataFrame(self.values, index=pd.Index(self.names), columns=columns)

    def __repr__(self) -> str:
        tables = f", {len(self.blocks)} tables" if len(self.blocks) > 1 else ""
        return f"Embedding of {len(self):,} names in {self.dimension} dimensions{tables} ({self.source})"

    # --- reading tables -------------------------------------------------------------------------------------

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, name_column: str | None = None, source: str = "a DataFrame") -> Self:
        """Take the rows of a DataFrame.

        Parameters
        ----------
        frame
            One row a name; every column but the one with the names is a dimension.
        name_column
            Column with the names; the index by default.
        source
            Where the vectors come from, in words.

        Returns
        -------
        The embedding.

        Raises
        ------
        transpert.errors.ConditionError
            If a column is not numeric, or as for :class:`Embedding`.

        Examples
        --------
        >>> import pandas as pd
        >>> from transpert.conditions import Embedding
        >>> Embedding.from_frame(pd.DataFrame({"x": [0.0, 1.0]}, index=["A", "B"]))
        Embedding of 2 names in 1 dimensions (a DataFrame)
        """
        if name_column is not None:
            if name_column not in frame:
                raise UnknownNameError("column", [name_column], map(str, frame.columns), where=source)
            frame = frame.set_index(name_column)
        text = [str(column) for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
        if text:
            raise ConditionError(
                f"the columns {', '.join(map(repr, text[:5]))} are not numbers",
                where=source,
                remedy="Drop them, or name the one with the names in name_column.",
            )
        return cls(tuple(frame.index.astype(str)), frame.to_numpy(dtype=np.float32), source)

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str], *, names: str | None = None, values: str | None = None) -> Self:
        """Read an npz file with an array of names and a matrix of vectors.

        Parameters
        ----------
        path
            The file. Arrays of objects are not read, because they would run code.
        names, values
            Keys of the two arrays; the only one-dimensional array of text and the only matrix by default.

        Returns
        -------
        The embedding.

        Raises
        ------
        transpert.errors.ConditionError
            If the file has not exactly one such array and no key was given.
        transpert.errors.UnknownNameError
            If a key does not exist.
        """
        where = Path(path).name
        with np.load(path, allow_pickle=False) as stored:
            shapes = {key: (stored[key].ndim, stored[key].dtype.kind) for key in stored.files}
            for key in (names, values):
                if key is not None and key not in shapes:
                    raise UnknownNameError("array", [key], shapes, where=where)
            text = [key for key, (ndim, kind) in shapes.items() if ndim == 1 and kind in "US"]
            matrices = [key for key, (ndim, kind) in shapes.items() if ndim == 2 and kind in "fiu"]
            found = np.asarray(stored[names or _only(text, "names", where)]).astype(str)
            return cls(tuple(found.tolist()), stored[values or _only(matrices, "values", where)], where)

    @classmethod
    def from_h5ad(cls, source: AnnData | str | os.PathLike[str], *, key: str | None = None, axis: str = "obs") -> Self:
        """Take the rows of an AnnData, or of an h5ad file: one name a row.

        Parameters
        ----------
        source
            The AnnData or the file.
        key
            Key of ``obsm`` (or ``varm``) with the vectors; ``X`` by default.
        axis
            Whether the names are ``"obs"`` or ``"var"`` names.

        Returns
        -------
        The embedding.

        Raises
        ------
        transpert.errors.UnknownNameError
            If there is no such key.
        transpert.errors.OptionError
            If ``axis`` is neither.
        transpert.errors.CountsError
            If there is no ``X``.
        transpert.errors.BackedDataError
            If the AnnData is backed.
        """
        if axis not in ("obs", "var"):
            raise OptionError(f"axis is {axis!r}", remedy="Choose 'obs' or 'var'.")
        adata = source if isinstance(source, AnnData) else anndata.read_h5ad(source)
        where = "an AnnData" if isinstance(source, AnnData) else Path(source).name
        if adata.isbacked:
            raise BackedDataError(
                "a backed AnnData is not read here", where=str(adata.filename), remedy="Give its path."
            )
        names, slot = (adata.obs_names, adata.obsm) if axis == "obs" else (adata.var_names, adata.varm)
        if key is None:
            values: Any = adata.X
            check_there(values, where=f"X of {where}")
            matrix = values if axis == "obs" else values.T
        elif key in slot:
            matrix = slot[key]
        else:
            raise UnknownNameError("key", [key], map(str, slot), where=f"{axis}m of {where}")
        if sparse.issparse(matrix):
            matrix = matrix.toarray()
        return cls(tuple(map(str, names)), np.asarray(matrix), where)

    @classmethod
    def from_tokens(
        cls,
        matrix: Any,
        vocabulary: Mapping[str, int] | Sequence[str],
        *,
        source: str = "tokens of a cell model",
    ) -> Self:
        """Take the gene tokens of a trained cell model (scGPT, Geneformer, ...).

        Parameters
        ----------
        matrix : (V, E)
            The table of token vectors: an array, or a tensor such as ``model.encoder.embedding.weight``.
        vocabulary
            Row of each name, or the names in the order of the rows. Tokens such as ``"<pad>"`` are left out.
        source
            Where the vectors come from, in words.

        Returns
        -------
        The embedding.

        Raises
        ------
        transpert.errors.ConditionError
            If a row does not exist.

        Examples
        --------
        >>> import torch
        >>> from transpert.conditions import Embedding
        >>> table = torch.nn.Embedding(4, 3)
        >>> Embedding.from_tokens(table.weight, {"<pad>": 0, "KLF1": 1, "GATA1": 3}).names
        ('KLF1', 'GATA1')
        """
        if hasattr(matrix, "detach"):
            matrix = matrix.detach().float().cpu().numpy()
        matrix = np.asarray(matrix, dtype=np.float32)
        rows = dict(vocabulary) if isinstance(vocabulary, Mapping) else {name: i for i, name in enumerate(vocabulary)}
        rows = {str(name): int(row) for name, row in rows.items() if not str(name).startswith("<")}
        outside = [name for name, row in rows.items() if not 0 <= row < len(matrix)]
        if outside:
            raise ConditionError(
                f"the vocabulary points {len(outside)} names (first {outside[0]!r}) to rows beyond {len(matrix)}",
                where=source,
                remedy="Matrix and vocabulary must be of the same model.",
            )
        return cls(tuple(rows), matrix[list(rows.values())], source)

    # --- making tables --------------------------------------------------------------------------------------

    @classmethod
    def from_smiles(cls, smiles: Mapping[str, str] | pd.Series, *, radius: int = 2, n_bits: int = 1_024) -> Embedding:
        """Compute Morgan fingerprints of drugs; see :func:`transpert.conditions.fingerprints`.

        Parameters
        ----------
        smiles
            Structure of each drug by name.
        radius, n_bits
            As in :func:`~transpert.conditions.fingerprints`.

        Returns
        -------
        The embedding.

        Raises
        ------
        transpert.errors.DependencyError
            If RDKit is not installed.
        transpert.errors.ConditionError
            If a structure cannot be read; all such drugs are listed.
        """
        from .chemistry import fingerprints

        return fingerprints(smiles, radius=radius, n_bits=n_bits)

    @classmethod
    def from_gene_ontology(cls, path: str | os.PathLike[str], **options: Any) -> Embedding:
        """Build gene vectors from annotations; see :func:`transpert.conditions.gene_ontology`.

        Parameters
        ----------
        path
            A GAF file or NCBI's gene2go, gzipped or not.
        **options
            As in :func:`~transpert.conditions.gene_ontology`.

        Returns
        -------
        The embedding.

        Raises
        ------
        transpert.errors.ConditionError
            If the file is neither, or too few genes share terms.
        """
        from .ontology import gene_ontology

        return gene_ontology(path, **options)

    @classmethod
    def from_coexpression(cls, adata: AnnData, **options: Any) -> Embedding:
        """Build gene vectors from control cells; see :func:`transpert.conditions.coexpression`.

        Parameters
        ----------
        adata
            Cells, with raw counts.
        **options
            As in :func:`~transpert.conditions.coexpression`.

        Returns
        -------
        The embedding.

        Raises
        ------
        transpert.errors.ControlError
            If there are too few control cells.
        """
        from .expression import coexpression

        return coexpression(adata, **options)


def _only(keys: list[str], what: str, where: str) -> str:
    if len(keys) != 1:
        raise ConditionError(
            f"{len(keys)} arrays could be the {what}: {', '.join(keys) or 'none'}",
            where=where,
            remedy=f"Name the array in {what}=.",
        )
    return keys[0]
