"""A predictor as plain numbers: what a model says of some populations, read without scvi-tools, torch or the model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse

from transpert import _keys
from transpert._counts import library_of_each, log1p_per_10k, read_counts
from transpert._docstrings import fill_docstring
from transpert._files import Count, Sums, checksums, damage, reading, write_json
from transpert._folders import folder_written
from transpert._schema import DAMAGED, checked, read_json, sealed, unsealed
from transpert._seeds import check_seed
from transpert._signatures import as_annotated
from transpert.errors import GeneError, ModelFileError, check_known

from .exported_network import ExportedNetwork, NetworkShape
from .options import ReadoutOptions
from .readout import transport_counts

_DESCRIPTION, _NUMBERS = "predictor.json", "predictor.safetensors"
_NETWORK = "network."  # begins the names of its arrays
_FORMAT = 3


class _Description(msgspec.Struct, kw_only=True):
    """What ``predictor.json`` says."""

    format: int
    model: str
    transpert: str
    genes: list[str]
    populations: list[str]
    draws: list[Count]
    design: dict[str, Any]
    tolerance: float
    network: NetworkShape | None
    files: Sums


@dataclass(frozen=True, slots=True, eq=False)
@fill_docstring
class ExportedPredictor:
    """What a model says of some populations, as plain numbers.

    Control cells are moved as the model moves them with the read-out ``"counts"``: with its shift of the mean, and with
    what the networks of SCALE say of each cell, where these count. Models in closed form, and SCALE where the weight of
    its networks is 0, give the same counts as ``model.predict`` for the same cells. Networks are computed in numpy, and
    agree with those in torch to single precision: a count in a thousand may differ. The anchor reads the controls when
    the predictor is written; its shift is the same for whatever cells are moved.

    Parameters
    ----------
    genes
        Names of the genes.
    populations
        Names of the populations, ``"context: condition"``.
    shift : (P, G)
        Change of the mean log1p of counts per 10k.
    dispersion : (G,)
        Negative-binomial dispersion of what is added; empty for none.
    draws : (P,)
        What makes the draws of each population its own.
    network
        The network that counts beside the anchor, whose shift is then ``shift``; ``None`` where none does.
    tolerance
        Genes whose mean log1p changes by no more than this are not touched.
    model
        Name of the model.
    design
        The columns that the model was trained with.

    Examples
    --------
    >>> import tempfile, transpert as tp
    %(trained_kernel)s
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.export(f"{folder}/plain", {"context": "context_0"})
    ...     predictor = tp.transport.ExportedPredictor.load(f"{folder}/plain")
    >>> predictor.populations
    ('context_0: P0', 'context_0: P1')
    >>> controls = adata[(adata.obs["context"] == "context_0") & (adata.obs["perturbation"] == "control")]
    >>> predictor.predict(controls.layers["counts"], controls.obs["library_size"], "context_0: P0").shape
    (30, 20)
    """

    genes: tuple[str, ...]
    populations: tuple[str, ...]
    shift: np.ndarray
    dispersion: np.ndarray
    draws: tuple[int, ...]
    model: str
    design: Mapping[str, Any]
    network: ExportedNetwork | None = None
    tolerance: float = ReadoutOptions().tolerance

    @as_annotated()
    def predict(
        self,
        counts: np.ndarray | sparse.spmatrix,
        library_size: np.ndarray,
        population: str,
        *,
        genes: Sequence[str] | None = None,
        seed: int = 0,
    ) -> sparse.csr_matrix:
        """Move control cells to a population.

        Parameters
        ----------
        counts : (N, G)
            Raw counts of control cells of its context.
        library_size : (N,)
            Total counts of each cell over all measured genes.
        population
            Which one, as in ``populations``.
        genes
            Names of the columns of ``counts``, where they are in another order than ``self.genes``, or more.
        seed
            Seed of the draw.

        Returns
        -------
        ``(N, G)`` integer counts, in the order of ``self.genes``.

        Raises
        ------
        transpert.errors.UnknownNameError
            If there is no such population.
        transpert.errors.GeneError
            If genes are missing.
        transpert.errors.CountsError
            If these are not counts.
        """
        check_known("population", [population], self.populations)
        matrix = sparse.csr_matrix(read_counts(counts, where="the control counts"))
        if genes is not None:
            matrix = matrix[:, self._places(list(map(str, genes)))]
        if matrix.shape[1] != len(self.genes):
            raise GeneError(
                f"there are {matrix.shape[1]:,} genes, not {len(self.genes):,}",
                where="the control counts",
                remedy="Name them with genes=, so that they are found.",
            )
        library = library_of_each(matrix, library_size)
        place = self.populations.index(population)
        scaled = sparse.diags_array(_keys.SCALE_FACTOR / library) @ matrix
        before = np.asarray(scaled.log1p().mean(axis=0), dtype=np.float64).ravel()
        own_seed = int(np.random.SeedSequence([check_seed(seed), self.draws[place]]).generate_state(1)[0])
        shift, effects = self.shift[place], None
        if self.network is not None and matrix.shape[0]:
            cells = np.asarray(log1p_per_10k(matrix, library).toarray(), dtype=np.float32)
            shift, effects = self.network.join(cells, shift, place, own_seed)
        return transport_counts(
            matrix,
            library,
            np.maximum(before + shift, 0),
            cell_effects=effects,
            dispersion=self.dispersion if len(self.dispersion) else None,
            seed=own_seed,
            options=ReadoutOptions(tolerance=self.tolerance),
        )

    def _places(self, names: list[str]) -> np.ndarray:
        """Find the genes among the columns of a matrix."""
        known = {name: place for place, name in enumerate(names)}
        absent = [name for name in self.genes if name not in known]
        if absent:
            raise GeneError(
                f"{len(absent)} of {len(self.genes)} genes are missing, such as {absent[0]!r}",
                where="genes",
                remedy="Give the genes that the model was trained with, under the same names.",
            )
        return np.array([known[name] for name in self.genes])

    @as_annotated()
    def save(self, dir_path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the predictor into a folder: JSON and safetensors, all or nothing.

        Parameters
        ----------
        dir_path
            The folder.
        overwrite
            Replace a predictor that is there.

        Raises
        ------
        transpert.errors.ModelFileError
            If the folder exists and ``overwrite`` is false, or holds something else.
        """
        from transpert import __version__

        target = Path(dir_path)

        def check() -> None:
            there = target.exists()
            if there and not (overwrite and (target / _DESCRIPTION).is_file()):
                raise ModelFileError("the folder exists", where=str(target), remedy="Choose another name.")

        check()
        described = {"format": _FORMAT, "model": self.model, "transpert": __version__, "genes": list(self.genes)}
        described |= {"populations": list(self.populations), "draws": list(self.draws), "design": dict(self.design)}
        described |= {"tolerance": self.tolerance, "network": None}
        numbers = {"shift": self.shift, "dispersion": self.dispersion}
        if self.network is not None:
            described["network"] = msgspec.to_builtins(self.network.shape)
            numbers |= {f"{_NETWORK}{name}": array for name, array in self.network.arrays.items()}
        then = "export the model again"
        with folder_written(target, "predictor", ModelFileError, then, check=check) as new:
            save_file(numbers, new / _NUMBERS)
            described["files"] = checksums(new, [_NUMBERS])
            write_json(new / _DESCRIPTION, sealed(json.loads(json.dumps(described))))

    @classmethod
    @as_annotated()
    def load(cls, dir_path: str | os.PathLike[str]) -> Self:
        """Read a folder that ``model.export`` wrote.

        Parameters
        ----------
        dir_path
            The folder.

        Returns
        -------
        The predictor.

        Raises
        ------
        transpert.errors.ModelFileError
            If the folder is not a predictor, or is damaged.
        """
        source = Path(dir_path)
        if not (source / _DESCRIPTION).is_file():
            raise ModelFileError(f"there is no {_DESCRIPTION}", where=str(source), remedy="Is the path right?")
        said = _read_description(source / _DESCRIPTION)
        found = damage(source, _NUMBERS, said.files)
        if found is not None:
            raise ModelFileError(f"{_NUMBERS} {found}", where=str(source), remedy=DAMAGED)
        with reading(ModelFileError, source, "predictor", DAMAGED):
            numbers = load_file(source / _NUMBERS)
            shift, dispersion = numbers["shift"], numbers["dispersion"]
        shape = (len(said.populations), len(said.genes))
        if shift.shape != shape or dispersion.shape not in ((0,), shape[1:]) or len(said.draws) != shape[0]:
            raise ModelFileError("the numbers do not fit the description", where=str(source), remedy=DAMAGED)
        network = None if said.network is None else ExportedNetwork(said.network, _of_network(numbers))
        predictor = cls(
            genes=tuple(said.genes),
            populations=tuple(said.populations),
            shift=shift,
            dispersion=dispersion,
            draws=tuple(said.draws),
            model=said.model,
            design=said.design,
            network=network,
            tolerance=said.tolerance,
        )
        with reading(ModelFileError, source, "predictor", DAMAGED):
            predictor._try_network()
        return predictor

    def _try_network(self) -> None:
        """Ask the network about one cell, so that weights that do not fit are found when they are read."""
        if self.network is not None:
            for place, shift in enumerate(self.shift):
                self.network.join(np.zeros((1, len(self.genes)), dtype=np.float32), shift, place, 0)


def _of_network(numbers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of the network."""
    return {name.removeprefix(_NETWORK): array for name, array in numbers.items() if name.startswith(_NETWORK)}


def _read_description(path: Path) -> _Description:
    """Read what ``predictor.json`` says, once it has its checksum."""
    raw = read_json(path, ModelFileError, DAMAGED)
    made_by = raw.get("format") if isinstance(raw, dict) else None
    if made_by != _FORMAT:
        raise ModelFileError(
            f"the predictor has format {made_by}, this version reads {_FORMAT}",
            where=str(path),
            remedy="Export the model again.",
        )
    plain = unsealed(raw, ModelFileError, str(path), DAMAGED, needed=True)
    return checked(plain, _Description, ModelFileError, str(path), DAMAGED)
