"""The network of an exported predictor, in numpy: what it says of every cell, for conditions that are fixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from scipy.special import expit, softmax

_CELLS_AT_ONCE = 2048
_EPSILON = np.finfo(np.float32).eps  # of the norms, as in torch


class NetworkShape(msgspec.Struct, kw_only=True, frozen=True):
    """What is to be known of a network beside its weights."""

    set_size: int
    encoder_tokens: int  # 0 where the encoder is a plain one
    encoder_heads: tuple[int, int]  # of queries, and of keys
    heads: tuple[int, int]
    conditioning: Literal["seed", "cross"]
    predict: Literal["x", "v"]
    conversion: Literal["jit", "z0"]
    steps: int
    starts_moved: bool  # whether the network reads cells that the anchor has moved


def random_sets(n_cells: int, set_size: int, seed: int) -> Iterator[np.ndarray]:
    """Divide cells at random into sets of about equal size; yield some of them, all of one size, ``(S, N)``."""
    shuffled = np.random.default_rng(seed).permutation(n_cells)
    sets = np.array_split(shuffled, max(round(n_cells / set_size), 1))
    start = 0
    while start < len(sets):
        size = len(sets[start])
        stop = start
        while stop < len(sets) and len(sets[stop]) == size and (stop - start + 1) * size <= max(_CELLS_AT_ONCE, size):
            stop += 1
        yield np.stack(sets[start:stop])
        start = stop


@dataclass(frozen=True, slots=True, eq=False)
class ExportedNetwork:
    """A network that counts beside the anchor.

    Parameters
    ----------
    shape
        Its form.
    arrays
        Its weights under the names of :class:`transpert.nn.TransportNetwork`; of every population the encoded condition
        (``tokens``, ``vector``, ``strength``) and the weight beside the anchor (``gate``); components and the genes
        that are read (``selected``), where there are such.
    """

    shape: NetworkShape
    arrays: Mapping[str, np.ndarray]

    def join(self, cells: np.ndarray, shift: np.ndarray, place: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the mean shift of a population and the pattern over its cells ``(N, G)``, as SCALE joins them."""
        gate = float(self.arrays["gate"][place])
        if gate == 0:
            return shift, None
        start = shift if self.shape.starts_moved else None
        mean, pattern = self._shift(cells, start, place, seed)
        joined = (1 - gate) * shift + gate * self._among_all(mean, shift)
        return joined, (1 - gate) * joined + gate * self._among_all(pattern, joined)

    def _shift(
        self, cells: np.ndarray, start: np.ndarray | None, place: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean shift and shift of every cell, of the genes that the network writes."""
        moved = cells if start is None else np.maximum(cells + start.astype(np.float32), 0)
        parts = np.split(moved, range(_CELLS_AT_ONCE, len(moved), _CELLS_AT_ONCE))
        encoded = np.concatenate([self._encode(self._selected(part)) for part in parts])
        shift = np.zeros((len(cells), len(self.arrays["gene_scale"])), dtype=np.float32)
        for rows in random_sets(len(cells), self.shape.set_size, seed):
            before = self._fuse(encoded[rows])
            after = self._move(before, place)
            changed = self._units(after) - self._units(before)
            last = self.arrays[f"decoder.body.{self._layers('decoder.body')[-1]}.weight"]
            shift[rows.ravel()] = (changed @ (last * self.arrays["gene_scale"][:, None]).T).reshape(-1, len(last))
        mean = shift.mean(axis=0, dtype=np.float64)
        if "components.into" in self.arrays:
            mean, shift = self._to_genes(mean.astype(np.float32)).astype(np.float64), self._to_genes(shift)
        return (mean if start is None else mean + self._selected(start)), shift

    def _selected(self, values: np.ndarray) -> np.ndarray:
        """The genes that the network reads."""
        return values[..., self.arrays["selected"]] if "selected" in self.arrays else values

    def _among_all(self, values: np.ndarray, others: np.ndarray) -> np.ndarray:
        """What the network says of the genes it writes, among what is said of the others."""
        if "selected" not in self.arrays:
            return values
        full = np.broadcast_to(others, (*values.shape[:-1], len(others))).astype(values.dtype)
        full[..., self.arrays["selected"]] = values
        return full

    def _to_genes(self, change: np.ndarray) -> np.ndarray:
        """Map changes of components to changes of genes."""
        return (change @ self.arrays["components.into"].T) * self.arrays["components.back"]

    # --- the parts of the network -------------------------------------------------------------------------------

    def _encode(self, cells: np.ndarray) -> np.ndarray:
        """Map cells to vectors, every cell on its own."""
        if "components.into" in self.arrays:
            cells = cells @ self.arrays["components.into"] - self.arrays["components.offset"]
        read = (cells - self.arrays["input_mean"]) * self.arrays["input_scale"]
        n_tokens = self.shape.encoder_tokens
        if not n_tokens:
            return self._mlp("cells.body", read)
        tokens = self._linear("cells.patch", read).reshape(len(read), n_tokens, -1)
        for layer in self._layers("cells.body"):
            tokens = self._block(f"cells.body.{layer}", tokens, self.shape.encoder_heads)
        tokens = self._norm("cells.norm", tokens)
        return (softmax(self._linear("cells.pool", tokens), axis=1) * tokens).sum(axis=1)

    def _fuse(self, cells: np.ndarray) -> np.ndarray:
        """Let the cells of sets ``(S, N, d)`` know their set."""
        features = self._mlp("sets.phi", cells)
        if "sets.score.weight" in self.arrays:
            summary = (softmax(self._linear("sets.score", features), axis=1) * features).sum(axis=1)
        else:
            summary = features.mean(axis=1)
        summary = np.broadcast_to(self._mlp("sets.rho", summary)[:, None], cells.shape)
        return cells + self._mlp("sets.psi", np.concatenate([cells, summary], axis=-1))

    def _move(self, start: np.ndarray, place: int) -> np.ndarray:
        """Follow the flow in steps of Euler, as the network does."""
        shape, state = self.shape, start
        if self.arrays["strength"][place] <= 0:
            return start
        width = 1 / shape.steps
        for step in range(shape.steps):
            time = np.float32(step * width)
            output = self._field(time, state, place)
            if shape.predict == "x":
                remaining = np.maximum(1 - time, np.float32(1e-3))
                output = output - start if shape.conversion == "z0" else (output - state) / remaining
            state = state + np.float32(width) * output
        return state

    def _field(self, time: np.float32, cells: np.ndarray, place: int) -> np.ndarray:
        """Predict endpoint or velocity of the cells of sets ``(S, N, d)``."""
        vector = self.arrays["vector"][place] + self._mlp("field.time", np.full((1, 1), time, dtype=np.float32))
        tokens = np.broadcast_to(self.arrays["tokens"][place], (len(cells), *self.arrays["tokens"].shape[1:]))
        # one token of a seed stands for all, in the set
        is_seed, n_cells = self.shape.conditioning == "seed", cells.shape[1]
        state, context = (np.concatenate([cells, tokens], axis=1), None) if is_seed else (cells, tokens)
        for layer in self._layers("field.blocks"):
            state = self._block(f"field.blocks.{layer}", state, self.shape.heads, vector, context)
        change = self._linear("field.out", self._norm("field.norm", state[:, :n_cells]))
        change = change * self.arrays["strength"][place]
        return cells + change if self.shape.predict == "x" else change

    def _units(self, latent: np.ndarray) -> np.ndarray:
        """Return the layer before the genes."""
        return self._mlp("decoder.body", latent, last=False)

    def _block(
        self,
        name: str,
        tokens: np.ndarray,
        heads: tuple[int, int],
        vector: np.ndarray | None = None,
        context: np.ndarray | None = None,
    ) -> np.ndarray:
        """Attention and feed-forward of a transformer, modulated by a vector ``(1, d)``."""
        modulation = np.zeros((1, 1, 6), dtype=np.float32)
        if vector is not None:
            modulation = self._linear(f"{name}.modulation", _silu(vector))[:, None]
        scale, shift, gate, scale2, shift2, gate2 = np.split(modulation, 6, axis=-1)
        normed = self._norm(f"{name}.norm_attention", tokens) * (1 + scale) + shift
        tokens = tokens + (1 + gate) * self._attend(f"{name}.attention", normed, normed, heads)
        if context is not None and f"{name}.cross.query.weight" in self.arrays:
            tokens = tokens + self._attend(f"{name}.cross", self._norm(f"{name}.norm_cross", tokens), context, heads)
        normed = self._norm(f"{name}.norm_feed", tokens) * (1 + scale2) + shift2
        first, value = np.split(self._linear(f"{name}.feed.gate", normed), 2, axis=-1)
        return tokens + (1 + gate2) * self._linear(f"{name}.feed.out", _silu(first) * value)

    def _attend(self, name: str, tokens: np.ndarray, context: np.ndarray, heads: tuple[int, int]) -> np.ndarray:
        """Attend from tokens ``(B, T, d)`` to a context ``(B, U, d)``, several heads of queries to one of keys."""
        (batch, length, width), (n_heads, n_keys) = tokens.shape, heads
        query = self._linear(f"{name}.query", tokens).reshape(batch, length, n_keys, n_heads // n_keys, -1)
        both = self._linear(f"{name}.key_value", context).reshape(batch, context.shape[1], 2, n_keys, -1)
        key, value = both[:, :, 0], both[:, :, 1]
        rows = query.transpose(0, 2, 1, 3, 4).reshape(batch, n_keys, -1, query.shape[-1])
        shares = softmax(rows @ (key * np.float32(key.shape[-1] ** -0.5)).transpose(0, 2, 3, 1), axis=-1)
        attended = (shares @ value.transpose(0, 2, 1, 3)).reshape(batch, n_keys, length, n_heads // n_keys, -1)
        return self._linear(f"{name}.out", attended.transpose(0, 2, 1, 3, 4).reshape(batch, length, width))

    def _mlp(self, name: str, values: np.ndarray, *, last: bool = True) -> np.ndarray:
        """Apply layers, each but the last with a norm and SiLU behind it."""
        layers = self._layers(name)
        for layer in layers if last else layers[:-1]:
            if self.arrays[f"{name}.{layer}.weight"].ndim == 2:
                values = self._linear(f"{name}.{layer}", values)
            else:
                values = _silu(self._norm(f"{name}.{layer}", values))
        return values

    def _layers(self, name: str) -> list[int]:
        """Return the numbers of the layers below a name."""
        found = {key.removeprefix(f"{name}.").split(".")[0] for key in self.arrays if key.startswith(f"{name}.")}
        return sorted(map(int, found))

    def _linear(self, name: str, values: np.ndarray) -> np.ndarray:
        product = values @ self.arrays[f"{name}.weight"].T
        bias = self.arrays.get(f"{name}.bias")
        return product if bias is None else product + bias

    def _norm(self, name: str, values: np.ndarray) -> np.ndarray:
        square = np.mean(values * values, axis=-1, keepdims=True) + _EPSILON
        return values / np.sqrt(square) * self.arrays[f"{name}.weight"]


def _silu(values: np.ndarray) -> np.ndarray:
    return values * expit(values)
