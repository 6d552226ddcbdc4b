"""Where the cells of a study come from: an AnnData, or a store of which each run reads its own cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.decomposition import TruncatedSVD

from transpert import _keys
from transpert._anndata import frame
from transpert._counts import log1p_per_10k
from transpert._matrices import check_there
from transpert.data import Store
from transpert.errors import OptionError, UnknownNameError
from transpert.groups import Design

from .digests import digest, digest_of_cells

OBSM_PREFIX = "X_"  # of the names of representations that are kept in obsm
_COMPONENTS = 20  # principal components, for sketches and diversity
_FITTED_TO = 20_000  # cells of a store from which components are learned
_BLOCK = 20_000  # cells of a store that are read at once


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """Cells of an AnnData."""

    adata: AnnData

    @property
    def obs(self) -> pd.DataFrame:
        return frame(self.adata.obs)

    @property
    def names(self) -> np.ndarray:
        return self.adata.obs_names.to_numpy(dtype=str)

    def take(self, rows: np.ndarray) -> AnnData:
        """Return some of the cells."""
        return self.adata[rows].copy()

    def digest(self, design: Design, layer: str | None) -> str:
        """Return a digest of counts, genes and labels."""
        return digest_of_cells(self.adata, design, layer)

    def digest_of_latent(self, name: str) -> str:
        """Return a digest of a representation that is kept in ``obsm``."""
        if name.startswith(OBSM_PREFIX) and name not in self.adata.obsm:
            raise UnknownNameError("representation", [name], map(str, self.adata.obsm), where="obsm")
        return digest(np.asarray(self.adata.obsm[name])) if name in self.adata.obsm else ""

    def points(self) -> np.ndarray:
        """Return principal components of the cells, those that are there or new ones."""
        if _keys.PCA in self.adata.obsm:
            return np.asarray(self.adata.obsm[_keys.PCA])[:, :_COMPONENTS]
        check_there(self.adata.X, where="X")
        return _components(self.adata).fit_transform(self.adata.X)


@dataclass(frozen=True, slots=True, eq=False)
class InStore:
    """Cells of a store, whose counts are read when a run needs them."""

    path: Path
    obs: pd.DataFrame
    fingerprint: str
    layer: str | None

    @classmethod
    def of(cls, store: Store, layer: str | None) -> InStore:
        """Take the annotation of a store, with the split that was written into it."""
        if layer is None:
            raise OptionError("a store has raw counts alone", where="layer", remedy="Leave layer= out.")
        return cls(store.path, frame(store.annotation.obs), store.fingerprint, layer)

    @property
    def names(self) -> np.ndarray:
        return self.obs.index.to_numpy(dtype=str)

    def take(self, rows: np.ndarray) -> AnnData:
        """Read some of the cells, and normalise them."""
        read = Store(self.path).to_anndata(np.asarray(rows))
        obs = self.obs.iloc[rows]
        values = log1p_per_10k(read.X, obs[_keys.LIBRARY_SIZE].to_numpy(dtype=float))
        return AnnData(values, obs=obs.copy(), var=frame(read.var), layers={str(self.layer): read.X})

    def digest(self, design: Design, layer: str | None) -> str:
        """Return a digest of the store and of the labels."""
        return digest(self.fingerprint, *(self.obs[name].astype(str).to_numpy(dtype=str) for name in design.columns))

    def digest_of_latent(self, name: str) -> str:
        """Return nothing, and refuse what would have to be kept in ``obsm``, which a store has not."""
        if name.startswith(OBSM_PREFIX):
            raise OptionError(f"a store holds no {name!r}", where="models", remedy="Give an AnnData.")
        return ""

    def points(self) -> np.ndarray:
        """Return principal components of the cells, learned from some of them."""
        n = len(self.obs)
        some = np.sort(np.random.default_rng(0).permutation(n)[:_FITTED_TO])
        cells = self.take(some)
        fitted = _components(cells).fit(cells.X)
        blocks = [np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
        return np.concatenate([fitted.transform(self.take(rows).X) for rows in blocks])


type Source = InMemory | InStore


def _components(adata: AnnData) -> TruncatedSVD:
    """Return the components that are to be learned."""
    return TruncatedSVD(max(1, min(_COMPONENTS, adata.n_vars - 1)), random_state=0)
