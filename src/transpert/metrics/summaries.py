"""All populations of a prediction at once: what a metric that compares perturbations is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transpert._signatures import as_annotated
from transpert.errors import MetricInputError, check_known, list_names

from .comparison import Comparison


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """The values of one comparison that are kept after its cells are released.

    Parameters
    ----------
    perturbation, context
        Its labels.
    targets
        Columns of the genes that the perturbation acts on.
    values
        Arrays or numbers by the name of the attribute of :class:`Comparison` they come from.
    """

    perturbation: str
    context: str
    targets: tuple[int, ...]
    values: Mapping[str, np.ndarray | float]


@as_annotated(error=MetricInputError)
def summarise(comparison: Comparison, needs: Iterable[str]) -> Summary:
    """Keep only the named attributes of a comparison.

    Parameters
    ----------
    comparison
        A predicted population and its truth.
    needs
        Names of attributes: the union of ``needs`` over the metrics that are to be computed.

    Returns
    -------
    Arrays and numbers, no cells.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import Comparison, summarise
    >>> cells, controls = np.array([[1.0, 2.0], [3.0, 2.0]]), np.zeros((2, 2))
    >>> summarise(Comparison(cells, cells, controls), ["mean_real"]).values["mean_real"].tolist()
    [2.0, 2.0]
    """
    wanted, known = sorted(set(needs)), [name for name in dir(comparison) if not name.startswith("_")]
    check_known("value of a comparison", wanted, known, where="needs")
    values = {name: getattr(comparison, name) for name in wanted}
    return Summary(comparison.perturbation, comparison.context, comparison.targets, values)


@dataclass(frozen=True, slots=True, eq=False)
class Summaries:
    """Summaries of all populations of one prediction, stacked.

    Parameters
    ----------
    perturbation, context : (P,)
        Labels of the populations.
    targets
        For each population, the columns of the genes that its perturbation acts on.
    values
        Arrays with ``P`` rows, by name.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import Comparison, Summaries, summarise
    >>> rng = np.random.default_rng(0)
    >>> comparisons = [Comparison(*rng.random((3, 9, 4)), perturbation=name) for name in "ab"]
    >>> summaries = Summaries.gather([summarise(comparison, ["mean_real"]) for comparison in comparisons])
    >>> summaries["mean_real"].shape
    (2, 4)
    """

    perturbation: np.ndarray
    context: np.ndarray
    targets: tuple[tuple[int, ...], ...]
    values: Mapping[str, np.ndarray]

    @classmethod
    def gather(cls, summaries: Sequence[Summary]) -> Summaries:
        """Stack summaries.

        Raises
        ------
        transpert.errors.MetricInputError
            If there are none, two are of the same perturbation in the same context, or they hold different values.
        """
        if not summaries:
            raise MetricInputError(
                "there is no population to compare", where="the summaries", remedy="Give at least one summary."
            )
        keys = [(summary.context, summary.perturbation) for summary in summaries]
        twice = [" / ".join(key) for key, number in Counter(keys).items() if number > 1]
        if twice:
            raise MetricInputError(
                f"populations are there more than once: {list_names(twice)}",
                where="the summaries",
                remedy="Give every population once.",
            )
        names = set(summaries[0].values)
        if any(set(summary.values) != names for summary in summaries):
            raise MetricInputError(
                "the summaries hold different values",
                where="the summaries",
                remedy="Summarise all populations with the same needs.",
            )
        try:
            values = {name: np.stack([np.asarray(s.values[name]) for s in summaries]) for name in sorted(names)}
        except ValueError as error:
            raise MetricInputError(
                "the populations have different numbers of genes",
                where="the summaries",
                remedy="Align the genes by name: transpert.pp.align_genes.",
            ) from error
        return cls(
            np.array([summary.perturbation for summary in summaries], dtype=object),
            np.array([summary.context for summary in summaries], dtype=object),
            tuple(summary.targets for summary in summaries),
            values,
        )

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the rows of one value."""
        if name not in self.values:
            raise MetricInputError(
                f"{name!r} was not kept",
                where="the summaries",
                remedy="Summarise with the needs of every metric to compute.",
            )
        return self.values[name]

    @property
    def contexts(self) -> list[str]:
        """The contexts, in order of appearance."""
        return list(dict.fromkeys(self.context))

    def rows(self, context: str) -> np.ndarray:
        """Return the rows of a context."""
        return np.flatnonzero(self.context == context)

    def each(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Apply a function of the rows of one context to each context: one value a population."""
        result = np.full(len(self.context), np.nan)
        for context in self.contexts:
            rows = self.rows(context)
            result[rows] = function(rows)
        return result

    def one(self, function: Callable[[np.ndarray], float]) -> np.ndarray:
        """Apply a function of the rows of one context to each context: one value a context."""
        return np.array([function(self.rows(context)) for context in self.contexts], dtype=float)
