"""The anchor of SCALE alone, following the context by a kernel or linearly."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, override

from transpert._docstrings import fill_docstring
from transpert.nn.options import check_part
from transpert.transport import AnchorOptions, GroupEffects, predict_as_new

from ..cells.open import Data
from ..embeddings import EmbeddingLike, warn_of_unused
from ..evidence import EvidenceLike, resolve_evidence
from ..uncertainty.estimates import UncertaintyEstimates
from .closed_form import ClosedFormModel, Readout


@fill_docstring
class KernelTransport(ClosedFormModel):
    """The anchor of SCALE on its own: closed-form effects, count read-out.

    Main effects of the context and of the perturbation, the dependence of the effect on the control profile of the
    context (contexts with similar controls respond similarly), doses and combinations, in two spaces that are stacked
    with weights from left-out groups; see :class:`transpert.transport.Anchor`.

    Parameters
    ----------
    %(registered_data)s
    anchor
        Options of the anchor.
    %(readout_counts)s
    embeddings
        A vector for every perturbation: an :class:`~transpert.conditions.Embedding`, a DataFrame, several of either,
        or ``"coexpression"`` to make one of the control cells. A perturbation that was never measured is then
        predicted from those with similar vectors; see ``PerturbationRidge``.
    %(evidence)s

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.KernelTransport.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.KernelTransport(adata)
    >>> model.train()
    >>> model.predict(progress=False).layers["counts"].shape[1]
    20
    """

    _place = 7
    _kind: ClassVar[Literal["kernel", "ridge"]] = "kernel"

    def __init__(
        self,
        adata: Data | None = None,
        registry: dict[str, Any] | None = None,
        *,
        anchor: AnchorOptions | None = None,
        readout: Readout | None = None,
        embeddings: EmbeddingLike = None,
        evidence: EvidenceLike = None,
    ) -> None:
        super().__init__(adata, registry, readout=readout, embeddings=embeddings)
        self.evidence = resolve_evidence(evidence)
        self._chosen = AnchorOptions(kind=self._kind) if anchor is None else anchor
        check_part("anchor", self._chosen, AnchorOptions)
        self.init_params_ = self._get_init_params(locals())

    @property
    @override
    def _anchor_options(self) -> AnchorOptions:
        return self._chosen

    @override
    def _fit(self, effects: GroupEffects) -> None:
        super()._fit(effects)
        assert self.anchor is not None
        anchor = self.anchor
        warn_of_unused(anchor, self.embedding)
        self.uncertainty = UncertaintyEstimates.fit(
            effects, lambda new, rows: predict_as_new(anchor, effects, new, rows)
        )

    @override
    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "anchor": self._chosen.to_dict()}

    @override
    def summary(self) -> str:
        return "\n".join([super().summary(), *([] if self.anchor is None else self.anchor.remarks())])

    @classmethod
    @override
    def _from_options(cls, adata, registry, options):
        anchor = AnchorOptions.from_dict(options["anchor"])
        return cls(adata, registry, anchor=anchor, readout=options["readout"])


@fill_docstring
class RidgeTransport(KernelTransport):
    """As :class:`KernelTransport`, but effects depend on the control profile of their context linearly.

    Parameters
    ----------
    %(registered_data)s
    anchor
        Options of the anchor.
    %(readout_counts)s
    embeddings
        As for :class:`KernelTransport`.
    %(evidence)s

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.RidgeTransport.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    >>> model = tp.RidgeTransport(adata)
    >>> model.train()
    >>> model.predict(progress=False).layers["counts"].shape[1]
    20
    """

    _place = 6
    _kind = "ridge"
