"""Every error says what to do about it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from transpert import errors

SOURCE = Path(errors.__file__).parent
KINDS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.TranspertError)
}
OWN_REMEDY = {"UnknownNameError", "UnknownOptionError"}  # they name the nearest of what there is
PASSED_ON = {"error", "busy"}  # the kind of error that a function of files is given


def raised(path: Path) -> list[ast.Call]:
    """Return where a file makes errors of ours."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in KINDS | PASSED_ON]


def written(node: ast.expr) -> list[str | None]:
    """Return the first and the last piece of a text that the source says; None where it is made as the program runs."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return [piece.value if isinstance(piece, ast.Constant) else None for piece in node.values]  # type: ignore[misc]
    if isinstance(node, ast.BinOp):
        return [*written(node.left), *written(node.right)]
    return [None]


def fault(call: ast.Call) -> str | None:
    """Say what an error lacks: a remedy is a sentence, with a capital and a full stop, and is not what is wrong."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "remedy" not in given:
        return None if call.func.id in OWN_REMEDY else "no remedy"  # type: ignore[attr-defined]
    pieces = written(given["remedy"])
    if pieces == ["None"] or pieces == [""]:
        return "an empty remedy"
    if pieces[0] is not None and not (pieces[0][0].isupper() or pieces[0].startswith(("tp.", "transpert"))):
        return f"a remedy that begins with {pieces[0][:20]!r}"
    if pieces[-1] is not None and not pieces[-1].rstrip().endswith((".", "?")):
        return f"a remedy that ends with {pieces[-1][-20:]!r}"
    return None


def test_every_error_says_what_to_do() -> None:
    calls = [(path, call) for path in sorted(SOURCE.rglob("*.py")) for call in raised(path)]
    assert len(calls) > 400
    wrong = [f"{path.name}:{call.lineno}: {fault(call)}" for path, call in calls if fault(call)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ('OptionError("x", remedy="Give y.")', False),
        ('OptionError("x", remedy=f"Give {y}.")', False),
        ('UnknownNameError("gene", ["x"], known)', False),
        ('OptionError("x", where="y")', True),
        ('OptionError("x", remedy=None)', True),
        ('OptionError("x", remedy="give y.")', True),
        ('OptionError("x", remedy="Give y")', True),
    ],
)
def test_the_rule_finds_what_it_is_for(source: str, wrong: bool) -> None:
    assert (fault(ast.parse(source).body[0].value) is not None) == wrong
