"""Configuration of Sphinx."""

from __future__ import annotations

import base64
import importlib
import json
import os
import re
import shutil
import sys
import tomllib
from datetime import date
from importlib.metadata import metadata
from pathlib import Path
from typing import TypeAliasType

import transpert

HERE = Path(__file__).parent
info = metadata("transpert")
project = info["Name"]
_FIRST = "evaluate_any_prediction.ipynb"  # whose pictures are shown where several tutorials have one
author = "transpert developers"
copyright = f"{date.today():%Y}, {author}"
version = release = info["Version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints"]
bibtex_bibfiles = ["references.bib"]

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88  # longer signatures get a line for each parameter
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False

napoleon_use_ivar = True
nitpicky = True
# annotations name objects of libraries by where they are defined, which no inventory knows; where there is no network
# there is no inventory at all
_LIBRARIES = (
    "_io|anndata|annbatch|collections|distributed|lightning|matplotlib|mudata|numpy|os|pandas|pathlib|pd|pertpy|scanpy"
    "|scipy|scvi|torch|types|typing"
)
nitpick_ignore_regex = [
    (r"py:.*", rf"({_LIBRARIES})\..*"),
    (
        r"py:class",
        r"AnnData|MuData|Client|Level|Controls|Contexts|Desired|d",
    ),  # as written in annotations, and a shape
]
suppress_warnings = ["ref.python"]  # a shape such as (n_obs,) is taken for a reference, and may have several targets

nb_execution_mode = "off"
nb_merge_streams = True
nb_output_stderr = "remove"  # what libraries log while a tutorial runs
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"  # prompts and output of doctests

# -D intersphinx_mapping= does not clear a dictionary, hence the switch for building without a network
if os.environ.get("TRANSPERT_DOCS_OFFLINE"):
    intersphinx_mapping = {}
else:
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/en/latest/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scvi-tools": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }

html_theme = "sphinx_book_theme"
html_title = "transpert"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {
    "path_to_docs": "docs",
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search field stands in the side bar already
}


def copy_tutorials() -> None:
    """Copy the tutorials from the top level, where people look for them, to where Sphinx looks for them."""
    shutil.rmtree(HERE / "tutorials", ignore_errors=True)
    (HERE / "tutorials" / "thumbnails").mkdir(parents=True)
    for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
        # links are written as they hold where the notebook lives
        text = notebook.read_text(encoding="utf-8").replace("](../docs/", "](../")
        (HERE / "tutorials" / notebook.name).write_text(text, encoding="utf-8")
        pictures = [picture for cell in json.loads(text)["cells"] for picture in _pictures(cell)]
        if pictures:
            (HERE / "tutorials" / "thumbnails" / f"{notebook.stem}.png").write_bytes(base64.b64decode(pictures[0]))


def _pictures(cell: dict) -> list[str]:
    """Return what a cell of a notebook drew, as base64."""
    found = (output.get("data", {}).get("image/png") for output in cell.get("outputs", []))
    return [picture for picture in found if picture]


