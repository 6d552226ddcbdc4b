"""A hint names what was meant, and never another gene, drug or population."""

from __future__ import annotations

import pytest

from transpert._spelling import nearest_spelling


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("IFNb", "IFNB"),
        ("cd14 mono", "CD14_Mono"),
        ("rpe_1", "rpe1"),
        ("STAT1 ", "STAT1"),
        ("SATT1", "STAT1"),
        ("CD14 Mnoo", "CD14 Mono"),
        ("perturbaton", "perturbation"),
        ("perturbatoin", "perturbation"),
        ("contxt_0", "context_0"),
        ("celltypes", "cell_type"),
        ("count", "counts"),
        ("rapamicin", "rapamycin"),
    ],
)
def test_another_spelling_is_found(written, meant) -> None:
    assert nearest_spelling(written, ["other", meant, "NK"]) == meant


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("P1", "P0"),
        ("GATA2", "GATA1"),
        ("context_9", "context_0"),
        ("context_0: P7", "context_0: P0"),
        ("STAT12", "STAT21"),  # swapped numbers are other numbers
        ("IFNG", "IFNB"),
        ("HSPA1A", "HSPA1B"),
        ("GATAD1", "GATA1"),
        ("MYCN", "MYC"),
        ("Ifng", "Ifnb"),
        ("imatinib", "dasatinib"),
        ("CD4 T", "CD8 T"),
        ("B", "NK"),
        ("", "B"),
    ],
)
def test_another_name_is_not_offered(written, known) -> None:
    assert nearest_spelling(written, [known, "something else"]) is None
