"""Pages of the API list what is public, and the course lists every tutorial."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

import transpert

DOCS = Path(__file__).parents[1] / "docs"
ORDER = tomllib.loads((DOCS / "api" / "order.toml").read_text(encoding="utf-8"))
TUTORIALS = sorted(path.stem for path in (DOCS.parent / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("room", transpert._ROOMS)
def test_every_public_name_has_one_place_in_the_workflow(room: str) -> None:
    module = importlib.import_module(f"transpert.{room}")
    listed = [name for names in ORDER[room].values() for name in names]
    assert sorted(listed) == sorted(module.__all__)
    assert re.fullmatch(r"[^\n]{20,}\.", module.__doc__.strip().splitlines()[0])  # the sentence of its page


def test_the_course_lists_every_tutorial_with_its_picture() -> None:
    course = (DOCS / "tutorials.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r":link: tutorials/(\w+)", course)) == TUTORIALS
    assert sorted(re.findall(r":img-top: tutorials/thumbnails/(\w+)\.png", course)) == TUTORIALS


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_draws_and_ran_to_its_end(name: str) -> None:
    text = (DOCS.parent / "tutorials" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert '"image/png"' in text and '"output_type": "error"' not in text
    assert '"execution_count": null' not in text


def test_every_plot_is_shown_by_a_tutorial() -> None:
    drawn = set()
    for name in TUTORIALS:
        drawn |= set(re.findall(r"tp\.pl\.(\w+)\(", (DOCS.parent / "tutorials" / f"{name}.ipynb").read_text()))
    assert set(importlib.import_module("transpert.pl").__all__) <= drawn
