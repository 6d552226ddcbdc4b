"""Models for others: a folder with a card, which the hub of scvi-tools takes to Hugging Face and back."""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from transpert import _keys
from transpert._anndata import modality_of
from transpert._files import versions
from transpert.errors import DependencyError
from transpert.pp._splits.report import as_split_report

from .cells.in_memory import Cells

if TYPE_CHECKING:
    from .effects import EffectModel

CARD, METADATA = "README.md", "_scvi_required_metadata.json"
_MEAN = "mean"
_LIBRARIES = ("transpert", "scvi-tools", "torch")
_USE = """```python
import transpert as tp

model = tp.{name}.from_hub("{repository}")
pred = model.predict(adata=yours{perturbations})  # control cells of yours are moved; raw counts
```"""


def write_card(folder: Path, text: str, name: str) -> None:
    """Put a card, and what the hub of scvi-tools asks for, beside a saved model."""
    (folder / CARD).write_text(text, encoding="utf-8")
    metadata = {
        "scvi_version": version("scvi-tools"),
        "anndata_version": version("anndata"),
        "model_cls_name": name,
        "training_data_url": None,
        "model_parent_module": "transpert.model",
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=4), encoding="utf-8")


def model_card(
    model: EffectModel, summary: str, *, license: str, scores: pd.DataFrame | None, description: str, repository: str
) -> str:
    """Write what others have to know of a model: data, split, scores, limits, licence."""
    name = type(model).__name__
    tags = [f"model_cls_name:{name}", f"scvi_version:{version('scvi-tools')}", f"anndata_version:{version('anndata')}"]
    head = ["library_name: scvi-tools", f"license: {license}", "tags:"]
    head += [f"- {tag}" for tag in ("biology", "genomics", "single-cell", "perturbation-prediction", *tags)]
    parts = [
        "---\n" + "\n".join(head) + "\n---",
        f"# {name}, trained with transpert",
        description,
        f"## What it is\n\n```text\n{summary}\n```",
        f"## Data\n\n{_data(model)}",
        f"## What was held out\n\n{_split(model)}",
        f"## Scores\n\n{_scores(scores)}",
        f"## Limits\n\n{_limits(model)}",
        f"## Use\n\n{_use(model, name, repository)}",
        "## Versions\n\n" + ", ".join(map(" ".join, versions(*_LIBRARIES).items())),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(model: EffectModel) -> str:
    """Return what the model was trained on."""
    cells = "" if model._cells is None else f"{len(model._cells):,} cells, "
    trained = sorted(model._trained_parts or model.vocabulary.parts)
    shown = ", ".join(trained[:30]) + (f" and {len(trained) - 30} more" if len(trained) > 30 else "")
    design = model.design
    return (
        f"{cells}{len(model.genes):,} genes. Control: {design.named_controls}. "
        f"Contexts: {', '.join(design.context_keys) or 'one'}.\n\nPerturbations that were trained on: {shown}."
    )


def _split(model: EffectModel) -> str:
    """Return what the model has not seen, and what leaks."""
    if not isinstance(model._cells, Cells) or model.design.split_key is None:
        return "Nothing: all cells were trained on, or the split is not known here."
    found = as_split_report(modality_of(model.adata, model.source.modality).uns.get(_keys.SPLIT))
    if found is None:
        return f"By the column `{model.design.split_key}`; no report of what leaks."
    return f"By {found['kind']}.\n\n{_markdown(found['leakage'])}"


def _scores(scores: pd.DataFrame | None) -> str:
    """Show mean scores with their floors and ceilings."""
    if scores is None:
        return "None were given: do not use this model without scoring it on your own cells."
    means = scores[scores["context"] == _MEAN]
    own = means[means["model"] == means["model"].iloc[0]]
    shown = own[["metric", "value", "baseline", "ceiling"]].round(3)
    shown = shown.set_axis(["metric", "score", "best simple baseline", "replicate"], axis=1)
    return _markdown(shown) + "\n\nA replicate is one half of the real cells, scored against the other."


def _limits(model: EffectModel) -> str:
    """Return what the model cannot do."""
    lines = ["It predicts from control cells, and needs those of every context that is predicted, as raw counts."]
    if getattr(model, "embedding", None) is None:
        lines.append("Perturbations that were not trained on are refused: they have no embedding.")
    if getattr(model, "gate", None) == 0:
        lines.append("The network did not help on groups that were left out, and has weight 0: this is the anchor.")
    lines.append("Ask `model.get_uncertainty` how far a context, perturbation or dose is from the training.")
    return "\n".join(f"- {line}" for line in lines)


def _use(model: EffectModel, name: str, repository: str) -> str:
    """Show the lines that load the model."""
    first = sorted(model._trained_parts or model.vocabulary.parts)[:1]
    return _USE.format(name=name, repository=repository, perturbations=f', perturbations="{first[0]}"' if first else "")


def _markdown(table: pd.DataFrame) -> str:
    """Write a table."""
    rows = [list(map(str, table.columns)), ["---"] * table.shape[1]]
    rows += [["–" if pd.isna(value) else str(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def push(folder: Path, repository: str, *, token: str | None) -> None:
    """Send a folder to the Hugging Face Hub, through the hub of scvi-tools."""
    _hub()
    from scvi.hub import HubModel

    shared = HubModel(str(folder), metadata=str(folder / METADATA), model_card=str(folder / CARD))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No collection found")  # those of scvi-tools' own models
        shared.push_to_huggingface_hub(
            repository, repo_token=token, repo_create=True, repo_create_kwargs={"exist_ok": True}
        )


def pull(repository: str, *, revision: str | None, cache_dir: str | None, token: str | None) -> Path:
    """Fetch a model that :func:`push` sent; return the folder."""
    return Path(_hub().snapshot_download(repository, revision=revision, cache_dir=cache_dir, token=token))


def _hub() -> Any:
    """Import what talks to the Hugging Face Hub."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise DependencyError(
            "sharing a model needs huggingface-hub", remedy="Install it with: pip install 'transpert[hub]'."
        ) from error
    return huggingface_hub
