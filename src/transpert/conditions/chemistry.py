"""Fingerprints of drugs, from their structures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from transpert.errors import ConditionError, DependencyError, list_names

from .embedding import Embedding

__all__ = ["fingerprints"]


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
        If a structure cannot be read; all such drugs are listed.

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
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError as error:
        raise DependencyError(
            "fingerprints need RDKit, which is not installed", remedy='Install it with: pip install "transpert[chem]".'
        ) from error
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=n_bits)
    with rdBase.BlockLogs():  # what cannot be read is reported below, all at once
        molecules = {
            str(name): Chem.MolFromSmiles(text) if isinstance(text, str) and text else None
            for name, text in smiles.items()
        }
    unreadable = [name for name, molecule in molecules.items() if molecule is None]
    if unreadable:
        raise ConditionError(
            f"the structures of {len(unreadable)} drugs cannot be read: {list_names(unreadable)}",
            where="smiles",
            remedy="Correct or drop them: a drug without a structure is never given zeros.",
        )
    rows = [np.sqrt(generator.GetCountFingerprintAsNumPy(molecule)) for molecule in molecules.values()]
    values = np.array(rows, dtype=np.float32).reshape(len(rows), n_bits)
    return Embedding(tuple(molecules), values, f"Morgan fingerprints, radius {radius}")