def write_api_pages() -> None:
    """Write a page for each room: what is public, in the order of a workflow, then what it is made of."""
    folder = HERE / "api" / "generated"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    order = tomllib.loads((HERE / "api" / "order.toml").read_text(encoding="utf-8"))
    for room in transpert._ROOMS:
        module = importlib.import_module(f"transpert.{room}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        text = f"{room}\n{'=' * len(room)}\n\n{summary}\n\n.. currentmodule:: transpert.{room}\n"
        if room == "pl":
            text += _gallery(tutorial_pictures(folder / "pictures"))
        listed = {name for names in order[room].values() for name in names}
        sections = order[room] | {"More": sorted(set(module.__all__) - listed)}
        for title, names in sections.items():
            # tables of names: the docstring of a dict says nothing of what is in it
            plain = [name for name in names if isinstance(getattr(module, name), dict)]
            pages = [name for name in names if name not in plain]
            if names:
                text += f"\n{title}\n{'-' * len(title)}\n\n"
            if pages:
                text += _summary(room, pages) + "\n"
            text += "".join(f"- ``{name}``: {', '.join(map(str, getattr(module, name)))}\n" for name in plain)
        parts = [
            name
            for name, value in sorted(vars(module).items(), key=lambda item: item[0].lower())
            if not name.startswith("_") and name not in module.__all__ and _is_of(value, room)
        ]
        if parts:
            text += f"\nParts\n-----\n\n{_summary(room, parts)}"
        (folder / f"{room}.rst").write_text(text, encoding="utf-8")


def _is_of(value: object, room: str) -> bool:
    """Whether something is a class or function of a room."""
    return callable(value) and str(getattr(value, "__module__", "")).startswith(f"transpert.{room}.")


def _summary(room: str, names: list[str]) -> str:
    lines = "\n   ".join(names)
    return f".. autosummary::\n   :toctree: {room}\n   :nosignatures:\n\n   {lines}\n"


def tutorial_pictures(folder: Path) -> list[str]:
    """Gather a picture of each function of ``pl``, most from the tutorials; return the names of the functions."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = {}
    for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb"), key=lambda path: path.name != _FIRST):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            names = re.findall(r"tp\.pl\.(\w+)\(", "".join(cell["source"]))
            drawn = _pictures(cell)
            if len(names) == len(drawn) == 1:
                found.setdefault(names[0], drawn[0])
    # what is no figure, such as a page, was photographed
    shutil.copytree(HERE / "images" / "pl", folder, dirs_exist_ok=True)
    for name, picture in found.items():
        (folder / f"{name}.png").write_bytes(base64.b64decode(picture))
    return sorted(path.stem for path in folder.glob("*.png"))


def _gallery(names: list[str]) -> str:
    """Show pictures as cards, each a link to the function that drew it."""
    cards = "".join(
        f"\n   .. grid-item-card:: {name}\n      :img-bottom: pictures/{name}.png\n"
        f"      :link: transpert.pl.{name}\n      :link-type: any\n"
        for name in names
    )
    return f"\nPictures of the tutorials:\n\n.. grid:: 1 2 2 3\n   :gutter: 2\n{cards}\n"


def inner_names() -> list[tuple[str, str]]:
    """List what signatures may name without a page of its own: aliases of types, and classes that are not public."""
    names = set()
    for module in [module for name, module in sys.modules.items() if name.startswith("transpert.")]:
        for name, value in vars(module).items():
            if isinstance(value, type | TypeAliasType):
                names.add(f"{value.__module__}.{name}")
    public = {f"transpert.{room}.{name}" for room in transpert._ROOMS for name in dir(getattr(transpert, room))}
    return [("py:class", name) for name in sorted(names - public) if name.startswith("transpert.")]


def foreign_bases() -> str:
    """Name the base classes that come from libraries: a page lists what transpert adds, not what they bring."""
    rooms = [importlib.import_module(f"transpert.{room}") for room in transpert._ROOMS]
    public = [value for room in rooms for value in vars(room).values()]
    bases = {base for value in public if isinstance(value, type) for base in value.__mro__}
    return ", ".join(sorted({base.__name__ for base in bases if not base.__module__.startswith("transpert")}))


def prose_returns(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn a Returns section without types into one field.

    Types live in the annotations here; napoleon takes every line of such a section for a value of its own.
    """
    starts = [i for i, line in enumerate(lines[:-1]) if line in ("Returns", "Yields") and set(lines[i + 1]) == {"-"}]
    for start in reversed(starts):
        end = start + 2
        # the section ends at the next header: a line of words above a line of dashes
        while end < len(lines) and not (end + 1 < len(lines) and re.fullmatch("-{3,}", lines[end + 1])):
            end += 1
        body = lines[start + 2 : end]
        field = [f":{lines[start]}: {body[0]}", *(f"    {line}" if line else "" for line in body[1:])]
        # two blank lines end the section before
        lines[start:end] = ["", "", *field, "", ""]


def top_level(app: object, env: object, node: dict, contnode: object) -> object:
    """Find what is written as people import it, ``transpert.SCALE``, on the page of its room."""
    name = node.get("reftarget", "").removeprefix("transpert.")
    first = name.partition(".")[0]
    if node.get("refdomain") != "py" or first not in transpert.__all__ or first in transpert._ROOMS:
        return None
    full = f"transpert.{'groups' if first == 'Design' else 'model'}.{name}"
    return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, node["reftype"], full, node, contnode)


def setup(app: object) -> None:
    """Read Returns sections before napoleon does, and find what has its page in a room."""
    app.connect("autodoc-process-docstring", prose_returns, priority=400)
    app.connect("missing-reference", top_level)


copy_tutorials()
write_api_pages()
pictures = sorted(path.stem for path in (HERE / "api" / "generated" / "pictures").glob("*.png"))
autosummary_context = {"foreign_bases": foreign_bases(), "pictures": pictures}
nitpick_ignore = inner_names()  # of all modules, which are imported by now
