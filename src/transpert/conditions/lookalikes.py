"""Labels that look like something that was not said: other controls, combinations, guides of one target."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from transpert import _keys
from transpert.errors import ConditionError, list_names, warn_user

from .guides import shared_targets
from .labels import LabelFormat
from .parts import is_list_text, split_parts

_SEPARATORS = (";", "|", ",", "&", "/", "_", "-", ":", _keys.COMBINATION)
# words that begin the label of a control, without blanks and signs between their parts
_CONTROL_WORDS = (
    "control|controls|ctrl|ctl|negctrl|negctl|negcontrol|negativecontrol|negativectrl|nontargeting|nontargetting"
    "|nontarget|notarget|notargeting|ntc|nt|nontargetingcontrol|scramble|scrambled|scrambledcontrol|scr"
    "|safeharbor|safeharbour|safetargeting|safetarget|aavs1|aavs|rosa26|hipp11|onenongenesite|intergenic"
    "|oneintergenicsite|nongenic|emptyvector|empty|noguide|vehicle|veh|dmso|dmsotf|pbs|saline|mock"
    "|untreated|unt|unstimulated|unstim|unperturbed|uninfected|untransduced|nontransduced|untransfected|nontransfected"
    "|notreatment|nostimulation|wildtype|wt|luciferase|luc|lacz|egfp|gfp|mcherry"
)
# what may follow these words: the guide, plate, replicate or species
_FOLLOWS = r"(?:control|ctrl|ctl|guide|guides|grna|sgrna|g|sg|rep|replicate|plate|well|batch|site|human|mouse|hs|mm)"
_WORD = re.compile(
    rf"(?:(?:sgrna|grna|sg|sh|si|g)[ _\-]?)?(?:{_CONTROL_WORDS})"
    rf"(?:(?<!nt)(?<!wt)\d+|[ _\-.#:]+(?:\d+|[a-z]\b)|[ _\-.#:]*{_FOLLOWS}(?![a-z]))*"
)
_SIGNS_INSIDE = re.compile(r"(?<=[a-z])[ _\-](?=[a-z])")


def looks_like_control(label: str) -> bool:
    """Whether a label reads like one of controls, such as ``"non-targeting_00124"`` or ``"DMSO_2"``."""
    text = label.strip().casefold()
    return any(_WORD.fullmatch(written) for written in (text, _SIGNS_INSIDE.sub("", text)))


def other_controls(labels: Iterable[str], label_format: LabelFormat) -> list[str]:
    """Return labels that look like controls beside those that are named."""
    return sorted(label for label in labels if not label_format.is_control(label) and looks_like_control(label))


def other_combinations(
    labels: Collection[str], label_format: LabelFormat, genes: Collection[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Yield separators, and the labels that they would take apart into names that are known."""
    single = [label for label in labels if not label_format.is_control(label) and len(label_format.split(label)) == 1]
    for separator in _SEPARATORS:
        if separator == label_format.separator:
            continue
        taken = {label: split_parts(label, separator) for label in single}
        joined = {label: parts for label, parts in taken.items() if len(parts) > 1}
        known = {*genes, *single} - set(joined)
        # "A_ctrl" says that "A" is a perturbation
        known |= {part for parts in joined.values() if any(map(label_format.is_control_part, parts)) for part in parts}
        found = [
            label
            for label, parts in joined.items()
            if not looks_like_control(label)
            and label not in genes
            and (is_list_text(label) or all(part in known or label_format.is_control_part(part) for part in parts))
        ]
        if found:
            yield separator, sorted(found)


def report_labels(
    labels: Iterable[object], label_format: LabelFormat, *, where: str, genes: Iterable[object] = ()
) -> None:
    """Report once, by name, labels that look like other controls, combinations, or guides of one target."""
    names, known = [str(label) for label in labels], set(map(str, genes))
    controls = other_controls(names, label_format)
    if controls:
        several = list_names([label_format.control, *controls[:2]])
        warn_user(
            f"{where}: {list_names(controls)} look like controls beside {label_format.named_controls}, and are taken "
            f"for perturbations. If they are controls, name them all, control=[{several}], or a pattern, 'NT*'."
        )
    perturbed = [name for name in names if name not in controls]
    for separator, combined in other_combinations(perturbed, label_format, known):
        warn_user(
            f"{where}: {list_names(combined)} look like combinations joined by {separator!r}, and are taken for single "
            f"perturbations. If they are combinations, pass combination_separator={separator!r}."
        )
    parts = {part for name in perturbed if not label_format.is_control(name) for part in label_format.split(name)}
    guides = shared_targets(sorted(parts), known)
    if guides:
        target, members = next(iter(guides.items()))
        warn_user(
            f"{where}: labels of {len(guides)} targets look like guides ({list_names(members)} of {target!r}), and are "
            "taken for different perturbations. transpert.pp.targets_of_guides pools them."
        )


def check_spellings(labels: Iterable[object], *, where: str) -> None:
    """Refuse labels that differ in blanks alone, and report once those that differ in capitals alone."""
    names = list(map(str, labels))
    for kind, spelled in (("blanks", _without_blanks), ("capitals", str.casefold)):
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(spelled(name), []).append(name)
        twins = [sorted(found) for found in alike.values() if len(found) > 1]
        if not twins:
            continue
        shown = list_names([" and ".join(map(repr, found)) for found in twins], quote=False)
        if kind == "blanks":
            raise ConditionError(
                f"labels differ in blanks alone: {shown}",
                where=where,
                remedy=f"Write each in one way: adata.{where} = adata.{where}.astype(str).str.strip().",
            )
        warn_user(
            f"{where}: {shown} differ in capitals alone, and are taken for different labels. If they are one, write "
            f"them in one way: adata.{where} = adata.{where}.replace({{{twins[0][0]!r}: {twins[0][1]!r}}})."
        )


def _without_blanks(label: str) -> str:
    return " ".join(label.split())


def report_nothing_given(n_cells: int, *, where: str) -> None:
    """Report once that perturbed cells have a dose or time of 0, as controls of some tables have."""
    if n_cells:
        warn_user(
            f"{where} is 0 in {n_cells} cells that are labelled as perturbed, and is taken for an amount like others. "
            "If these cells are controls, give them the label of controls."
        )
