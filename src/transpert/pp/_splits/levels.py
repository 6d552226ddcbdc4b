"""Which groups are held out: named, or drawn at a level of difficulty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial.distance import cdist

from transpert.conditions.written import label_text
from transpert.errors import OptionError, SplitError, UnknownNameError
from transpert.groups import Groups
from transpert.groups.table import context_column

from .options import SplitOptions
from .profiles import mean_profiles

LEVELS = ("context", "perturbation", "pair", "combination", "both", "dose", "time", "batch")


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """What is drawn from.

    Parameters
    ----------
    adata
        The cells, for the contexts that are farthest from the others.
    merged
        Maps each perturbation that must stay with others to one of them.
    fraction
        Share of the units that is drawn.
    eligible : (n_groups,)
        Groups that may be drawn.
    """

    adata: AnnData
    groups: Groups
    merged: Mapping[str, str]
    options: SplitOptions
    fraction: float
    eligible: np.ndarray
    rng: np.random.Generator

    def units(self, level: str) -> list[tuple[str, ...]]:
        """Return the indivisible unit that each group belongs to at a level; an empty one where it cannot be drawn."""
        parts = parts_of(self.groups)
        alone = {names[0] for names in parts if len(names) == 1}
        columns = {"batch": "batch", "time": "time"}
        units: list[tuple[str, ...]] = []
        for row, names in enumerate(parts):
            merged = tuple(sorted({self.merged.get(name, name) for name in names}))
            context = str(self.groups.table["context"].iloc[row])
            if level == "context":
                units.append((context,))
            elif level in columns:
                units.append((str(self.groups.table[columns[level]].iloc[row]),))
            elif level == "combination":
                units.append(merged if len(names) > 1 and set(names) <= alone else ())
            elif level == "pair":
                units.append((context, *merged))
            else:
                units.append(merged if len(names) == 1 else ())
        return units

    def pick(self, units: Sequence[tuple[str, ...]], level: str) -> set[tuple[str, ...]]:
        """Draw a share of the units of the eligible groups, of which one stays."""
        distinct = sorted({unit for unit, ok in zip(units, self.eligible, strict=True) if ok and unit})
        if len(distinct) < 2:
            raise SplitError(
                f"there are {len(distinct)} units at the level {level!r}, and one must stay in training",
                remedy="Choose another level, or name the groups with holdout=.",
            )
        count = min(max(1, round(self.fraction * len(distinct))), len(distinct) - 1)
        return {distinct[i] for i in self.rng.choice(len(distinct), size=count, replace=False)}

    def containing(self, names: Iterable[str]) -> np.ndarray:
        """Return the eligible groups with a part among the names, or together with one of them."""
        wanted = {self.merged.get(name, name) for name in names}
        held = [any(self.merged.get(part, part) in wanted for part in parts) for parts in parts_of(self.groups)]
        return np.array(held, dtype=bool) & self.eligible


def drawn(draw: Draw, level: str) -> np.ndarray:
    """Draw the groups that are held out at a level, ``(n_groups,)`` bool."""
    if not 0 < draw.fraction < 1:
        raise OptionError(f"fraction is {draw.fraction}", where="pp.split", remedy="Give a number between 0 and 1.")
    rules: dict[str, Callable[[Draw], np.ndarray]] = {
        "context": _contexts,
        "perturbation": _perturbations,
        "both": _both,
        "dose": _doses,
        "time": _times,
    }
    if level == "combination" and draw.options.seen_parts < 2:
        return _unseen_parts(draw)
    return rules[level](draw) if level in rules else _whole_units(draw, level)


def parts_of(groups: Groups) -> list[tuple[str, ...]]:
    """Return the parts of the perturbation of each group."""
    return [condition.parts for condition in groups.conditions]


def _whole_units(draw: Draw, level: str) -> np.ndarray:
    """Hold out a share of the units of a level."""
    units = draw.units(level)
    chosen = draw.pick(units, level)
    return np.array([unit in chosen for unit in units]) & draw.eligible


def _perturbations(draw: Draw) -> np.ndarray:
    """Hold out perturbations, whole pathways or whole clusters, with the combinations that contain them."""
    parts = parts_of(draw.groups)
    sets = draw.options.sets(sorted({names[0] for names in parts if len(names) == 1}))
    if sets is None:
        units = draw.units("perturbation")
        return draw.containing(name for unit in draw.pick(units, "perturbation") for name in unit)
    singles = {names[0] for names, ok in zip(parts, draw.eligible, strict=True) if ok and len(names) == 1}
    wanted, held = max(1, round(draw.fraction * len(singles))), set[str]()
    for number in draw.rng.permutation(len(sets)):
        members = set(list(sets.values())[number]) & singles
        if members and len(held) < wanted and len(held | members) < len(singles):
            held |= members
    if not held:
        raise SplitError(
            f"none of {len(sets)} sets of perturbations can be held out", remedy="Give smaller sets, of names in obs."
        )
    return draw.containing(held)


def _contexts(draw: Draw) -> np.ndarray:
    """Hold out contexts, at random or those farthest from the others, but for a few known perturbations."""
    mask = _farthest(draw) if draw.options.choice == "farthest" else _whole_units(draw, "context")
    known = draw.options.known_perturbations
    if not known:
        return mask
    units = np.array(["\t".join(unit) for unit in draw.units("perturbation")], dtype=object)
    contexts = draw.groups.table["context"].to_numpy(dtype=object)
    for context in dict.fromkeys(contexts[mask]):
        here = mask & (contexts == context)
        names = sorted(set(units[here]) - {""})
        if len(names) <= known:
            raise SplitError(
                f"{context!r} has {len(names)} perturbations, of which {known} would stay in training",
                remedy="Lower known_perturbations.",
            )
        mask = mask & ~(here & np.isin(units, draw.rng.permutation(names)[:known].tolist()))
    return mask


def _farthest(draw: Draw) -> np.ndarray:
    """Hold out the contexts whose controls are farthest from those of the nearest context that stays."""
    contexts = draw.groups.table["context"].to_numpy(dtype=object)
    names = sorted(set(contexts[draw.eligible]))
    count = min(max(1, round(draw.fraction * len(names))), len(names) - 1)
    if count < 1:
        raise SplitError(
            f"there are {len(names)} contexts", remedy="Choose another level, or name groups with holdout=."
        )
    control = draw.groups.table["is_control"].to_numpy()
    of_context = np.array([names.index(name) if name in names else -1 for name in contexts])
    profiles = mean_profiles(draw.adata, np.where(control, of_context, -1)[draw.groups.codes], len(names))
    apart = cdist(profiles, profiles)
    np.fill_diagonal(apart, np.inf)
    left = list(range(len(names)))
    for _ in range(count):
        nearest = apart[np.ix_(left, left)].min(axis=1)
        left.pop(int(np.argmax(nearest)))
    held = {name for number, name in enumerate(names) if number not in left}
    return np.isin(contexts, list(held)) & draw.eligible


def _both(draw: Draw) -> np.ndarray:
    """Hold out perturbations in all contexts, and contexts whole, so that some groups are new in both."""
    return _perturbations(draw) | _whole_units(draw, "context")


def _unseen_parts(draw: Draw) -> np.ndarray:
    """Hold out perturbations until enough combinations have as many seen parts as was asked for."""
    parts = parts_of(draw.groups)
    alone = {names[0] for names in parts if len(names) == 1}
    pairs = sorted({names for names, ok in zip(parts, draw.eligible, strict=True) if ok and len(names) == 2})
    pairs = [pair for pair in pairs if set(pair) <= alone]
    wanted, held = max(1, round(draw.fraction * len(pairs))), set[str]()
    seen = draw.options.seen_parts

    def reached() -> int:
        return sum(sum(name not in held for name in pair) == seen for pair in pairs)

    for number in draw.rng.permutation(len(pairs)):
        if reached() >= wanted:
            break
        pair = pairs[number]
        new = set(pair) if seen == 0 else {pair[draw.rng.integers(2)]}
        if len(held | new) < len(alone):
            held |= new
    if not reached():
        raise SplitError(
            f"no combination of two perturbations that were measured alone can have {seen} seen parts",
            remedy="Choose another level, or name the groups with holdout=.",
        )
    return draw.containing(held)


def _doses(draw: Draw) -> np.ndarray:
    """Hold out doses of each perturbation that has enough of them."""
    doses = pd.to_numeric(draw.groups.table["dose"], errors="coerce").to_numpy(dtype=float)
    mask = np.zeros(len(doses), dtype=bool)
    units = ["\t".join(unit) for unit in draw.units("perturbation")]
    for unit in sorted(set(units) - {""}):
        here = draw.eligible & (np.array(units) == unit) & np.isfinite(doses)
        mask |= here & np.isin(doses, _some(np.unique(doses[here]), draw))
    if not mask.any():
        raise SplitError("no perturbation has enough doses", remedy="Choose another level or choice=.")
    return mask


def _times(draw: Draw) -> np.ndarray:
    """Hold out whole times."""
    times = draw.groups.table["time"].to_numpy(dtype=float)
    found = np.unique(times[draw.eligible & np.isfinite(times)])
    mask = np.isin(times, _some(found, draw)) & draw.eligible
    if not mask.any():
        raise SplitError(f"there are {len(found)} times", remedy="Choose another level or choice=.")
    return mask


def _some(values: np.ndarray, draw: Draw) -> np.ndarray:
    """Draw some of ascending amounts: any, those between the smallest and the largest, or the largest."""
    choice = draw.options.choice
    pool = values[1:-1] if choice == "inside" else values
    count = min(max(1, round(draw.fraction * len(values))), len(pool), len(values) - 1)
    if count < 1:
        return values[:0]
    return values[-count:] if choice == "outside" else draw.rng.choice(pool, size=count, replace=False)


def matching(groups: Groups, wanted: Mapping[str, str | Sequence[str]], of_guide: Mapping[str, str]) -> np.ndarray:
    """Return the perturbed groups that match every column; a guide takes the others of its target along."""
    mask = ~groups.table["is_control"].to_numpy()
    for column, value in wanted.items():
        names = as_list(value)
        if column == groups.design.perturbation_key:
            hit, unknown, there = _named_perturbations(groups, names, of_guide)
        else:
            values = groups.table[context_column(column)]
            unknown, there = sorted(set(names) - set(values)), values
            hit = values.isin(names).to_numpy()
        if unknown:
            raise UnknownNameError("value", unknown, sorted(set(there)), where=f"obs[{column!r}]")
        mask = mask & hit
    return mask


def _named_perturbations(
    groups: Groups, names: Sequence[str], of_guide: Mapping[str, str]
) -> tuple[np.ndarray, list[str], Any]:
    """Return which groups have one of the perturbations, and the names that none has."""

    def targets(parts: Iterable[str]) -> set[str]:
        return {of_guide.get(part, part) for part in parts}

    parts = parts_of(groups)
    asked = [groups.design.label_format.parts(name) for name in names]
    known, singles = set(parts), {part for of_group in parts for part in of_group}
    unknown = [
        name
        for name, wish in zip(names, asked, strict=True)
        if wish not in known and not (len(wish) == 1 and wish[0] in singles)
    ]
    # a single perturbation takes its combinations along; a combination stands for itself
    hit = [
        any(targets(own) == targets(wish) or (len(wish) == 1 and targets(wish) <= targets(own)) for wish in asked)
        for own in parts
    ]
    return np.array(hit, dtype=bool), unknown, groups.table["perturbation"]


def as_list(value: object) -> list[str]:
    """Return values as text; one that is not in a list, such as the number of a donor, stands for itself."""
    alone = isinstance(value, str) or not isinstance(value, Iterable)
    return [label_text(value)] if alone else [label_text(item) for item in value]  # type: ignore[attr-defined]


def together_of(groups: Groups, sets: Iterable[Iterable[str]]) -> dict[str, str]:
    """Map each perturbation that must stay with others to one of them."""
    known = {part for parts in parts_of(groups) for part in parts}
    merged: dict[str, str] = {}
    for names in sets:
        members = list(names)
        if unknown := sorted(set(members) - known):
            raise UnknownNameError("perturbation", unknown, sorted(known), where="pp.split(together=)")
        # what was together with one of them before stays so
        before = {merged[name] for name in members if name in merged}
        members += [name for name, first in merged.items() if first in before]
        merged.update(dict.fromkeys(members, members[0]))
    return merged


def kind_of(groups: Groups, test: np.ndarray) -> str:
    """Say what a test set asks of a model, read off the groups it left in training."""
    table, parts = groups.table, parts_of(groups)
    kept = ~table["is_control"].to_numpy() & ~test
    seen = {parts[i] for i in np.flatnonzero(kept)}
    held = [parts[i] for i in np.flatnonzero(test)]
    if held and all(len(p) > 1 for p in held) and not seen & set(held):
        return "combination"
    if not seen & set(held):
        return "perturbation"
    if not set(table.loc[test, "context"]) & set(table.loc[kept, "context"]):
        return "context"
    return "pair"


def situations(groups: Groups, split: np.ndarray) -> np.ndarray:
    """Say of every perturbed group outside training what about it no perturbed training group has."""
    table, parts = groups.table, parts_of(groups)
    train = np.flatnonzero((split == "train") & ~table["is_control"].to_numpy())
    rows: dict[str, list[Any]] = {
        "perturbation": parts,
        "context": table["context"].tolist(),
        "dose": list(zip(parts, table["dose"].astype(str), strict=True)),
        "time": table["time"].astype(str).tolist(),
        "batch": table["batch"].tolist(),
        "pair": list(zip(table["context"], parts, strict=True)),
    }
    seen = {name: {values[i] for i in train} for name, values in rows.items()}
    alone = {parts[i][0] for i in train if len(parts[i]) == 1}
    found = np.full(len(table), "", dtype=object)
    for row in np.flatnonzero((split != "train") & ~table["is_control"].to_numpy()):
        new = [name for name in ("perturbation", "context", "time", "batch") if rows[name][row] not in seen[name]]
        if "perturbation" in new and len(parts[row]) > 1:
            new[0] = f"combination, {len(alone & set(parts[row]))} of {len(parts[row])} parts seen"
        elif "perturbation" not in new and rows["dose"][row] not in seen["dose"]:
            new.append("dose")
        if not new:
            new = ["pair"] if rows["pair"][row] not in seen["pair"] else ["seen"]
        found[row] = " + ".join(new)
    return found
