"""The house keeps its own rules: who imports whom, what is public, how long a file may be."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "transpert"
_LEARNING = ["transport", "nn", "model", "metrics", "scaling"]
ROOMS = ["conditions", "groups", "datasets", "pp", "data", *_LEARNING, "tl", "pl", "cli"]
FREE = {
    "__version__",
    "_amounts",
    "_anndata",
    "_arguments",
    "_signatures",
    "_compat",
    "_counts",
    "_docstrings",
    "_files",
    "_folders",
    "_keys",
    "_matrices",
    "_scale",
    "_schema",
    "_seeds",
    "_spelling",
    "_statistics",
    "errors",
}
FORBIDDEN = {
    "nn": {"anndata", "scanpy", "scvi", "pandas", "mudata", "lightning"},
    "metrics": {"scvi", "lightning", "torch"},
    "scaling": {"anndata", "scanpy", "scvi", "lightning", "torch"},
    "transport": {"scvi", "lightning", "torch", "anndata"},
}
FILES = sorted(SOURCE.rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything a file imports, with relative imports resolved."""
    package = ["transpert", *path.relative_to(SOURCE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names if module == "transpert"}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_from_rooms_above(path: Path) -> None:
    parts = path.relative_to(SOURCE).parts
    if len(parts) == 1:
        return  # top-level files (the package face, python -m transpert) may import every room
    room = parts[0]
    # metrics are pure, and stand below the models only because tl needs both
    allowed = set(ROOMS[: ROOMS.index(room) + 1]) | FREE
    used = {name.split(".")[1] for name in imported_modules(path) if name.startswith("transpert.")}
    assert used <= allowed, f"{room} imports {used - allowed}"


def files_imported_by(path: Path) -> set[str]:
    """Modules of the package that a file imports, also inside functions and for type checking."""
    package = ["transpert", *path.relative_to(SOURCE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def test_no_file_imports_itself_in_a_circle() -> None:
    # a package face gathers the files below it, and is imported by nobody inside
    names = {
        ".".join(["transpert", *path.relative_to(SOURCE).with_suffix("").parts]): path
        for path in FILES
        if path.name != "__init__.py"
    }
    graph = {name: files_imported_by(path) & names.keys() - {name} for name, path in names.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_folder_of_a_room_is_imported_by_what_it_imports() -> None:
    # in every folder, its files and folders form lines: a folder counts as one, so that no arrow runs back up
    names = {(*path.relative_to(SOURCE).with_suffix("").parts,) for path in FILES if path.name != "__init__.py"}
    graphs: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for own in names:
        found = files_imported_by(SOURCE.joinpath(*own).with_suffix(".py"))
        for other in names & {tuple(name.split(".")[1:]) for name in found if name.startswith("transpert.")}:
            shared = next(i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b) if own != other else 0
            if own != other and shared:  # of one room
                graphs.setdefault(own[:shared], {}).setdefault(own[shared], set()).add(other[shared])
    for folder, graph in graphs.items():
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            raise AssertionError(f"in {'/'.join(folder)}: {' <- '.join(error.args[1])}") from error


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_knows_only_the_libraries_it_may(room: str) -> None:
    for path in (SOURCE / room).rglob("*.py"):
        used = {name.split(".")[0] for name in imported_modules(path)} - {"transpert"}
        assert not used & FORBIDDEN[room], path.name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("room", ROOMS)
def test_init_lists_public_names_and_nothing_else(room: str) -> None:
    tree = ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    assert all(isinstance(node, allowed) for node in tree.body)
    module = importlib.import_module(f"transpert.{room}")
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_public_functions_and_classes_are_documented(room: str) -> None:
    module = importlib.import_module(f"transpert.{room}")
    # names that a face passes on without listing them are documented too
    for name, value in vars(module).items():
        if name.startswith("_") or not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        text = inspect.getdoc(value)
        assert text, f"{room}.{name} has no docstring"
        if inspect.isfunction(value) and inspect.signature(value).parameters:
            assert "Parameters\n---" in text, f"{room}.{name} does not describe its parameters"
        if inspect.isfunction(value) and inspect.signature(value).return_annotation != "None":
            assert "Returns\n---" in text, f"{room}.{name} does not say what it returns"
        if inspect.isfunction(value):
            undescribed = undescribed_arguments(value)
            assert not undescribed, f"{room}.{name} does not describe {undescribed}"


def undescribed_arguments(value: Callable) -> list[str]:
    """Arguments that a docstring does not name, where it stands for help() with the shared texts in their places."""
    text = inspect.getdoc(value) or ""
    assert "%(" not in text, f"a shared text of {value.__qualname__} stands alone on its line"
    return [name for name in inspect.signature(value).parameters if not re.search(rf"^[\w *,]*\b{name}\b", text, re.M)]


@pytest.mark.parametrize(
    "name",
    [
        "data.SetSampler.set_epoch",
        "data.SetSampler.shard",
        "data.Store.groups",
        "data.Store.names",
        "groups.Groups.cells",
        "groups.Groups.context_values",
        "conditions.PerturbationVocabulary.measured",
        "conditions.PerturbationVocabulary.require",
        "conditions.PerturbationVocabulary.spelling",
        "errors.list_names",
    ],
)
def test_methods_that_users_call_describe_their_parameters(name: str) -> None:
    room, *path = name.split(".")
    value = importlib.import_module(f"transpert.{room}")
    for part in path:
        value = getattr(value, part)
    assert "Parameters\n---" in inspect.getdoc(value)


def test_models_describe_every_argument_they_are_made_with() -> None:
    from transpert.model import BASELINES, SCALE

    for name, model in {"SCALE": SCALE, **BASELINES}.items():
        text = inspect.getdoc(model)
        taken = set(inspect.signature(model).parameters) - {"adata", "registry"}
        undescribed = [argument for argument in taken if not re.search(rf"\b{argument}\b", text)]
        assert not undescribed, f"{name} does not describe {undescribed}"


def test_errors_say_what_where_and_how_to_mend_it() -> None:
    from transpert.errors import TranspertError, UnknownNameError

    error = TranspertError("the counts are odd", where="X", remedy="Count again.")
    assert str(error) == "the counts are odd (in X). Count again."
    unknown = UnknownNameError("perturbation", ["IFNb"], ["IFNB", "TNF"])
    assert "Did you mean 'IFNB'" in str(unknown)
    assert isinstance(unknown, KeyError)


def test_private_scvi_names_are_where_they_were() -> None:
    from transpert import _compat

    assert (_compat.SETUP_ARGS_KEY, _compat.SETUP_METHOD_NAME) == ("setup_args", "setup_method_name")


def test_no_machine_paths_in_the_source_or_in_what_tutorials_printed() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "/root/" not in text and "/home/" not in text, path
    tutorials = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))
    assert tutorials
    for path in tutorials:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(root|home|work)/|/tmp/ipykernel|site-packages", text), path


# what writes, removes or renames files; a name of pandas, anndata, numpy, safetensors, pathlib, os or shutil
_WRITERS = {
    "write_h5ad", "write_zarr", "write_h5mu", "to_csv", "to_parquet", "write_text", "write_bytes", "savefig", "savez",
    "savez_compressed", "save_file", "rmtree", "rename", "replace", "unlink", "rmdir", "mkdtemp", "copytree",
    "copyfile", "move", "write_json",
}  # fmt: skip
_SAFELY = {"file_written", "folder_written", "write_file", "unfinished_work"}
# where a file is written otherwise, and why
_MAY_WRITE = {
    "_folders.py": "the mechanism itself",
    "_files.py": "write_json, which replaces a file in one step",
    "data/store/append.py": "below the unfinished work of an append",
    "data/store/build.py": "below the unfinished work of a build",
    "data/store/manifest.py": "a manifest, below that work",
    "data/store/runs.py": "sums of a part, below that work",
    "model/prediction/parts.py": "below the unfinished work of a prediction",
    "model/sharing.py": "into a model folder that push_to_hub has just made",
    "pl/_page_html.py": "a picture into memory",
    "tl/_scaling/runs.py": "a result of a study whose lock is held",
    "tl/challenge_package.py": "scratch files beside what is new",
}


def writing_calls(tree: ast.AST) -> list[str]:
    """Calls that write to another place than the ``new`` one that file_written and folder_written give."""
    found = []
    for node in ast.walk(tree):
        name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node)}
        of_values = name in ("replace", "rename") and not names & {"os", "path", "target", "partial"}
        to_text = name == "to_csv" and not node.args
        if name in _WRITERS and "new" not in names and not of_values and not to_text:
            found.append(f"{name}, line {node.lineno}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_what_is_written_is_there_in_full_or_not_at_all(path: Path) -> None:
    found = writing_calls(ast.parse(path.read_text(encoding="utf-8")))
    assert bool(found) == (path.relative_to(SOURCE).as_posix() in _MAY_WRITE), found


def test_tests_stand_in_the_folder_of_their_room() -> None:
    # what concerns several rooms has folders of its own; the command line runs whole jobs
    across = {"benchmarks", "integration", "interoperability", "reliability"}
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert folders - across == set(ROOMS) - {"cli"}
    alone = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    files = {path.stem.removeprefix("_") for path in SOURCE.glob("*.py")}
    assert alone - files <= {"architecture", "documentation", "newcomer_mistakes", "packaging"}


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_marked_as_an_override_overrides_something(room: str) -> None:
    lost = []
    for path in (SOURCE / room).rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        for kind in (kind for kind in vars(module).values() if inspect.isclass(kind)):
            for name, member in vars(kind).items():
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                inherited = any(name in vars(base) for base in kind.__mro__[1:])
                if getattr(function, "__override__", False) and not inherited:
                    lost.append(f"{kind.__qualname__}.{name}")
    assert not lost  # it would never be called
