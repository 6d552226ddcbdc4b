"""What an evaluation is seldom asked to do otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from transpert import _keys
from transpert._arguments import check_choice, check_number, check_text, check_whole, refused
from transpert.errors import check_known
from transpert.groups import Design

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Options of :func:`transpert.tl.evaluate` and :func:`transpert.tl.audit` that are seldom changed.

    Parameters
    ----------
    reference
        Controls of the prediction: the ``"real"`` ones, or the ``"predicted"`` object's own, as cell-eval takes them.
    split_key
        Column of the truth that says what baselines are trained on, where the design names none; without it, they are
        trained on all that is not predicted. A warning says where it lets them see a population that is scored.
    max_missing_genes
        Share of the genes of the truth that a prediction may lack; all are then scored on the genes they share.
    max_controls
        Number of control cells of a context that are used, drawn at random; all by default.
    modality
        Modality of MuData objects.
    client
        A :class:`distributed.Client`, on whose workers populations are scored; needs the extra ``dask``. They open
        files by the paths given to the function. The scores are the same as without.

    Raises
    ------
    transpert.errors.OptionError
        If one of them is out of range.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.tl.EvaluationOptions(max_controls=500).reference
    'real'
    """

    reference: Literal["real", "predicted"] = "real"
    split_key: str | None = _keys.SPLIT
    max_missing_genes: float = 0.0
    max_controls: int | None = None
    modality: str | None = None
    client: Client | None = None

    def __post_init__(self) -> None:
        check_choice(self.reference, ("real", "predicted"), name="reference")
        for name in ("split_key", "modality"):
            check_text(getattr(self, name), name=name, optional=True)
        check_number(self.max_missing_genes, name="max_missing_genes", least=0)
        if self.max_missing_genes >= 1:
            raise refused("max_missing_genes", self.max_missing_genes, "Give a share from 0 up to 1.")
        check_whole(self.max_controls, name="max_controls", least=2, optional=True)

    def split_column(self, design: Design | None, metadata: Mapping[str, Any], obs: pd.DataFrame) -> str | None:
        """Return the column that says what baselines may see: of the design, else of the options or the model."""
        if design is not None and design.split_key is not None:
            check_known("column", [design.split_key], obs, where="obs of the truth")
            return design.split_key
        if self.split_key == _keys.SPLIT and self.split_key not in obs:
            return metadata.get("design", {}).get("split_key", self.split_key)
        return self.split_key


def checked_options(options: EvaluationOptions | None) -> EvaluationOptions:
    """Return the options that were given, or the usual ones."""
    if options is None:
        return EvaluationOptions()
    if not isinstance(options, EvaluationOptions):
        raise refused("options", options, "Give tp.tl.EvaluationOptions(...), or leave it out.")
    return options
