"""Configuration of Sphinx."""

from __future__ import annotations

import importlib
import os
import shutil
from datetime import date
from importlib.metadata import metadata
from pathlib import Path

HERE = Path(__file__).parent
info = metadata("transpert")
project = info["Name"]
author = "transpert developers"
copyright = f"{date.today():%Y}, {author}"  # noqa: A001
version = release = info["Version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_param = False
napoleon_use_rtype = False
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
suppress_warnings = ["mystnb.unknown_mime_type"]

# -D intersphinx_mapping= does not clear a dictionary, hence the switch for building without a network
if os.environ.get("TRANSPERT_DOCS_OFFLINE"):
    intersphinx_mapping = {}
else:
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scvi-tools": ("https://docs.scvi-tools.org/en/stable/", None),
    }

html_theme = "sphinx_book_theme"
html_title = "transpert"
html_theme_options = {"path_to_docs": "docs", "show_toc_level": 2}

# the tutorials live at the top level, where people look for them
(HERE / "tutorials").mkdir(exist_ok=True)
for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
    shutil.copy(notebook, HERE / "tutorials" / notebook.name)


def write_api_pages() -> None:
    """Write a page for each room from its ``__all__``, so that a new public name appears by itself."""
    rooms = ["datasets", "conditions", "groups", "pp", "data", "transport", "nn", "model", "metrics", "tl", "pl", "errors"]
    folder = HERE / "api" / "generated"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for room in rooms:
        module = importlib.import_module(f"transpert.{room}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        documented, plain = [], []
        for name in sorted(module.__all__, key=str.lower):
            is_data = isinstance(getattr(module, name), dict)
            (plain if is_data else documented).append(name)
        names = "\n   ".join(documented)
        text = (
            f"{room}\n{'=' * len(room)}\n\n{summary}\n\n.. currentmodule:: transpert.{room}\n\n"
            f".. autosummary::\n   :toctree: {room}\n   :nosignatures:\n\n   {names}\n"
        )
        if plain:
            # tables of names: the docstring of a dict says nothing of what is in it
            lines = [f"- ``{name}``: {', '.join(map(str, getattr(module, name)))}" for name in plain]
            text += "\nTables by name\n--------------\n\n" + "\n".join(lines) + "\n"
        (folder / f"{room}.rst").write_text(text, encoding="utf-8")


write_api_pages()
