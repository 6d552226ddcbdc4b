"""What a registry, a package index and a type checker read about the package is complete and agrees."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

import transpert as tp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def test_version_is_written_in_one_place() -> None:
    assert "version" not in PROJECT and PROJECT["dynamic"] == ["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == tp.__version__


def test_types_are_declared() -> None:
    assert (files("transpert") / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_addresses_are_addresses() -> None:
    assert {"Documentation", "Source", "Issues", "Changelog"} <= set(PROJECT["urls"])
    assert all(urlparse(address).scheme == "https" for address in PROJECT["urls"].values())


def test_registry_entry_is_complete_and_agrees_with_the_project() -> None:
    entry = yaml.safe_load((ROOT / "meta.yaml").read_text(encoding="utf-8"))
    required = {"name", "description", "project_home", "documentation_home", "install", "license", "tags"}
    assert required | {"language", "contact", "category", "test_command"} <= set(entry)
    assert entry["name"] == entry["install"]["pypi"] == PROJECT["name"]
    assert entry["license"] == PROJECT["license"]
    assert entry["project_home"] == PROJECT["urls"]["Source"]
    assert entry["documentation_home"].startswith(PROJECT["urls"]["Documentation"])
    assert entry["tags"] and len(set(entry["tags"])) == len(entry["tags"])
    assert all(re.fullmatch(r"10\.\d{4,9}/\S+|arXiv:\d{4}\.\d{5}", paper) for paper in entry["publications"])


def test_the_installation_page_lists_every_extra() -> None:
    extras = set(PROJECT["optional-dependencies"])
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == extras
    listed = re.search(r"# extras: ([\w, ]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(listed[1].split(", ")) == extras


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read_and_pin_what_they_run(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    actions = re.findall(r"uses: (\S+)", text)
    assert all(action.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in actions)
