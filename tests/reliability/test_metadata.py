"""Cells whose metadata other hands have changed are read rightly or refused by name."""

from __future__ import annotations

import pytest
from tests.reliability.metadata import GONE, attack_metadata, cells_and_readers, changed
from tests.reliability.workshop import Workshop

from transpert.errors import OptionError


def test_changed_metadata_is_read_rightly_or_refused_by_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = attack_metadata(Workshop(tmp_path), share=0.004)
    assert not report.faults and report.outcomes["refused"] and report.outcomes["results"]


@pytest.mark.parametrize(("name", "place", "reader"), [
    ("a prediction", ("uncertainty", "level"), "register"),
    ("a prediction", ("uncertainty", "conditions"), "report"),
    ("responses", ("response_moved", "genes"), "cells"),
])  # fmt: skip
def test_tables_that_are_no_longer_ours_are_refused_with_what_makes_them_again(
    tmp_path, monkeypatch, name, place, reader
) -> None:
    monkeypatch.chdir(tmp_path)
    _, cells, readers = {title: rest for title, *rest in cells_and_readers(Workshop(tmp_path))}[name]
    for value in ("x", GONE):
        damaged = cells.copy()
        damaged.uns["transpert"] = changed(cells.uns["transpert"], place, value)
        with pytest.raises(OptionError, match=f"{place[1]} of {place[0]} is no longer what transpert wrote.*again"):
            readers[reader](damaged)
