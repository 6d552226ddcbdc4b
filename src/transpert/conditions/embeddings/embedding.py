"""Embeddings of perturbations: a vector for every name, and an error for a name without one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert._arguments import name_list
from transpert._docstrings import fill_docstring
from transpert._seeds import check_seed
from transpert._signatures import as_annotated, check_fields
from transpert.errors import ConditionError, OptionError, UnknownNameError, list_names

from .distances import nearest_distances
from .names import checked_names
from .npz import read_npz
from .tables import as_numbers, read_frame, read_rows, read_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A vector for every perturbation, looked up by name.

    Parameters
    ----------
    names : (P,)
        Names of genes, drugs or other perturbations, each once.
    values : (P, E)
        One row a name; finite. Kept as a dense float32 matrix, and not to be written to; may be given as a sparse one.
    source
        Where the vectors come from, in words; shown in messages.
    blocks
        Width of each table that was put side by side (see :func:`transpert.conditions.combine`); one by default.

    Raises
    ------
    transpert.errors.ConditionError
        If there are no names, they are one string, one is missing or occurs twice, names and rows differ in number,
        or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.conditions import Embedding
    >>> table = Embedding(("KLF1", "GATA1"), np.eye(2))
    >>> table.lookup(["GATA1"]).tolist()
    [[0.0, 1.0]]
    >>> table.lookup(["GATA2"])
    Traceback (most recent call last):
    transpert.errors.UnknownNameError: unknown name in the embedding: 'GATA2' (in a table). Known:
    'KLF1', 'GATA1'. A name without a vector is never replaced by zeros.
    """

    names: tuple[str, ...]
    values: np.ndarray
    source: str = "a table"
    blocks: tuple[int, ...] = ()
    _places: dict[str, int] = field(init=False, repr=False)
    # names that combine() left out, and the tables that lack them; only to say so where such a name is asked for
    _left_out: dict[str, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, but=("names", "values"))
        names = checked_names(self.names, self.source)
        values = as_numbers(self.values, self.source)
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
            raise ConditionError(
                f"blocks of {blocks} do not add up to {values.shape[1]} columns",
                where=self.source,
                remedy="Give widths of blocks whose sum is the number of columns.",
            )
        values.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "_places", {name: i for i, name in enumerate(names)})

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.values.shape[1])

    @as_annotated()
    def require(self, names: str | Iterable[str], *, where: str | None = None) -> None:
        """Raise :class:`~transpert.errors.UnknownNameError` unless every name has a vector.

        Parameters
        ----------
        names
            The names, or one.
        where
            Where they were asked for.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has none; the message lists such names, with the one that each may be, and says which table
            lacks them where :func:`transpert.conditions.combine` left them out.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> table = Embedding(("KLF1", "GATA1"), np.eye(2))
        >>> table.require(["GATA1"])
        >>> table.require(["GATA1", "KLF2"], where="the test split")
        Traceback (most recent call last):
        transpert.errors.UnknownNameError: unknown name in the embedding: 'KLF2' (in the test split). Known:
        'KLF1', 'GATA1'. A name without a vector is never replaced by zeros.
        """
        missing = sorted(set(name_list(names)) - self._places.keys())
        if missing:
            error = UnknownNameError("name in the embedding", missing, self.names)
            lacking = [f"{name!r} is not in {self._left_out[name]}" for name in missing if name in self._left_out]
            said = f" {list_names(lacking, quote=False)}." if lacking else ""
            raise UnknownNameError(
                "name in the embedding",
                missing,
                self.names,
                where=where or self.source,
                remedy=f"{error.remedy}{said} A name without a vector is never replaced by zeros.",
            )

    @as_annotated()
    def lookup(self, names: str | Iterable[str]) -> np.ndarray:
        """Return the vectors of some names, ``(N, E)`` float32.

        Parameters
        ----------
        names
            The names, in the order of the rows wanted; one name gives one row.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has no vector.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> table = Embedding(("KLF1", "GATA1"), np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> table.lookup(["GATA1", "KLF1"]).tolist()
        [[3.0, 4.0], [1.0, 2.0]]
        >>> table.lookup("GATA1").shape
        (1, 2)
        """
        names = name_list(names)
        self.require(names)
        return self.values[[self._places[name] for name in names]]

    @as_annotated()
    def restrict(self, names: str | Iterable[str]) -> Self:
        """Return the table of some names alone, in their order.

        Parameters
        ----------
        names
            The names.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has no vector.
        transpert.errors.ConditionError
            If there are no names.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> Embedding(("A", "B", "C"), np.eye(3)).restrict(["C", "A"]).names
        ('C', 'A')
        """
        names = tuple(dict.fromkeys(name_list(names)))
        return type(self)(names, self.lookup(names), self.source, self.blocks)

    @as_annotated()
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

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> table = Embedding(("ENSG00000105610", "GATA1"), np.eye(2))
        >>> table.rename({"ENSG00000105610": "KLF1"}).names
        ('KLF1', 'GATA1')
        """
        return type(self)(tuple(names.get(name, name) for name in self.names), self.values, self.source, self.blocks)

    def shuffle(self, seed: int = 0) -> Self:
        """Return the table with its vectors given to other names at random, to test what the vectors are worth.

        Parameters
        ----------
        seed
            Seed of the draw.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> shuffled = Embedding(("A", "B", "C"), np.array([[1.0], [2.0], [3.0]])).shuffle(seed=1)
        >>> shuffled.names, sorted(shuffled.values.ravel().tolist())
        (('A', 'B', 'C'), [1.0, 2.0, 3.0])
        """
        order = np.random.default_rng(check_seed(seed)).permutation(len(self))
        return type(self)(self.names, self.values[order], f"{self.source}, shuffled", self.blocks)

    @as_annotated()
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

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> table = Embedding(("A", "B", "C"), np.array([[2.0, 0.0], [1.0, 0.1], [-3.0, 1.0]]))
        >>> table.nearest("A", n=1).index.tolist()
        ['B']
        """
        self.require([name])
        centred = self.values - self.values.mean(axis=0)
        lengths = np.maximum(np.linalg.norm(centred, axis=1), 1e-12)
        own = self._places[name]
        cosine = (centred @ centred[own]) / (lengths * lengths[own])
        return pd.Series(cosine, index=pd.Index(self.names), name=name).drop(name).nlargest(n)

    @as_annotated()
    def distances(self, names: str | Iterable[str], known: str | Iterable[str]) -> dict[str, float]:
        """Return how far names are from some known ones.

        Parameters
        ----------
        names
            The names.
        known
            Names that something is known about; at least one.

        Returns
        -------
        By name the distance to the nearest known one, every table weighted equally, in units of the median distance
        of a known name to the nearest other one: 0 for a known name, 1 for one as far as known ones are from each
        other. Where one name is known, in units of that distance in the whole table.

        Raises
        ------
        transpert.errors.UnknownNameError
            If a name has no vector.
        transpert.errors.OptionError
            If there are no known names.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> line = Embedding(("A", "B", "C", "far"), np.array([[0.0], [1.0], [2.0], [5.0]]))
        >>> {name: round(value, 6) for name, value in line.distances(["A", "far"], ["A", "B", "C"]).items()}
        {'A': 0.0, 'far': 3.0}
        """
        known, names = list(dict.fromkeys(name_list(known))), list(dict.fromkeys(name_list(names)))
        if not known:
            raise OptionError(
                f"there are no known names to measure the distance of {', '.join(map(repr, names))} from",
                where="known",
                remedy="Give at least one name, for example the perturbations trained on.",
            )
        new = sorted(set(names) - set(known))
        if not new:
            return dict.fromkeys(names, 0.0)
        apart = nearest_distances(self.values, self.lookup(known), self.lookup(new), self.blocks)
        found = dict(zip(new, apart, strict=True))
        return {name: found.get(name, 0.0) for name in names}

    def to_frame(self) -> pd.DataFrame:
        """Return the table as names x dimensions.

        Examples
        --------
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> Embedding(("A", "B"), np.eye(2)).to_frame()
            e0   e1
        A  1.0  0.0
        B  0.0  1.0
        """
        columns = [f"e{i}" for i in range(self.dimension)]
        return pd.DataFrame(self.values, index=pd.Index(self.names), columns=columns)

    def __repr__(self) -> str:
        tables = f", {len(self.blocks)} tables" if len(self.blocks) > 1 else ""
        return f"Embedding of {len(self):,} names in {self.dimension} dimensions{tables} ({self.source})"

    @classmethod
    @as_annotated()
    @fill_docstring
    def from_frame(cls, frame: pd.DataFrame, *, name_column: str | None = None, source: str = "a DataFrame") -> Self:
        """Take the rows of a DataFrame.

        Parameters
        ----------
        frame
            One row a name; every column but the one with the names is a dimension.
        name_column
            Column with the names; the index by default.
        %(embedding_made)s

        Raises
        ------
        transpert.errors.ConditionError
            If a column is not numeric, the index has several levels, or as for :class:`Embedding`.
        transpert.errors.UnknownNameError
            If there is no column ``name_column``.

        Examples
        --------
        >>> import pandas as pd
        >>> from transpert.conditions import Embedding
        >>> Embedding.from_frame(pd.DataFrame({"x": [0.0, 1.0]}, index=["A", "B"]))
        Embedding of 2 names in 1 dimensions (a DataFrame)
        """
        return cls(*read_frame(frame, name_column, source), source)

    @classmethod
    @as_annotated()
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
            If it is no npz file, has not exactly one such array and no key was given, or the array needed is one of
            objects.
        transpert.errors.UnknownNameError
            If a key does not exist.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from transpert.conditions import Embedding
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "genes.npz"
        >>> np.savez(path, names=np.array(["KLF1", "GATA1"], dtype=str), values=np.eye(2))
        >>> Embedding.from_npz(path)
        Embedding of 2 names in 2 dimensions (genes.npz)
        """
        return cls(*read_npz(path, names, values), Path(path).name)

    @classmethod
    @as_annotated()
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

        Examples
        --------
        >>> import anndata, numpy as np, pandas as pd
        >>> from transpert.conditions import Embedding
        >>> drugs = anndata.AnnData(np.eye(2, dtype=np.float32), obs=pd.DataFrame(index=["aspirin", "ibuprofen"]))
        >>> Embedding.from_h5ad(drugs)
        Embedding of 2 names in 2 dimensions (an AnnData)
        """
        return cls(*read_rows(source, key, axis))

    @classmethod
    @as_annotated(but=("matrix", "vocabulary"))
    @fill_docstring
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
            The table of token vectors: an array, dense or sparse, or a tensor such as
            ``model.encoder.embedding.weight``.
        vocabulary
            Row of each name, or the names in the order of the rows. Tokens such as ``"<pad>"`` are left out.
        %(embedding_made)s

        Raises
        ------
        transpert.errors.ConditionError
            If a row does not exist, or a name occurs twice.

        Examples
        --------
        >>> import torch
        >>> from transpert.conditions import Embedding
        >>> table = torch.nn.Embedding(4, 3)
        >>> Embedding.from_tokens(table.weight, {"<pad>": 0, "KLF1": 1, "GATA1": 3}).names
        ('KLF1', 'GATA1')
        """
        return cls(*read_tokens(matrix, vocabulary, source), source)
