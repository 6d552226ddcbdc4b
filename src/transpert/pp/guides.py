"""Labels of guides pooled to their targets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import pandas as pd

from transpert._arguments import check_labels, is_several, refused
from transpert._signatures import as_annotated
from transpert.conditions.guides import guide_targets, strip_guide
from transpert.conditions.labels import Controls, LabelFormat
from transpert.conditions.lookalikes import looks_like_control
from transpert.conditions.written import means_missing


@as_annotated(but=("labels", "control"))
def targets_of_guides(
    labels: pd.Series | Iterable[str],
    *,
    control: Controls = "control",
    genes: Collection[str] = (),
    combination_separator: str = "+",
) -> pd.Series:
    """Name the target of each guide, so that the guides of a gene are one perturbation.

    Guides are recognised in ``"STAT1_g1"``, ``"STAT1-sg2"``, ``"sgSTAT1-2"``, ``"STAT1_1"``, ``"STAT1_P1P2"``, and
    names that end in the sequence of a guide. Labels that mean controls (non-targeting guides, safe harbours such as
    AAVS1 and ROSA26) become the control label. A number behind a hyphen is a guide only where its stem is a gene or
    another label: NKX2-1 is a gene.

    Parameters
    ----------
    labels
        Labels of guides, or combinations of them.
    control
        The label of control cells, several, or a pattern; the first one is written.
    genes
        Names of genes, for example ``adata.var_names``: a label that is one of them stays.
    combination_separator
        What joins the guides of a combination.

    Returns
    -------
    The targets, with the index of ``labels``; what is missing stays missing.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.pp.targets_of_guides(["STAT1_g1", "sgSTAT1-2", "STAT1_3", "AAVS1_2", "NKX2-1"]).tolist()
    ['STAT1', 'STAT1', 'STAT1', 'control', 'NKX2-1']
    """
    labels = list(labels) if isinstance(labels, Iterator) else labels
    if not is_several(check_labels(labels, name="labels")):
        raise refused("labels", labels, "Give the labels of all cells: a column, or a list.")
    column = labels if isinstance(labels, pd.Series) else pd.Series(list(labels), dtype=object)
    form = LabelFormat.of(control, combination_separator)
    genes = set(map(str, genes))
    distinct = [label for label in pd.unique(column) if not means_missing(label)]
    parts = {part for label in distinct for part in _names(str(label), form)}
    targets = guide_targets(parts, genes)

    def target(part: str) -> str:
        if form.is_control_part(part) or (part not in genes and looks_like_control(part)):
            return form.control
        return targets.get(part) or strip_guide(part, genes)

    written = {label: _joined([target(part) for part in _names(str(label), form)], form) for label in distinct}
    return pd.Series(
        [written.get(label, label) for label in column], index=column.index, name=column.name, dtype=object
    )


def _names(label: str, form: LabelFormat) -> list[str]:
    """Take a label apart; one of controls stays whole, as does the strand in ``"STAT1_+_1918.23-P1P2"``."""
    if form.is_control(label) or looks_like_control(label) or "_+_" in label:
        return [label]
    return form.split(label)


def _joined(targets: list[str], form: LabelFormat) -> str:
    """Write the distinct targets of a label; controls beside a target are left out."""
    perturbed = [target for target in dict.fromkeys(targets) if target != form.control]
    return form.join(perturbed) if perturbed else form.control
