"""Embeddings of genes from Gene Ontology annotations."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from transpert._arguments import check_arguments, name_list
from transpert._files import reading
from transpert._signatures import as_annotated
from transpert.errors import ConditionError, OptionError, list_names

from .embedding import Embedding


@dataclass(frozen=True, slots=True)
class _Format:
    """Where a kind of annotation file has what: numbers of columns, from 0."""

    widths: range
    taxon: int
    gene: int
    qualifier: int
    term: int
    evidence: int
    name: str

    def fits(self, cells: list[str]) -> bool:
        """Whether a row can be of this kind."""
        return len(cells) in self.widths and cells[self.term].startswith("GO:")


# http://geneontology.org/docs/go-annotation-file-gaf-format-2.2; GAF 1 lacks the last two columns
_GAF = _Format(range(15, 18), taxon=12, gene=2, qualifier=3, term=4, evidence=6, name="a GAF file")
_GENE2GO = _Format(range(8, 9), taxon=0, gene=1, qualifier=4, term=2, evidence=3, name="gene2go")


@as_annotated()
def gene_ontology(
    path: str | os.PathLike[str],
    *,
    n_dimensions: int = 128,
    taxon: int | None = None,
    symbols: Mapping[str, str] | Mapping[int, str] | None = None,
    leave_out_evidence: str | Iterable[str] = ("ND",),
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
        A GAF file (as on geneontology.org), or ``gene2go`` of the NCBI, with its header or without; gzipped or not.
    n_dimensions
        Length of a vector.
    taxon
        NCBI number of the species, for files with several; 9606 is human.
    symbols
        Symbol of each NCBI gene number (integers or text), for ``gene2go``, which has none; the numbers are the names
        without. A GAF file has symbols of its own, and these are not used.
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
    check_arguments(locals())
    if n_dimensions < 1:
        raise OptionError(f"n_dimensions is {n_dimensions}", remedy="At least 1.")
    excluded = frozenset(name_list(leave_out_evidence))
    where = Path(path).name
    spelled = {str(number): symbol for number, symbol in (symbols or {}).items()}
    pairs = sorted(set(_annotations(path, excluded, taxon, spelled)))
    if not pairs:
        raise ConditionError(
            "no annotation was found" + ("" if taxon is None else f" of the taxon {taxon}"),
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
    chosen = None if taxon is None else str(taxon)
    for kind, cells in _rows(path):
        # an interaction of two organisms is written "taxon:9606|taxon:10090"; the gene is of the first
        species = cells[kind.taxon].split("|")[0].removeprefix("taxon:")
        if chosen is not None and species != chosen:
            continue
        taxa.add(species)
        # a GAF file writes "NOT|involved_in", gene2go "NOT involved_in"
        if "NOT" in cells[kind.qualifier].replace("|", " ").split() or cells[kind.evidence] in excluded:
            continue
        gene = cells[kind.gene]
        yield symbols.get(gene, gene) if kind is _GENE2GO else gene, cells[kind.term]
    if len(taxa) > 1:
        raise ConditionError(
            f"the file has annotations of {len(taxa)} species, with the taxa {list_names(sorted(taxa))}",
            where=Path(path).name,
            remedy="Choose one with taxon=; 9606 is human.",
        )


def _rows(path: str | os.PathLike[str]) -> Iterator[tuple[_Format, list[str]]]:
    """Yield the cells of every row, and the kind of the file, which the first row tells."""
    kind: _Format | None = None
    for number, line in enumerate(_lines(path), start=1):
        line = line.rstrip("\r\n")
        if not line or line.startswith(("!", "#")):
            continue
        cells = line.split("\t")
        kind = kind or next((known for known in (_GAF, _GENE2GO) if known.fits(cells)), None)
        if kind is None or not kind.fits(cells):
            read_as = "" if kind is None else f", unlike the rows before, which are of {kind.name}"
            raise ConditionError(
                f"line {number} is a row of neither a GAF file nor gene2go: it has {len(cells)} columns{read_as}",
                where=Path(path).name,
                remedy="A GAF file has 15 to 17 columns, with the term (GO:...) in the fifth; gene2go has 8, with the "
                "term in the third. Is the file complete, and separated by tabs?",
            )
        yield kind, cells


def _lines(path: str | os.PathLike[str]) -> Iterator[str]:
    remedy = "It must be a GAF file or gene2go in UTF-8, gzipped or not. Download it again if it was cut off."
    with reading(ConditionError, Path(path), "text file", remedy), _open(path) as lines:
        yield from lines


def _open(path: str | os.PathLike[str]) -> IO[str]:
    with open(path, "rb") as start:
        zipped = start.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8") if zipped else open(path, encoding="utf-8")
