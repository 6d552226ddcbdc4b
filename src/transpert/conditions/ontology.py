"""Embeddings of genes from Gene Ontology annotations."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from transpert.errors import ConditionError, OptionError

from .embedding import Embedding

__all__ = ["gene_ontology"]

# columns of a GAF 2 file, http://geneontology.org/docs/go-annotation-file-gaf-format-2.2
_GAF_SYMBOL, _GAF_QUALIFIER, _GAF_TERM, _GAF_EVIDENCE = 2, 3, 4, 6
# columns of gene2go of the NCBI
_NCBI_TAXON, _NCBI_GENE, _NCBI_TERM, _NCBI_EVIDENCE, _NCBI_QUALIFIER = 0, 1, 2, 3, 4


def gene_ontology(
    path: str | os.PathLike[str],
    *,
    n_dimensions: int = 128,
    taxon: int | None = None,
    symbols: Mapping[str, str] | None = None,
    leave_out_evidence: Iterable[str] = ("ND",),
    min_genes: int = 2,
    max_share: float = 0.1,
    seed: int = 0,
) -> Embedding:
    r"""Describe genes by the Gene Ontology terms that they are annotated with.

    The matrix of genes and terms, with rare terms counting more (inverse document frequency) and every gene scaled
    to length 1, is decomposed; a gene's vector is its place on the leading components.

    Parameters
    ----------
    path
        A GAF file (as on geneontology.org), or ``gene2go`` of the NCBI; gzipped or not.
    n_dimensions
        Length of a vector.
    taxon
        NCBI number of the species, for ``gene2go`` with several; 9606 is human.
    symbols
        Symbol of each NCBI gene number, for ``gene2go``, which has none; the numbers are the names without.
    leave_out_evidence
        Evidence codes that do not count; ``"ND"`` says that nothing is known.
    min_genes
        Terms of fewer genes are left out.
    max_share
        Terms of a larger share of the genes are left out: they tell nothing apart.
    seed
        Seed of the decomposition.

    Returns
    -------
    The embedding of every gene with at least one term that is left.

    Raises
    ------
    transpert.errors.ConditionError
        If the file is neither, has several species and none is chosen, or too few genes share terms.
    transpert.errors.OptionError
        If ``n_dimensions`` is below 1.

    Notes
    -----
    Annotations with the qualifier NOT are left out. Only the terms written in the file count; their ancestors in the
    ontology are not added.

    Examples
    --------
    >>> import tempfile, pathlib, transpert as tp
    >>> lines = [
    ...     "\t".join(["UniProtKB", "id", gene, "", term, "ref", "IDA", *[""] * 10])
    ...     for gene, term in [("A", "GO:1"), ("B", "GO:1"), ("B", "GO:2"), ("C", "GO:2"), ("D", "GO:3"), ("E", "GO:3")]
    ... ]
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.gaf"
    >>> _ = path.write_text("!gaf-version: 2.2\n" + "\n".join(lines))
    >>> tp.conditions.gene_ontology(path, n_dimensions=3, max_share=1.0).nearest("D", n=1).index[0]
    'E'
    """
    if n_dimensions < 1:
        raise OptionError(f"n_dimensions is {n_dimensions}", remedy="At least 1.")
    excluded = frozenset(leave_out_evidence)
    where = Path(path).name
    pairs = sorted(set(_annotations(path, excluded, taxon, symbols or {})))
    if not pairs:
        raise ConditionError(
            "no annotation was found",
            where=where,
            remedy="The file must be a GAF file or gene2go, with annotations of the chosen taxon.",
        )
    genes, terms = sorted({gene for gene, _ in pairs}), sorted({term for _, term in pairs})
    rows, columns = {gene: i for i, gene in enumerate(genes)}, {term: i for i, term in enumerate(terms)}
    matrix = sparse.csr_matrix(
        (np.ones(len(pairs)), ([rows[gene] for gene, _ in pairs], [columns[term] for _, term in pairs]))
    )
    frequency = np.asarray(matrix.sum(axis=0)).ravel()
    matrix = matrix[:, (frequency >= min_genes) & (frequency <= max(max_share * len(genes), min_genes))]
    used = np.flatnonzero(np.diff(matrix.indptr))
    if len(used) < 2 or matrix.shape[1] < 2:
        raise ConditionError(
            f"{len(used)} genes share {matrix.shape[1]} terms, which is too little to compare them",
            where=where,
            remedy="Lower min_genes or raise max_share.",
        )
    matrix = matrix[used]
    rarity = np.log(len(used) / np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1)) + 1
    weighted = sparse.csr_matrix(matrix @ sparse.diags(rarity))
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    weighted = sparse.diags(1 / lengths) @ weighted
    kept = min(n_dimensions, min(weighted.shape) - 1)
    values = TruncatedSVD(kept, random_state=seed).fit_transform(weighted)
    return Embedding(tuple(genes[i] for i in used), values, f"Gene Ontology, {where}")


def _annotations(
    path: str | os.PathLike[str], excluded: frozenset[str], taxon: int | None, symbols: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield gene and term of every annotation that counts."""
    taxa: set[str] = set()
    with _open(path) as lines:
        is_ncbi = False
        for line in lines:
            is_ncbi = is_ncbi or line.startswith("#tax_id")
            if line.startswith(("!", "#")):
                continue
            cells = line.rstrip("\n").split("\t")
            if is_ncbi and len(cells) > _NCBI_QUALIFIER:
                if taxon is not None and cells[_NCBI_TAXON] != str(taxon):
                    continue
                taxa.add(cells[_NCBI_TAXON])
                gene, term = symbols.get(cells[_NCBI_GENE], cells[_NCBI_GENE]), cells[_NCBI_TERM]
                qualifier, evidence = cells[_NCBI_QUALIFIER], cells[_NCBI_EVIDENCE]
            elif not is_ncbi and len(cells) > _GAF_EVIDENCE:
                gene, term = cells[_GAF_SYMBOL], cells[_GAF_TERM]
                qualifier, evidence = cells[_GAF_QUALIFIER], cells[_GAF_EVIDENCE]
            else:
                continue
            if "NOT" not in qualifier.replace("|", " ").split() and evidence not in excluded:
                yield gene, term
    if len(taxa) > 1:
        raise ConditionError(
            f"the file has annotations of {len(taxa)} species",
            where=Path(path).name,
            remedy="Choose one with taxon=; 9606 is human.",
        )


def _open(path: str | os.PathLike[str]) -> IO[str]:
    with open(path, "rb") as start:
        zipped = start.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8") if zipped else open(path, encoding="utf-8")
