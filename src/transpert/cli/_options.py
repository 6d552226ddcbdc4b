"""Options that several commands share, gathered in dataclasses that stand for them in the signature of a command."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from transpert.groups import Design


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of the dataclasses among its parameters as options of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for entry in inspect.signature(command).parameters.values():
        if entry.name not in groups:
            parameters.append(entry.replace(annotation=hints[entry.name], kind=entry.KEYWORD_ONLY))
            continue
        types = get_type_hints(groups[entry.name], include_extras=True)
        parameters += [
            entry.replace(name=field.name, default=field.default, annotation=types[field.name])
            for field in dataclasses.fields(groups[entry.name])
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
        command(**given)

    del run.__wrapped__  # type: ignore[attr-defined]  # whose signature would be taken
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return run


@dataclass(frozen=True)
class Columns:
    """Columns that say what was done to a cell; those that are not named are as the cells or the defaults say."""

    perturbation_key: Annotated[str | None, typer.Option(help="Column with the perturbation.")] = None
    control: Annotated[
        list[str] | None, typer.Option(help="Label of control cells, or a pattern such as 'NT*'; may be repeated.")
    ] = None
    context_key: Annotated[list[str] | None, typer.Option(help="Column of the context; may be repeated.")] = None

    def named(self) -> dict[str, Any]:
        """Return what was named, as a :class:`~transpert.groups.Design` takes it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["context_keys"] = tuple(values.pop("context_key") or ()) or None
        values["control"] = self.control or None
        return {name: value for name, value in values.items() if value is not None}

    def design_of(self, pred: Path, layer: str | None) -> Design | None:
        """Return what a prediction says of its design, with the columns that were named; ``None`` where none was."""
        from transpert.tl._evaluation.cell_reader import open_cells
        from transpert.tl._populations import design_of_metadata

        named = self.named()
        if not named:
            return None
        named |= {"further_controls": ()} if "control" in named else {}  # which it says too
        reader = open_cells(pred, name="the prediction", layer=layer)
        contexts = named.get("context_keys")
        return dataclasses.replace(
            design_of_metadata(reader.metadata, reader.obs.columns, context_keys=contexts), **named
        )


@dataclass(frozen=True)
class ConditionColumns(Columns):
    """Columns of doses, times and directions as well."""

    dose_key: Annotated[str | None, typer.Option(help="Column with the dose.")] = None
    time_key: Annotated[str | None, typer.Option(help="Column with the time.")] = None
    direction_key: Annotated[str | None, typer.Option(help="Column with CRISPRi, CRISPRa or knock-out.")] = None
    combination_separator: Annotated[
        str | None, typer.Option(help="What joins the parts of a combination; '+' by default.")
    ] = None


@dataclass(frozen=True)
class AllColumns(ConditionColumns):
    """All columns of a design."""

    perturbation_key: Annotated[str, typer.Option(help="Column with the perturbation.")] = "perturbation"
    batch_key: Annotated[str | None, typer.Option(help="Column with the batch.")] = None
    split_key: Annotated[str | None, typer.Option(help="Column with train, validation and test.")] = None


@dataclass(frozen=True)
class Scoring:
    """How a prediction is scored."""

    reference: Annotated[str, typer.Option(help="Controls of the prediction: real, or predicted.")] = "real"
    split_key: Annotated[str, typer.Option(help="Column with the split, for the baselines.")] = "split"
    max_missing_genes: Annotated[float, typer.Option(help="Share of genes that a prediction may lack.")] = 0.0
    max_controls: Annotated[int | None, typer.Option(help="Number of controls of a context; all if not given.")] = None


@dataclass(frozen=True)
class Layers:
    """Where an evaluation finds values."""

    counts_layer: Annotated[str, typer.Option(help="Layer with raw counts.")] = "counts"
    library_size_key: Annotated[str | None, typer.Option(help="Column with library sizes, for the baselines.")] = None
    layer: Annotated[str | None, typer.Option(help="Layer with log1p counts per 10k, in place of X.")] = None


@dataclass(frozen=True)
class Files:
    """What an evaluation writes."""

    audit: Annotated[Path | None, typer.Option(help="Also audit the metrics, and write the audit here.")] = None
    cell_eval: Annotated[Path | None, typer.Option(help="Also write both files as cell-eval reads them, here.")] = None
    out: Annotated[Path, typer.Option(help="Where to write the scores.")] = Path("scores.csv")
