"""Cells in any form that scverse allows give the same result, or are refused by name; no public name is left out."""

from __future__ import annotations

import inspect
import warnings

import pytest
from tests.reliability.forms import compare
from tests.reliability.workshop import Workshop

import transpert as tp
from transpert.cli import app

# made by functions that are called, or tables of names
NOT_CALLED = {
    "conditions": set(),
    "data": {"CellSets"},
    "datasets": {"PUBLIC_SETS", "kang18_full", "papalexi21", "replogle22", "sciplex3"},  # all but one are alike
    "groups": {"Groups"},
    "metrics": {"METRICS", "PANELS", "Metric", "Panel", "Population", "Summaries"},
    "model": {"BASELINES", "PRESETS", "PerturbationModel"},
    "nn": {"TransportNetwork"},
    "scaling": {"ScalingCurve"},
    "transport": {"Anchor", "Evidence", "ExportedPredictor"},  # its methods are
}
UNDER = {  # entry points that call it under another name
    "SCALE": "make a network", "KernelTransport": "make a model", "MeanShift": "setup and train",
    "train": "train a network", "setup_anndata": "setup", "evaluate": "transpert evaluate",
    "summary_string": "summary", "is_control": "Condition", "from_hub": "load", "push_to_hub": "save",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("shop"))


def reached(name: str, entries: set[str]) -> bool:
    """Whether some entry point has this name, with or without that of its room or class."""
    called = {entry.rpartition(".")[2] for entry in entries} | entries
    return UNDER.get(name) in entries or name in called or f"train {name}" in called


def methods(kind: type) -> list[str]:
    """Return the public functions of a class that are ours."""
    functions = inspect.getmembers(kind, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    return [
        name
        for name, function in functions
        if not name.startswith("_") and inspect.unwrap(function).__module__.startswith("transpert")
    ]


def test_every_public_name_is_among_the_entry_points(shop) -> None:
    entries, left = {entry.name for entry in shop.entries()}, []
    for room, left_out in {**NOT_CALLED, "pp": set(), "tl": set(), "pl": set()}.items():
        missing = [n for n in getattr(tp, room).__all__ if n not in left_out and not reached(n, entries)]
        left += [f"{room}.{name}" for name in missing]
    for kind in (tp.SCALE, tp.KernelTransport, tp.data.Store, tp.groups.Design, tp.conditions.Embedding,
                 tp.conditions.PerturbationVocabulary, tp.transport.ExportedPredictor):  # fmt: skip
        missing = [name for name in methods(kind) if name not in PLAIN and not reached(name, entries)]
        left += [f"{kind.__name__}.{name}" for name in missing]
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    left += [f"transpert {name}" for name in commands if f"transpert {name}" not in entries]
    assert not left, f"{left} are called by no test of odd arguments"


# methods that take nothing, or what scvi-tools gives them
PLAIN = {
    "setup_arguments",
    "groups",
    "to_dict",
    "source",
    "runs",
    "to_device",
    "measured",
    "spelling_of",
    "setup_args",
    "get_anndata_manager",
}


def test_cells_in_any_form_give_the_same_result_or_are_refused_by_name(shop, tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes, faults = compare(shop, tmp_path, every=17)
    assert not faults, "\n".join(faults)
    assert outcomes["same"] > 15
