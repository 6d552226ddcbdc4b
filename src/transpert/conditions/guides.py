"""Labels of guides, and the targets that they name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable

# "_g1", "-sg2", "_guide_3", "_sgRNA1", "_P1P2" of dual libraries, and the sequence of a guide
_SAYS_GUIDE = re.compile(r"[_\-. ](?:(?:g|sg|gRNA|sgRNA|guide|sh|shRNA)[_\-. ]?\d+|P1P2|P1|P2|[ACGT]{17,})$")
_STRAND = re.compile(r"_[+-]_\d+(?:\.\d+)?(?:-P1P2|-P1|-P2)?$")  # "STAT1_+_191878976.23-P1P2"
_PREFIX = re.compile(r"^(?:sg|sh)[_\- ]?(?=[A-Z0-9])")
_NUMBER = re.compile(r"([_\-])\d+$")


def guide_targets(names: Iterable[str], genes: Collection[str] = ()) -> dict[str, str]:
    """Return the target of each name that is one of a guide; names that may be names of genes are left out."""
    names = list(dict.fromkeys(names))
    known = {*genes, *names}
    found = {name: target for name in names if name not in genes and (target := _target_in_guide_name(name, genes))}
    numbered = {name: _NUMBER.sub("", name) for name in names if name not in found and _NUMBER.search(name)}
    numbered = {name: stem for name, stem in numbered.items() if stem and name not in genes}
    of_stem: dict[str, list[str]] = defaultdict(list)
    for name, stem in numbered.items():
        of_stem[stem].append(name)
    # "drug_1" to "drug_9" are nine drugs, but "A_1", "A_2", "B_1" and "B_2" two guides for each of two genes
    several = sum(len(members) > 1 for members in of_stem.values())
    for stem, members in of_stem.items():
        is_target = stem in known or stem in found.values()
        is_pair = len(members) > 1 and several > 1 and members[0][len(stem)] == "_"  # NKX2-1 and NKX2-5 are genes
        if is_target or is_pair:
            found.update(dict.fromkeys(members, stem))
    return found


def strip_guide(name: str, genes: Collection[str] = ()) -> str:
    """Return the target in one name, taking a number behind an underscore for that of a guide."""
    if name in genes:
        return name
    return _target_in_guide_name(name, genes) or (re.sub(r"_\d+$", "", name) or name)


def _target_in_guide_name(name: str, genes: Collection[str]) -> str | None:
    """Return the target that the name of a guide contains."""
    bare = _PREFIX.sub("", name)
    for expression in (_STRAND, _SAYS_GUIDE):
        if expression.search(bare):
            return expression.sub("", bare) or None
    if bare == name:
        return None
    return bare if bare in genes else _NUMBER.sub("", bare) or bare


def shared_targets(names: Iterable[str], genes: Collection[str] = ()) -> dict[str, list[str]]:
    """Return the names of the guides of each target that several names share."""
    names = list(dict.fromkeys(names))
    targets = guide_targets(names, genes)
    members: dict[str, list[str]] = defaultdict(list)
    for name in names:
        members[targets.get(name, name)].append(name)
    return {target: guides for target, guides in members.items() if len(guides) > 1}
