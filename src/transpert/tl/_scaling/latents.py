"""Representations of cells that a study compares: genes, principal components, scVI, and what is in ``obsm``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, override

import numpy as np
from anndata import AnnData
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from transpert import _keys
from transpert._anndata import frame
from transpert._matrices import as_dense
from transpert.conditions import Condition
from transpert.errors import OptionError, UnknownNameError
from transpert.groups.table import context_labels
from transpert.model.baselines.closed_form import ShiftRule
from transpert.transport import AnchorOptions, GroupEffects, fit_anchor

from .sources import OBSM_PREFIX

LATENTS = ("genes", "PCA", "scVI")
HEADS = ("linear", "ridge", "mlp")
type Head = Literal["linear", "ridge", "mlp"]

_PENALTIES = np.logspace(-2, 4, 13)
_FEWEST = 3  # contexts, for a dependence on them
_CELLS_PER_CONTEXT = 50  # controls that a small network is shown of each context


def is_latent(name: str) -> bool:
    """Whether a name is that of a representation: one that is made here, or a key of ``obsm``."""
    return name in LATENTS or name.startswith(OBSM_PREFIX)


def latent_of(
    cells: AnnData,
    name: str,
    fitted_to: np.ndarray,
    *,
    layer: str | None,
    n_dimensions: int = 20,
    max_epochs: int = 20,
    seed: int = 0,
) -> np.ndarray:
    """Return a representation of cells, ``(N, d)``, that was learned from some of them."""
    values: Any = cells.X
    if name == "genes":
        return as_dense(values, np.float32)
    if name == "PCA":
        n = max(1, min(n_dimensions, cells.n_vars - 1, int(fitted_to.sum()) - 1))
        return TruncatedSVD(n, random_state=seed).fit(values[fitted_to]).transform(values)
    if name == "scVI":
        return _scvi(cells, fitted_to, layer, n_dimensions, max_epochs, seed)
    return np.asarray(cells.obsm[name], dtype=np.float64)


def _scvi(
    cells: AnnData, fitted_to: np.ndarray, layer: str | None, n_dimensions: int, max_epochs: int, seed: int
) -> np.ndarray:
    """Train scVI on some of the cells, and encode all of them."""
    import scvi

    own, known = cells[fitted_to].copy(), scvi.settings.seed
    scvi.settings.seed = seed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scvi.model.SCVI.setup_anndata(own, layer=layer)
            model = scvi.model.SCVI(own, n_latent=n_dimensions)
            quiet = {"enable_progress_bar": False, "accelerator": "cpu", "logger": False}
            model.train(max_epochs=max_epochs, batch_size=min(128, max(2, len(own) // 2)), **quiet)
            return np.asarray(model.get_latent_representation(cells.copy()))
    finally:
        scvi.settings.seed = known


class LatentModel(ShiftRule):
    """Shifts that are regressed on the mean representation of the controls of a context.

    A linear or ridge regression has the mean of a context's controls as input; a small network, one for each
    perturbation, has their cells, and its answers are averaged. It is scored on cells that it has not seen. The
    published average of DenAdel et al. is that of the scored cells themselves.
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        latent: str = "PCA",
        head: Head = "ridge",
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(adata, registry)
        self._latent, self._head, self._seed, self._latent_options = latent, head, seed, options
        self._cells_of: dict[str, np.ndarray] = {}
        self._answers: dict[tuple[str, ...], Callable[[np.ndarray], np.ndarray]] = {}
        self.init_params_ = self._get_init_params(locals())

    @property
    @override
    def _anchor_options(self) -> AnchorOptions:
        return AnchorOptions(kind="mean", spaces=("log1p",), shrinkage=0.0)

    @override
    def _fit(self, effects: GroupEffects) -> None:
        self.anchor = fit_anchor(effects, self._anchor_options, np.asarray(self._dispersion))
        adata, design = self.adata, self.design
        assert isinstance(adata, AnnData)
        layer = self.registry_["setup_args"]["layer"]
        known = self._training_mask(_keys.TRAIN, _keys.VALIDATION)
        latent = latent_of(adata, self._latent, known, layer=layer, seed=self._seed, **self._latent_options)
        latent = StandardScaler().fit(latent[known]).transform(latent)
        contexts = context_labels(frame(adata.obs), design).astype(str)
        control = design.control_cells(frame(adata.obs))
        self._cells_of = {name: latent[control & (contexts == name)] for name in np.unique(contexts[control])}

    @override
    def _shift(self, condition: Condition, context: str, before: np.ndarray) -> np.ndarray:
        rows = self._fitted.table.of_action(condition)
        if not rows.any():
            return self._shifts.mean(axis=0)
        if condition.parts not in self._answers:
            names = [str(name) for name in np.asarray(self._fitted.table.contexts, dtype=object)[rows]]
            inputs = [self._cells_of[name] for name in names]
            self._answers[condition.parts] = _answer(self._head, inputs, self._shifts[rows], self._seed)
        return self._answers[condition.parts](self._cells_of[context])


def _answer(head: Head, inputs: list[np.ndarray], shifts: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Fit the shift of one perturbation to the controls of its contexts."""
    mean = shifts.mean(axis=0)
    if len(inputs) < _FEWEST:
        return lambda cells: mean
    if head == "mlp":
        some = [cells[:_CELLS_PER_CONTEXT] for cells in inputs]
        target = np.repeat(shifts - mean, [len(cells) for cells in some], axis=0)
        network = MLPRegressor(hidden_layer_sizes=(32,), max_iter=200, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge
            network.fit(np.concatenate(some), target)
        return lambda cells: mean + network.predict(cells).mean(axis=0).ravel()
    fitted = RidgeCV(_PENALTIES) if head == "ridge" else LinearRegression()
    fitted.fit(np.stack([cells.mean(axis=0) for cells in inputs]), shifts)
    return lambda cells: fitted.predict(cells.mean(axis=0)[None])[0]


def parse_latent(name: str) -> dict[str, str] | None:
    """Return the representation and the head of a name such as ``"PCA + ridge"``; nothing where it is none."""
    latent, plus, head = (part.strip() for part in name.partition("+"))
    if not is_latent(latent):
        return None
    if plus and head not in HEADS:
        raise UnknownNameError("head", [head], HEADS, where="models")
    if not plus:
        raise OptionError(
            f"{latent!r} says nothing of perturbations by itself",
            where="models",
            remedy=f'Put a regression on it, "{latent} + ridge", or choose task="classification".',
        )
    return {"latent": latent, "head": head}
