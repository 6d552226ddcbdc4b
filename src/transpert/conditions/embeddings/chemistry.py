"""Fingerprints of drugs, from their structures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from transpert._arguments import check_whole, refused
from transpert._signatures import as_annotated
from transpert.errors import ConditionError, DependencyError, OptionError, list_names

from .embedding import Embedding


@as_annotated(but=("smiles",))
def fingerprints(smiles: Mapping[str, str] | pd.Series, *, radius: int = 2, n_bits: int = 1_024) -> Embedding:
    """Compute Morgan fingerprints of drugs, with counts.

    Parameters
    ----------
    smiles
        Structure of each drug, as SMILES, by name.
    radius
        Bonds from an atom that a feature sees; 2 is what others call ECFP4.
    n_bits
        Length of the vector that features are hashed into.

    Returns
    -------
    One vector a drug: the square root of how often each feature occurs, so that a long chain does not outweigh
    everything else.

    Raises
    ------
    transpert.errors.DependencyError
        If RDKit is not installed (``pip install "transpert[chem]"``).
    transpert.errors.ConditionError
        If there is no structure, one cannot be read (all such drugs are listed), or a name occurs twice.
    transpert.errors.OptionError
        If ``radius`` is below 0 or ``n_bits`` below 1.

    Notes
    -----
    Rogers and Hahn (2010), "Extended-connectivity fingerprints", J. Chem. Inf. Model. 50:742, as RDKit computes them.

    Examples
    --------
    >>> from transpert.conditions import fingerprints
    >>> drugs = fingerprints({"ethanol": "CCO", "propanol": "CCCO", "benzene": "c1ccccc1"})
    >>> drugs.nearest("ethanol", n=1).index[0]
    'propanol'
    """
    if n_bits < 1:
        raise OptionError(f"n_bits is {n_bits}", where="fingerprints", remedy="At least 1; 1024 is usual.")
    if radius < 0:
        raise OptionError(f"radius is {radius}", where="fingerprints", remedy="At least 0; 2 is usual.")
    if not isinstance(smiles, Mapping | pd.Series):
        raise refused("smiles", smiles, "Give the SMILES by name of the drug, as a mapping or a Series.")
    if not len(smiles):
        raise ConditionError("there are no structures", where="smiles", remedy="Give the SMILES of at least one drug.")
    for name, value in (("radius", radius), ("n_bits", n_bits)):
        check_whole(value, name=name, least=1, most=10**6)
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError as error:
        raise DependencyError(
            "fingerprints need RDKit, which is not installed", remedy='Install it with: pip install "transpert[chem]".'
        ) from error
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=int(radius), fpSize=int(n_bits))
    with rdBase.BlockLogs():  # what cannot be read is reported below, all at once
        # pairs and not a dict: the index of a Series may have a name twice, which the embedding refuses
        molecules: list[tuple[Any, Any]] = [
            (name, Chem.MolFromSmiles(text) if isinstance(text, str) and text else None)
            for name, text in smiles.items()
        ]
    unreadable = [name for name, molecule in molecules if molecule is None]
    if unreadable:
        raise ConditionError(
            f"the structures of {len(unreadable)} drugs cannot be read: {list_names(unreadable)}",
            where="smiles",
            remedy="Correct or drop them: a drug without a structure is never given zeros.",
        )
    rows = [np.sqrt(generator.GetCountFingerprintAsNumPy(molecule)) for _, molecule in molecules]
    values = np.array(rows, dtype=np.float32).reshape(len(rows), n_bits)
    return Embedding(tuple(name for name, _ in molecules), values, f"Morgan fingerprints, radius {radius}")
